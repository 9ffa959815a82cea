/**
 * A program runs for a while in a sandbox, under everything but a clone: one checkpoint of it is taken and thrown away. Tells
 * all that could not be protected. Nothing of it is left behind.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Capture } from "../checkpoint/capture.ts";
import { OperatingError } from "../kernel/failure.ts";
import { resume } from "../kernel/trace.ts";
import { DescriptorTables } from "../resources/descriptor/table.ts";
import { kindNamed } from "../resources/kinds.ts";
import { refuseAbsent } from "../resources/refusal.ts";
import { resetTcp } from "../resources/tcp/index.ts";
import { layerPaths } from "../stage/root.ts";
import { Stage } from "../stage/stage.ts";
import { type Program, startProgram } from "../stage/start.ts";
import { rollbackDatabases } from "../tree/rollback-journals.ts";
import { type Ending, Tracees } from "../tree/tracees.ts";
import { cgroupMount, killCgroup } from "./cgroup.ts";

/** Something for which it cannot be protected. */
export interface Finding {
  code: string;
  message: string;
  remedy?: string;
}

export interface Rehearsal {
  seconds: number;
  processes: number;
  threads: number;
  /** Of the checkpoint, when one could be taken. */
  stopUs?: number;
  /** How it ended before its time was over, if it did. */
  ended?: string;
  /** The end of what it printed. */
  output: string;
  findings: Finding[];
  /** What will not be as it was after a switch, although it can be protected. */
  remarks: Finding[];
}

const STATE = "/var/lib/understudy";
const LOG = "/var/log/understudy/check.log";
const STOP_TIMEOUT_US = 200_000;
const SHADOW_BYTES = 64 * 2 ** 20;
const TRIES = 20;
const BETWEEN_TRIES_MS = 100;
const TAIL_BYTES = 2000;
const PREFIX = "understudy-check-";

