/** `understudy stop NAME`: ends the application, everywhere. */
import type { Command } from "commander";
import { print, printJson } from "./output.ts";
import { patiently } from "./progress.ts";
import { type RemoteOptions, remoteCommand, withAgent } from "./remote.ts";

export function registerStop(program: Command): void {
  remoteCommand(program, "stop <name>", "end the application, everywhere")
    .option("--force", "also when its primary does not answer")
    .action(async (name: string, options: RemoteOptions & { force?: boolean }) => {
      const path = `/v1/applications/${encodeURIComponent(name)}${options.force ? "?force=true" : ""}`;
      const asked = withAgent(options, (agent) => agent.json<{ application: string }>("DELETE", path));
      const result = await patiently(`Stopping "${name}"`, asked);
      if (options.json) printJson(result);
      else print(`"${name}" is stopped.`);
    });
}
