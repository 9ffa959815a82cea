/** `understudy ps`: what runs where. */
import type { Command } from "commander";
import type { ApplicationReport } from "../agent/api-types.ts";
import { applicationsTable } from "./application-text.ts";
import { print, printJson } from "./output.ts";
import { type RemoteOptions, remoteCommand, withAgent } from "./remote.ts";

export function registerPs(program: Command): void {
  remoteCommand(program, "ps", "list applications: what runs where").action(listApplications);
}

export async function listApplications(options: RemoteOptions): Promise<void> {
  const applications = await withAgent(options, (agent) => agent.json<ApplicationReport[]>("GET", "/v1/applications"));
  if (options.json) printJson({ applications });
  else print(applicationsTable(applications));
}
