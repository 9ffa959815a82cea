/** What all commands that ask an agent have in common. */
import type { Command } from "commander";
import { type Connection, connectAgent } from "./connect.ts";

export interface RemoteOptions {
  json?: boolean;
  node?: string;
}

/** A command with `--json` and `--node`. */
export function remoteCommand(program: Command, usage: string, description: string): Command {
  return program
    .command(usage)
    .description(description)
    .option("--node <node>", "the agent to ask: a node's name, LAB/NODE, a socket's path or an https URL")
    .option("--json", "print one JSON document");
}

/** Runs `work` with a connection that is closed afterwards. */
export async function withAgent<T>(options: RemoteOptions, work: (agent: Connection) => Promise<T>): Promise<T> {
  const agent = await connectAgent(options.node);
  try {
    return await work(agent);
  } finally {
    agent.close();
  }
}