/** Removes what runs left that were killed half-way. */
async function sweep(): Promise<void> {
  for (const [directory, remove] of [
    [cgroupMount(), (path: string) => killCgroup(path)],
    [STATE, async (path: string) => rmSync(path, { recursive: true, force: true })],
  ] as const) {
    for (const name of readdirSync(directory)) {
      if (!name.startsWith(PREFIX) || isAlive(Number(name.slice(PREFIX.length)))) continue;
      await remove(`${directory}/${name}`);
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

const ENDED_WELL = "exited with code 0";

function endingText({ code, signal }: Ending): string {
  return signal ? `ended by signal ${signal}` : `exited with code ${code}`;
}

/** @throws OperatingError `program-not-found`, `program-not-executable`, `working-directory`, or the signal's reason */
export async function rehearse(
  program: Omit<Program, "logPath">,
  seconds: number,
  signal: AbortSignal,
): Promise<Rehearsal> {
  mkdirSync(STATE, { recursive: true });
  await sweep();
  const name = `${PREFIX}${process.pid}`;
  const filesDirectory = `${STATE}/${name}`;
  const cgroup = `${cgroupMount()}/${name}`;
  const clockOffsets = { monotonic: 0n, boottime: 0n };
  const stage = Stage.create({ name: "check", cgroup, filesDirectory, clockOffsets, exitKill: true });
  const tracees = new Tracees(stage.init, true);
  const endings: string[] = [];
  tracees.onEnding = (ending) => {
    if (tracees.processes.size === 0) endings.push(endingText(ending));
  };
  const drain = () => tracees.drain();
  try {
    stage.inNetwork(() => spawnSync("ip", ["link", "set", "lo", "up"]));
    const pid = startProgram(stage, { ...program, logPath: LOG });
    tracees.add(pid);
    process.on("SIGCHLD", drain);
    resume(pid);
    await until(() => endings.length > 0, seconds * 1000, signal);
    tracees.drain();
    return {
      seconds,
      output: tail(`${layerPaths(filesDirectory).upper}${LOG}`),
      ...(await look(stage, tracees, endings)),
    };
  } finally {
    process.off("SIGCHLD", drain);
    stage.destroy();
    rmSync(filesDirectory, { recursive: true, force: true });
    try {
      rmdirSync(STATE);
    } catch {
      // An agent's, or another run's: not empty.
    }
  }
}

async function until(done: () => boolean, ms: number, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + ms;
  while (!done() && performance.now() < deadline) {
    signal.throwIfAborted();
    await sleep(20);
  }
  signal.throwIfAborted();
}

type Look = Pick<Rehearsal, "processes" | "threads" | "stopUs" | "ended" | "findings" | "remarks">;

async function look(stage: Stage, tracees: Tracees, endings: string[]): Promise<Look> {
  const { threadCount: threads } = tracees;
  const processes = tracees.processes.size;
  if (processes === 0) {
    const ended = endings.at(-1) ?? "ended";
    const missed = ended === ENDED_WELL ? [] : [...tracees.askedFor];
    const findings = missed.map((what) => findingOf(refuseAbsent(what, ended)));
    return { processes, threads, ended, findings, remarks: [] };
  }
  const remarks = rollbackDatabases(tracees.processes.keys()).map(rollbackRemark);
  const findings = new Map<string, Finding>();
  const refused = (error: OperatingError) => void findings.set(error.message, findingOf(error));
  await again(() => examine(tracees, refused), refused);
  const capture = new Capture({
    stage,
    tracees,
    emit: () => {},
    stopTimeoutUs: STOP_TIMEOUT_US,
    shadowBytes: SHADOW_BYTES,
  });
  let stopUs: number | undefined;
  try {
    stopUs = await again(() => {
      for (const _pause of capture.preDump());
      return capture.dump(() => {}, false, 1).end.stopUs;
    }, refused);
  } finally {
    capture.close();
    resetTcp();
  }
  return { processes, threads, ...(stopUs === undefined ? {} : { stopUs }), findings: [...findings.values()], remarks };
}

function findingOf({ code, message, remedy }: OperatingError): Finding {
  return { code, message, ...(remedy === undefined ? {} : { remedy }) };
}

function rollbackRemark(path: string): Finding {
  return {
    code: "sqlite-rollback-journal",
    message: `"${path}" is an SQLite database with a rollback journal: after a switch, who has it open cannot write to it`,
    remedy:
      "Protect it with --disk SIZE, by which its files keep their inode numbers, or use a write-ahead log (PRAGMA journal_mode=WAL), or let the program open it anew when it cannot write.",
  };
}

/** What is only in the way for a moment is tried again; what stays in the way is told. */
async function again<T>(attempt: () => T, refused: (error: OperatingError) => void): Promise<T | undefined> {
  for (let i = 1; ; i++) {
    try {
      return attempt();
    } catch (error) {
      const failure =
        error instanceof OperatingError
          ? error
          : new OperatingError("checkpoint-failed", `A checkpoint of it fails: ${(error as Error).message}`);
      if (failure.code.startsWith("unprotectable-") || i === TRIES) {
        refused(failure);
        return undefined;
      }
      await sleep(BETWEEN_TRIES_MS);
    }
  }
}

/** Kinds whose descriptions know nothing of each other: each is looked at by itself. */
const SINGLE = new Set(["file"]);

/** Kind by kind, so that one refusal does not hide the next. */
function examine(tracees: Tracees, refused: (error: OperatingError) => void): void {
  const tables = new DescriptorTables(refused);
  tracees.stop(STOP_TIMEOUT_US);
  try {
    tables.refresh([...tracees.processes.keys()]);
    tables.dump((byKind, context) => {
      for (const [name, descriptions] of byKind)
        for (const some of SINGLE.has(name) ? descriptions.map((one) => [one]) : [descriptions]) {
          try {
            kindNamed(name)!.dump(some, context);
          } catch (error) {
            // Anything else is told by the checkpoint that follows.
            if (error instanceof OperatingError && error.code.startsWith("unprotectable-")) refused(error);
          }
        }
    });
  } catch (error) {
    if (!(error instanceof OperatingError && error.code.startsWith("unprotectable-"))) throw error;
    refused(error);
  } finally {
    tracees.release();
    tables.close();
    resetTcp();
  }
}

function tail(path: string): string {
  try {
    return readFileSync(path, "utf8").slice(-TAIL_BYTES).trim();
  } catch {
    return "";
  }
}
