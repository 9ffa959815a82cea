/** `understudy status [NAME]`: one application in full, or all in short. */
import type { Command } from "commander";
import type { ApplicationReport } from "../agent/api-types.ts";
import { applicationText } from "./application-text.ts";
import { print, printJson } from "./output.ts";
import { listApplications } from "./ps.ts";
import { type RemoteOptions, remoteCommand, withAgent } from "./remote.ts";

export function registerStatus(program: Command): void {
  remoteCommand(program, "status [name]", "an application's state: term, standbys, lag, stop time").action(
    async (name: string | undefined, options: RemoteOptions) => {
      if (name === undefined) return listApplications(options);
      const path = `/v1/applications/${encodeURIComponent(name)}`;
      const report = await withAgent(options, (agent) => agent.json<ApplicationReport>("GET", path));
      if (options.json) printJson(report);
      else print(applicationText(report));
    },
  );
}
