/** `understudy tree NAME`: what an application consists of, who shares what, what it leans on outside; or how that changes. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import { OperatingError } from "../kernel/failure.ts";
import { changeText, graphChange } from "../tree/diff.ts";
import type { Graph } from "../tree/graph.ts";
import { treeDot, treeText } from "../tree/render.ts";
import type { Connection } from "./connect.ts";
import { print, printJson, say } from "./output.ts";
import { type RemoteOptions, remoteCommand, withAgent } from "./remote.ts";

type Options = RemoteOptions & { dot?: boolean; watch?: boolean };

/** An idle application's checkpoints are as far apart. */
const LOOK_AGAIN_MS = 200;
/** While it moves to another node nobody can tell. */
const MOVING = new Set(["not-primary", "no-checkpoint", "no-instance", "primary-unreachable", "instance-gone"]);
const ENDED = new Set(["application-ended", "application-unknown"]);

export function registerTree(program: Command): void {
  remoteCommand(program, "tree <name>", "what an application consists of, as of its last checkpoint")
    .option("--dot", "print a graph for Graphviz")
    .option("-w, --watch", "go on as it changes (with --json: the graph, then a document for each change, one a line)")
    .action(async (name: string, options: Options) => {
      if (options.dot && (options.json || options.watch))
        throw new OperatingError("usage", "Say --dot alone, without --json and --watch");
      await withAgent(options, (agent) => (options.watch ? watch(agent, name, options) : once(agent, name, options)));
    });
}

const ask = (agent: Connection, name: string) =>
  agent.json<Graph>("GET", `/v1/applications/${encodeURIComponent(name)}/tree`);

async function once(agent: Connection, name: string, options: Options): Promise<void> {
  const graph = await ask(agent, name);
  if (options.json) printJson(graph);
  else print(options.dot ? treeDot(graph) : treeText(graph));
}

/** Until interrupted, or until the application has ended. */
async function watch(agent: Connection, name: string, { json }: Options): Promise<void> {
  const abort = new AbortController();
  process.once("SIGINT", () => abort.abort()).once("SIGTERM", () => abort.abort());
  let last = await ask(agent, name);
  print(json ? JSON.stringify(last) : treeText(last));
  while (!abort.signal.aborted) {
    await sleep(LOOK_AGAIN_MS, undefined, { signal: abort.signal }).catch(() => {});
    const now = await orState(() => ask(agent, name));
    if (now === "moving") continue;
    if (now === "ended") return say(`"${name}" has ended.`);
    const change = graphChange(last, now);
    last = now;
    if (change !== undefined) print(json ? JSON.stringify(change) : changeText(change));
  }
}

async function orState(look: () => Promise<Graph>): Promise<Graph | "moving" | "ended"> {
  try {
    return await look();
  } catch (error) {
    if (error instanceof OperatingError && MOVING.has(error.code)) return "moving";
    if (error instanceof OperatingError && ENDED.has(error.code)) return "ended";
    throw error;
  }
}
