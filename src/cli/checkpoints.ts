/** `understudy checkpoints NAME`: the checkpoints that are held. `understudy checkpoint NAME`: one more, now. */
import type { Command } from "commander";
import type { CheckpointSummary } from "../agent/api-types.ts";
import { bytes, milliseconds, print, printJson } from "./output.ts";
import { patiently } from "./progress.ts";
import { type RemoteOptions, remoteCommand, withAgent } from "./remote.ts";
import { table } from "./table.ts";

const pathOf = (name: string) => `/v1/applications/${encodeURIComponent(name)}/checkpoints`;

export function registerCheckpoints(program: Command): void {
  remoteCommand(program, "checkpoints <name>", "the checkpoints held, with stop time, pages, bytes, times").action(
    async (name: string, options: RemoteOptions) => {
      const checkpoints = await withAgent(options, (agent) => agent.json<CheckpointSummary[]>("GET", pathOf(name)));
      if (options.json) return printJson({ checkpoints });
      print(checkpoints.length === 0 ? "No checkpoints." : checkpointsTable(checkpoints));
    },
  );
}

export function registerCheckpoint(program: Command): void {
  remoteCommand(program, "checkpoint <name>", "take a checkpoint now and wait until it is safe").action(
    async (name: string, options: RemoteOptions) => {
      const asked = withAgent(options, (agent) => agent.json<CheckpointSummary>("POST", pathOf(name)));
      const checkpoint = await patiently(`Taking a checkpoint of "${name}"`, asked);
      if (options.json) printJson(checkpoint);
      else print(checkpointsTable([checkpoint]));
    },
  );
}

function checkpointsTable(checkpoints: readonly CheckpointSummary[]): string {
  const rows = checkpoints.map(({ epoch, term, at, stopUs, commitUs, pages, bytes: size }) => [
    String(epoch),
    String(term),
    at,
    milliseconds(stopUs),
    commitUs === undefined ? "-" : milliseconds(commitUs),
    String(pages),
    bytes(size),
  ]);
  return table(["epoch", "term", "at", "stop", "commit", "pages", "bytes"], rows);
}
