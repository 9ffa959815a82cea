/** `understudy drain`, `undrain`, `balance`: moving applications between nodes while their clients notice nothing. */
import type { Command } from "commander";
import type { BalanceResult, DrainProgress, DrainResult, StreamLine } from "../agent/api-types.ts";
import { fromFailure, OperatingError } from "../kernel/failure.ts";
import type { Connection } from "./connect.ts";
import { print, printJson, say } from "./output.ts";
import { type RemoteOptions, remoteCommand, withAgent } from "./remote.ts";
import { table } from "./table.ts";

export function registerDrain(program: Command): void {
  remoteCommand(program, "drain <name>", "empty a node for maintenance: its applications go on elsewhere").action(
    async (name: string, options: RemoteOptions) => {
      const path = `/v1/nodes/${encodeURIComponent(name)}/drain`;
      const result = await withAgent(options, (agent) => follow<DrainResult>(agent, path, {}));
      if (options.json) return printJson(result);
      const moved = result.moved.map(({ application, to }) => `${application} → ${to}`).join(", ");
      print(`"${name}" is empty${moved === "" ? "" : `: ${moved}`}. Take it back with: understudy undrain ${name}`);
    },
  );
  remoteCommand(program, "undrain <name>", "let a node hold applications again").action(
    async (name: string, options: RemoteOptions) => {
      await withAgent(options, (agent) => agent.json("DELETE", `/v1/nodes/${encodeURIComponent(name)}/drain`));
      if (options.json) return printJson({});
      print(`"${name}" may hold applications again.`);
    },
  );
}

export function registerBalance(program: Command): void {
  remoteCommand(program, "balance", "share the load: move applications from full nodes to their standbys")
    .option("--dry-run", "only print the plan")
    .action(async (options: RemoteOptions & { dryRun?: boolean }) => {
      const body = { dryRun: options.dryRun ?? false };
      const { plan, done } = await withAgent(options, (agent) => follow<BalanceResult>(agent, "/v1/balance", body));
      if (options.json) return printJson({ plan, done });
      if (plan.length === 0) return print("No node is much fuller than the others.");
      const percent = ([from, to]: [number, number]) => `${Math.round(100 * from)} % / ${Math.round(100 * to)} %`;
      const made = new Set(done.map(({ application }) => application));
      const rows = plan.map(({ application, from, to, before, after }) => {
        const state = options.dryRun ? "planned" : made.has(application) ? "moved" : "not moved";
        return [application, from, to, percent(before), percent(after), state];
      });
      print(table(["application", "from", "to", "used before", "after", ""], rows));
    });
}

async function follow<T>(agent: Connection, path: string, body: object): Promise<T> {
  for await (const line of agent.lines<StreamLine<T, DrainProgress>>("POST", path, { body })) {
    if ("progress" in line) say(line.progress.message);
    else if ("error" in line) throw fromFailure(line.error);
    else return line.result;
  }
  throw new OperatingError("node-unreachable", "The agent ended before it answered", {
    remedy: "See how far it came: understudy nodes",
  });
}
