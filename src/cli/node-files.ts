/** What `init` and `join` write on a node: its certificate, and the agent's configuration. */
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join, resolve } from "node:path";
import type { Command } from "commander";
import { stringify } from "yaml";
import { OperatingError } from "../kernel/failure.ts";
import { print, printJson } from "./output.ts";

export interface NodeOptions {
  name: string;
  /** Absent: found out. */
  listen?: string;
  port: string;
  directory: string;
  json?: boolean;
}

export function nodeOptions(command: Command): Command {
  const own = hostname().toLowerCase().split(".")[0]!;
  return command
    .option("--name <name>", "this node's name", own)
    .option("--listen <ip>", "the address under which the other nodes reach it")
    .option("--port <port>", "of the agent's API", "7700")
    .option("--directory <path>", "where its configuration and keys are written", "/etc/understudy")
    .option("--json", "print one JSON document");
}

export function filesOf(directory: string) {
  const root = resolve(directory);
  const tls = join(root, "tls");
  return {
    authority: join(root, "ca"),
    configuration: join(root, "agent.yaml"),
    tlsDirectory: tls,
    tls: { ca: join(tls, "ca.crt"), certificate: join(tls, "node.crt"), key: join(tls, "node.key") },
  };
}

/** A node that is one already is not made another by mistake. @throws OperatingError `node-exists` */
export function checkNew(directory: string): void {
  const { configuration } = filesOf(directory);
  if (!existsSync(configuration)) return;
  throw new OperatingError("node-exists", `This machine is a node already: there is "${configuration}"`, {
    remedy: "Remove it, and its tls directory, if the node shall be made anew.",
  });
}

export async function writeConfiguration(
  { name, port, directory }: NodeOptions,
  host: string,
  more: { store: string; authority?: string },
): Promise<void> {
  const { configuration, tls } = filesOf(directory);
  const text = stringify({ name, listen: { host, port: Number(port) }, tls, ...more });
  await mkdir(resolve(directory), { recursive: true });
  await writeFile(configuration, text, { mode: 0o600, flag: "wx" });
}

export function tell({ name, json, directory }: NodeOptions, what: string, next: string): void {
  const { configuration } = filesOf(directory);
  if (json) printJson({ name, configuration });
  else print(`${what}\nStart its agent: understudy agent --config ${configuration}\n${next}`);
}
