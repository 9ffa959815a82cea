/** `understudy switch NAME`: the application goes on on another node. */
import { type Command, InvalidArgumentError } from "commander";
import type { SwitchRequest, SwitchResult } from "../agent/api-types.ts";
import { print, printJson } from "./output.ts";
import { patiently } from "./progress.ts";
import { type RemoteOptions, remoteCommand, withAgent } from "./remote.ts";

interface Options extends RemoteOptions, SwitchRequest {}

export function registerSwitch(program: Command): void {
  remoteCommand(program, "switch <name>", "let the application go on on another node")
    .option("--to <node>", "where (default: the standby with the least lag)")
    .option("--checkpoint <epoch>", "from this checkpoint, which the standby holds", epoch)
    .option("--force", "also without the primary")
    .action(async (name: string, options: Options) => {
      const { to, checkpoint, force } = options;
      const body: SwitchRequest = {
        ...(to !== undefined && { to }),
        ...(checkpoint !== undefined && { checkpoint }),
        ...(force !== undefined && { force }),
      };
      const path = `/v1/applications/${encodeURIComponent(name)}/switch`;
      const asked = withAgent(options, (agent) => agent.json<SwitchResult>("POST", path, { body }));
      const result = await patiently(`Switching "${name}"`, asked);
      if (options.json) return printJson(result);
      const stop = result.stopMs === null ? "" : `, stopped for ${result.stopMs.toFixed(1)} ms`;
      print(`"${name}" runs on ${result.to} now, before on ${result.from}: term ${result.term}${stop}.`);
    });
}

function epoch(value: string): number {
  if (!/^\d+$/.test(value)) throw new InvalidArgumentError("Give an epoch, as understudy checkpoints shows it.");
  return Number(value);
}
