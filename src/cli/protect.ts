/** `understudy protect`: starts an application under protection. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { ApplicationReport, ProtectRequest, StreamLine } from "../agent/api-types.ts";
import type { ApplicationInput, Volume } from "../cluster/application.ts";
import type { RestartStep } from "../cluster/spec.ts";
import { fromFailure, OperatingError } from "../kernel/failure.ts";
import type { Connection } from "./connect.ts";
import { print, printJson, say } from "./output.ts";
import { ProtectProgressPrinter } from "./progress.ts";
import { type RemoteOptions, remoteCommand, withAgent } from "./remote.ts";

interface Options extends RemoteOptions {
  name?: string;
  address?: string;
  gateway?: string;
  standby?: string[];
  standbys?: number;
  balance?: "manual" | "auto";
  restart?: RestartStep[];
  health?: ProbeInput;
  minInSync?: number;
  onTooFew?: "continue" | "hold";
  commit?: "checkpoint" | "none";
  period?: number | "auto";
  keep?: number;
  onUnprotectable?: "hold" | "warn";
  syncLimit?: number;
  volume?: Volume[];
  durable?: true;
  disk?: string;
  env?: Record<string, string>;
  directory?: string;
  file?: string;
  wait: boolean;
}

type ProbeInput = NonNullable<ApplicationInput["health"]>;

const UNDO_WAIT_MS = 15_000;
const UNDO_POLL_MS = 100;

export function registerProtect(program: Command): void {
  remoteCommand(program, "protect [command...]", "start an application under protection: protect [options] -- COMMAND…")
    .option("--name <name>", "what it shall be called")
    .option("--address <ip/length>", "its own service address, such as 10.77.0.10/24")
    .option("--gateway <ip>", "its default gateway")
    .option("--standby <node...>", "nodes that shall hold a clone", collect)
    .option("--standbys <count>", "how many clones there shall be, on nodes that the cluster chooses", wholeNumber)
    .option("--min-in-sync <count>", "standbys that shall be in sync at least", wholeNumber)
    .addOption(new Option("--on-too-few <policy>", "its output with fewer in sync").choices(["continue", "hold"]))
    .addOption(new Option("--commit <policy>", "when output may leave").choices(["checkpoint", "none"]))
    .option("--period <ms>", "milliseconds between checkpoints, or auto", period)
    .option("--keep <count>", "checkpoints that a standby keeps", wholeNumber)
    .addOption(
      new Option("--on-unprotectable <policy>", "its output, when it begins to use what cannot be copied").choices([
        "hold",
        "warn",
      ]),
    )
    .option("--sync-limit <bytes>", "bytes per second of first copies, such as 50M; 0: no limit", byteCount)
    .option(
      "--volume <path=directory...>",
      "a real directory of each node, or PATH=scratch: space not replicated",
      volume,
    )
    .addOption(
      new Option(
        "--balance <who>",
        "who moves it from a full node: only understudy balance, or also the cluster",
      ).choices(["manual", "auto"]),
    )
    .option(
      "--restart <step...>",
      "what it goes on from when it crashes or hangs: newest, older, cold, one after the other",
      restartSteps,
    )
    .option("--health <probe>", "how a hang is noticed: tcp:PORT, http:PORT/PATH or exec:COMMAND", probe)
    .option("--durable", "a standby's disk has a checkpoint before it is acknowledged")
    .option("--disk <size>", "a file system of its own for its files, such as 10G: inode numbers stay in a switch")
    .option("--env <name=value...>", "a variable of its environment", variable)
    .option("--directory <path>", "its working directory (default: /)")
    .option("-f, --file <file>", "a YAML file with all this (docs/app.yaml is the reference)")
    .option("--no-wait", "do not wait until the standbys are in sync")
    .action((command: string[], options: Options) => run(command, options));
}

async function run(command: string[], options: Options): Promise<void> {
  const request = await requestOf(command, options);
  const report = await withAgent(options, (agent) => ask(agent, request));
  if (options.json) return printJson(report);
  const more = report.missing > 0 ? `, ${report.missing} more to come` : "";
  const standbys = (report.inSync.length > 0 ? `, in sync on ${report.inSync.join(", ")}` : "") + more;
  print(`"${report.name}" runs on ${report.primary} under ${report.address}${standbys}.`);
  if (report.wanted.length === 0) say("It has no standby: its checkpoints protect it from nothing yet.");
}

async function requestOf(command: string[], options: Options): Promise<ProtectRequest> {
  const { name, address, gateway, standby, minInSync, onTooFew, commit, period, keep } = options;
  const {
    env,
    directory,
    file,
    wait,
    onUnprotectable,
    syncLimit,
    volume,
    durable,
    disk,
    standbys,
    balance,
    restart,
    health,
  } = options;
  const fromFile = file === undefined ? {} : await (await import("./application-file.ts")).readPartialApplication(file);
  const given = {
    ...(command.length > 0 && { command }),
    ...(name !== undefined && { name }),
    ...(address !== undefined && { address }),
    ...(gateway !== undefined && { gateway }),
    ...(standby !== undefined && { standby }),
    ...(minInSync !== undefined && { minInSync }),
    ...(onTooFew !== undefined && { onTooFew }),
    ...(commit !== undefined && { commit }),
    ...(period !== undefined && { period }),
    ...(keep !== undefined && { keep }),
    ...(onUnprotectable !== undefined && { onUnprotectable }),
    ...(syncLimit !== undefined && { syncLimit }),
    ...(standbys !== undefined && { placement: { ...fromFile.placement, standbys } }),
    ...(balance !== undefined && { balance }),
    ...(restart !== undefined && { restart: { ...fromFile.restart, on: "failure" as const, steps: restart } }),
    ...(health !== undefined && { health: { ...fromFile.health, ...health } }),
    ...(volume !== undefined && { volumes: volume }),
    ...(durable !== undefined && { durable }),
    ...(disk !== undefined && { disk }),
    ...(env !== undefined && { environment: { ...fromFile.environment, ...env } }),
    ...(directory !== undefined && { workingDirectory: directory }),
    wait,
  };
  const request = { ...fromFile, ...given };
  for (const [key, option] of [
    ["name", "--name"],
    ["address", "--address"],
    ["command", "-- COMMAND"],
  ] as const) {
    if (request[key] === undefined)
      throw new OperatingError("usage", `Say ${option}`, { remedy: "See: understudy protect --help" });
  }
  return request as ProtectRequest;
}

/** An interrupt undoes: the agent sees the request's end and takes everything back; we wait until it has. */
async function ask(agent: Connection, request: ProtectRequest): Promise<ApplicationReport> {
  const abort = new AbortController();
  const interrupt = () => {
    // The second one does not wait any more; the agent undoes all the same.
    if (abort.signal.aborted) process.exit(1);
    abort.abort(new OperatingError("interrupted", `Interrupted: "${request.name}" is not protected, all is undone`));
  };
  process.on("SIGINT", interrupt).on("SIGTERM", interrupt);
  const progress = new ProtectProgressPrinter();
  try {
    const lines = agent.lines<StreamLine<ApplicationReport>>("POST", "/v1/applications", {
      body: request,
      signal: abort.signal,
    });
    for await (const line of lines) {
      if ("progress" in line) progress.show(line.progress);
      else if ("error" in line) throw fromFailure(line.error);
      else return line.result;
    }
    throw new OperatingError("node-unreachable", "The agent ended before it answered", {
      remedy: "What was begun is undone when it is back: understudy ps",
    });
  } catch (error) {
    progress.end();
    if (abort.signal.aborted) await waitUndone(agent, request.name);
    throw error;
  } finally {
    progress.end();
    process.off("SIGINT", interrupt).off("SIGTERM", interrupt);
  }
}

