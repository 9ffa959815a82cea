/** `understudy events`: what happened, on all nodes. */
import type { Command } from "commander";
import type { AgentEvent } from "../agent/events.ts";
import { print, printJson } from "./output.ts";
import { type RemoteOptions, remoteCommand, withAgent } from "./remote.ts";

interface Options extends RemoteOptions {
  follow?: boolean;
  application?: string;
}

export function registerEvents(program: Command): void {
  remoteCommand(program, "events [name]", "what happened on all nodes, or with --node asked there")
    .option("-f, --follow", "go on as more happens (with --json: a document a line)")
    .option("--application <name>", "of this application only, as NAME")
    .action(async (name: string | undefined, options: Options) => {
      const query = new URLSearchParams();
      const application = name ?? options.application;
      if (application !== undefined) query.set("application", application);
      if (options.node !== undefined) query.set("scope", "node");
      if (options.follow) return follow(query, options);
      const events = await withAgent(options, (agent) => agent.json<AgentEvent[]>("GET", `/v1/events?${query}`));
      if (options.json) printJson({ events });
      else print(events.length === 0 ? "No events." : events.map(eventLine).join("\n"));
    });
}

async function follow(query: URLSearchParams, options: Options): Promise<void> {
  query.set("follow", "1");
  const abort = new AbortController();
  process.once("SIGINT", () => abort.abort()).once("SIGTERM", () => abort.abort());
  await withAgent(options, async (agent) => {
    try {
      for await (const event of agent.lines<AgentEvent>("GET", `/v1/events?${query}`, { signal: abort.signal })) {
        print(options.json ? JSON.stringify(event) : eventLine(event));
      }
    } catch (error) {
      // An interrupt is how following ends.
      if (!abort.signal.aborted) throw error;
    }
  });
}

function eventLine({ at, node, kind, message }: AgentEvent): string {
  return `${at}  ${node}  ${kind}  ${message}`;
}
