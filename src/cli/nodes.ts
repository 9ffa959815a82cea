/** `understudy nodes`: the nodes of the cluster. */
import type { Command } from "commander";
import type { NodeReport } from "../agent/api-types.ts";
import { print, printJson } from "./output.ts";
import { type RemoteOptions, remoteCommand, withAgent } from "./remote.ts";
import { table } from "./table.ts";

export function registerNodes(program: Command): void {
  remoteCommand(program, "nodes", "list nodes: which are up, what they hold").action(async (options: RemoteOptions) => {
    const nodes = await withAgent(options, (agent) => agent.json<NodeReport[]>("GET", "/v1/nodes"));
    if (options.json) return printJson({ nodes });
    const rows = nodes.map(({ name, alive, api, primaryOf, standbyOf, drained }) => [
      name,
      `${alive ? "up" : "down"}${drained ? ", drained" : ""}`,
      api,
      primaryOf.join(", "),
      standbyOf.join(", "),
    ]);
    print(table(["node", "agent", "api", "primary of", "standby of"], rows));
  });
}
