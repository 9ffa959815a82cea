/** `understudy audit`: who did what. */
import type { Command } from "commander";
import type { AuditEntry } from "../agent/api-types.ts";
import { print, printJson } from "./output.ts";
import { type RemoteOptions, remoteCommand, withAgent } from "./remote.ts";
import { table } from "./table.ts";

interface Options extends RemoteOptions {
  user?: string;
}

export function registerAudit(program: Command): void {
  remoteCommand(program, "audit", "who asked for which change, and what came of it; with --node asked there")
    .option("--user <name>", "of this user only, as the list shows it")
    .action(async (options: Options) => {
      const scope = options.node === undefined ? "" : "?scope=node";
      const all = await withAgent(options, (agent) => agent.json<AuditEntry[]>("GET", `/v1/audit${scope}`));
      const entries = all.filter(({ user }) => options.user === undefined || user === options.user);
      if (options.json) return printJson({ audit: entries });
      const rows = entries.map(({ at, user, node, request, result }) => [
        at,
        user,
        node,
        request,
        result ?? "(no end)",
      ]);
      print(entries.length === 0 ? "Nothing was asked for." : table(["at", "user", "node", "request", "result"], rows));
    });
}