async function waitUndone(agent: Connection, name: string): Promise<void> {
  say("Undoing …");
  const deadline = performance.now() + UNDO_WAIT_MS;
  while (performance.now() < deadline) {
    const there = await agent.json("GET", `/v1/applications/${name}`, { timeoutMs: 2_000 }).then(
      () => true,
      () => false,
    );
    if (!there) return;
    await sleep(UNDO_POLL_MS);
  }
  say(`"${name}" is still there; see: understudy status ${name}`);
}

/** `--standby b c`, `--standby b,c` and `--standby b --standby c` mean the same. */
function collect(value: string, previous: string[] = []): string[] {
  return [...previous, ...value.split(",").filter((node) => node !== "")];
}

function variable(value: string, previous: Record<string, string> = {}): Record<string, string> {
  const at = value.indexOf("=");
  if (at < 1) throw new InvalidArgumentError("Write NAME=VALUE.");
  return { ...previous, [value.slice(0, at)]: value.slice(at + 1) };
}

function volume(value: string, previous: Volume[] = []): Volume[] {
  const [path, where, more] = value.split("=");
  if (!path || !where || more !== undefined) throw new InvalidArgumentError("Write PATH=DIRECTORY, or PATH=scratch.");
  return [...previous, where === "scratch" ? { path, scratch: true } : { path, directory: where }];
}

function period(value: string): number | "auto" {
  if (value === "auto") return value;
  const ms = Number(value);
  if (!(ms >= 1)) throw new InvalidArgumentError("Give milliseconds, at least 1, or auto.");
  return ms;
}

function wholeNumber(value: string): number {
  if (!/^[1-9]\d*$/.test(value)) throw new InvalidArgumentError("Give a whole number, at least 1.");
  return Number(value);
}

/** As in `50M`: powers of a thousand, as networks are measured. */
function byteCount(value: string): number {
  const [, digits, unit = ""] = /^(\d+(?:\.\d+)?)([kMG]?)$/.exec(value) ?? [];
  if (digits === undefined) throw new InvalidArgumentError("Give bytes per second, such as 50M.");
  return Math.round(Number(digits) * { "": 1, k: 1e3, M: 1e6, G: 1e9 }[unit as "" | "k" | "M" | "G"]);
}

/** `--restart newest,older`: its parts are checked by the agent. */
function restartSteps(value: string, previous: RestartStep[] = []): RestartStep[] {
  return [...previous, ...(value.split(",").filter((step) => step !== "") as RestartStep[])];
}

function probe(value: string): ProbeInput {
  const [, port, path] = /^(?:tcp|http):(\d+)(\/.*)?$/.exec(value) ?? [];
  if (port !== undefined && value.startsWith("http:"))
    return { probe: "http", port: Number(port), ...(path !== undefined && { path }) };
  if (port !== undefined && path === undefined) return { probe: "tcp", port: Number(port) };
  const command = value.startsWith("exec:") ? value.slice("exec:".length).split(/\s+/).filter(Boolean) : [];
  if (command.length === 0) throw new InvalidArgumentError("Write tcp:PORT, http:PORT/PATH or exec:COMMAND.");
  return { probe: "exec", command };
}
