/** `understudy tree NAME`: what an application consists of, who shares what, what it leans on outside. */
import type { Command } from "commander";
import { OperatingError } from "../kernel/failure.ts";
import type { Graph } from "../tree/graph.ts";
import { treeDot, treeText } from "../tree/render.ts";
import { print, printJson } from "./output.ts";
import { type RemoteOptions, remoteCommand, withAgent } from "./remote.ts";

type Options = RemoteOptions & { dot?: boolean };

export function registerTree(program: Command): void {
  remoteCommand(program, "tree <name>", "what an application consists of, as of its last checkpoint")
    .option("--dot", "print a graph for Graphviz")
    .action(async (name: string, options: Options) => {
      if (options.json && options.dot) throw new OperatingError("usage", "Say --json or --dot, not both");
      const path = `/v1/applications/${encodeURIComponent(name)}/tree`;
      const graph = await withAgent(options, (agent) => agent.json<Graph>("GET", path));
      if (options.json) printJson(graph);
      else print(options.dot ? treeDot(graph) : treeText(graph));
    });
}
