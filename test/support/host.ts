/**
 * A node in one process, for tests of the engine without network: plays a program on a stage, captures it, or is its clone.
 * Commands come and answers go over the parent's channel; see local-clone.ts.
 */
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { Capture, type CaptureOptions } from "../../src/checkpoint/capture.ts";
import type { CheckpointEnd, Operation, Resource } from "../../src/checkpoint/operations.ts";
import { prepare } from "../../src/clone/life.ts";
import { Skeleton } from "../../src/clone/skeleton.ts";
import { atOnce } from "../../src/instance/slices.ts";
import { checked } from "../../src/kernel/errors.ts";
import { OperatingError } from "../../src/kernel/failure.ts";
import { verifyPages } from "../../src/kernel/pages.ts";
import { resume } from "../../src/kernel/trace.ts";
import { FrameReader, FrameWriter } from "../../src/replication/frames.ts";
import { resetTcp, watchClosedTcp } from "../../src/resources/tcp/index.ts";
import { Stage } from "../../src/stage/stage.ts";
import { startProgram } from "../../src/stage/start.ts";
import { Tracees } from "../../src/tree/tracees.ts";
import { WaitKeeper } from "../../src/tree/wait-keeper.ts";

export interface StageNames {
  name: string;
  cgroup: string;
  files: string;
}

export interface CheckpointAnswer {
  /** Frames of everything since the last one that was taken; empty when the dump was aborted. */
  frames: Buffer;
  stopUs: number;
  pages: number;
  bytes: number;
  changed: string[];
  gone: string[];
  /** Code or message of what aborted the dump. */
  error?: string;
  totalUs: number;
  /** Processes that nothing had been asked of before the stop. */
  unasked: number;
  /** Before the first copy: how often all ran between stops in which processes were begun to be watched. */
  watchingPauses: number;
}

export interface CheckpointOptions {
  final?: boolean;
  /** Throws at the beginning of the stop. */
  failInMark?: boolean;
  stopTimeoutUs?: number;
  /** Sends it to every process once all are stopped. */
  signalInMark?: NodeJS.Signals;
  /** Only the stop, nothing before it. */
  noPreDump?: boolean;
}

const LOG = "/var/log/understudy/test.log";

let stage: Stage | undefined;
let names: StageNames | undefined;
let tracees: Tracees | undefined;
let keeper: WaitKeeper | undefined;
let capture: Capture | undefined;
let captureOptions: CaptureOptions | undefined;
let watchingPauses = 0;
let skeleton: Skeleton | undefined;
let reader = new FrameReader();
let writer = new FrameWriter();
let parts: Buffer[] = [];
const states = new Map<string, Resource>();
const endings: string[] = [];

function emit(operation: Operation): void {
  parts.push(...writer.encode({ type: "operation", operation }));
}

function takeFrames(): Buffer {
  const frames = Buffer.concat(parts);
  parts = [];
  return frames;
}

function createStage(options: StageNames, exitKill: boolean): Stage {
  names = options;
  rmSync(options.files, { recursive: true, force: true });
  stage = Stage.create({
    name: options.name,
    cgroup: options.cgroup,
    filesDirectory: options.files,
    // As on a node that has been up for less long than the one where the application began.
    clockOffsets: { monotonic: 5_000_000_000_000n, boottime: 7_000_000_000_000n },
    exitKill,
  });
  return stage;
}

function trace(init: number): Tracees {
  const made = new Tracees(init, false);
  made.onEnding = ({ virtualPid, code, signal }) =>
    endings.push(`${virtualPid}: ${signal ? `signal ${signal}` : code}`);
  tracees = made;
  keeper?.close();
  keeper = new WaitKeeper(made);
  return made;
}

/** Until files are replicated: what the program has changed in them, copied as a whole. */
function copyFiles(upper: string): void {
  execFileSync("cp", ["-au", `${upper}/.`, `/proc/${stage!.init}/root/`]);
}

/** What a clone has been sent, applied; the ends' resources are kept for its life. */
function feed(frames: Buffer): void {
  // In two parts at an odd place, so that the reader puts frames together.
  const middle = Math.floor(frames.length / 3) | 1;
  for (const part of [frames.subarray(0, middle), frames.subarray(middle)])
    for (const message of reader.feed(Buffer.from(part))) {
      if (message.type === "operation") {
        if (message.operation.op === "pages") {
          const { bytes } = message.operation;
          checked(verifyPages(bytes), "verify");
        }
        skeleton!.apply(message.operation);
      } else if (message.type === "end") take(message.end);
      else throw new Error(`Unexpected message ${message.type}`);
    }
}

function take(end: CheckpointEnd): void {
  for (const [key, resource] of end.changed) states.set(key, resource);
  for (const key of end.gone) states.delete(key);
}

function checkpoint(options: CheckpointOptions): CheckpointAnswer {
  const begun = performance.now();
  const { stopTimeoutUs } = captureOptions!;
  captureOptions!.stopTimeoutUs = options.stopTimeoutUs ?? stopTimeoutUs;
  const answer = {
    frames: Buffer.alloc(0),
    stopUs: 0,
    pages: 0,
    bytes: 0,
    changed: [],
    gone: [],
    totalUs: 0,
    unasked: 0,
    watchingPauses,
  };
  try {
    if (!options.noPreDump) for (const _pause of capture!.preDump());
    const unasked = capture!.captured().filter(({ askedAt }) => askedAt === 0).length;
    const mark = () => {
      if (options.failInMark) throw new OperatingError("injected", "The test lets the dump fail");
      if (options.signalInMark) for (const pid of tracees!.processes.keys()) process.kill(pid, options.signalInMark);
    };
    const { end } = capture!.dump(mark, options.final ?? false, 1);
    parts.push(...writer.encode({ type: "end", end, digest: 0 }));
    const { stopUs, pages, bytes, gone } = end;
    const changed = end.changed.map(([key]) => key);
    const totalUs = (performance.now() - begun) * 1000;
    return { frames: takeFrames(), stopUs, pages, bytes, changed, gone, totalUs, unasked, watchingPauses };
  } catch (error) {
    const failure = error as Error & { code?: string };
    if (failure.code !== "injected" && failure.code !== "barrier-timeout") process.stderr.write(`${failure.stack}\n`);
    return { ...answer, error: failure.code ?? String(failure.stack) };
  } finally {
    captureOptions!.stopTimeoutUs = stopTimeoutUs;
  }
}

function capturing(stopTimeoutUs: number): Capture {
  resetTcp();
  watchClosedTcp(stage!.networkFd);
  parts = [];
  writer = new FrameWriter();
  captureOptions = { stage: stage!, tracees: tracees!, emit, stopTimeoutUs, shadowBytes: 64 << 20 };
  capture = new Capture(captureOptions);
  return capture;
}

async function firstCopy(): Promise<void> {
  watchingPauses = 0;
  for (const _pause of capture!.attachNew()) watchingPauses++;
  for (const process of capture!.captured())
    await capture!.copyAll(process, { alone: true, pause: async () => {}, progress: () => {} });
}

const commands = {
  start(options: StageNames & { command: string[]; environment?: Record<string, string> }): number {
    const made = createStage(options, false);
    const traced = trace(made.init);
    const pid = startProgram(made, {
      command: options.command,
      environment: options.environment ?? {},
      workingDirectory: "/",
      logPath: LOG,
    });
    traced.add(pid);
    resume(pid);
    return pid;
  },
  async capture(options: { stopTimeoutUs: number }): Promise<void> {
    capturing(options.stopTimeoutUs);
    tracees!.drain();
    await firstCopy();
  },
  checkpoint,
  stage(options: StageNames & { upper: string }): void {
    states.clear();
    reader = new FrameReader();
    skeleton = new Skeleton(createStage(options, true));
    copyFiles(options.upper);
  },
  feed,
  live(options: { upper: string }): number {
    copyFiles(options.upper);
    const { tids, ended, waits, halted, atLife } = atOnce(prepare(stage!, skeleton!, states));
    const traced = trace(stage!.init);
    for (const tid of tids) traced.add(tid);
    traced.adoptStopped(tids, ended, waits, halted);
    traced.liveOn();
    for (const action of atLife) action();
    traced.release();
    skeleton = undefined;
    return [...traced.processes.values()].find((process) => process.virtualPid === 2)?.pid ?? tids[0]!;
  },
  endings: () => [...endings],
  /** Files without a name that a clone which does not live yet keeps. */
  objects: () => skeleton?.objects.count ?? 0,
  sleepers: () => [...(tracees?.threads() ?? [])].filter(({ asleep }) => asleep).length,
  processes: () => [...(tracees?.processes.values() ?? [])].map(({ pid, virtualPid }) => ({ pid, virtualPid })),
  /** Ends everything and is ready for another program. */
  clear(): void {
    const files = names?.files;
    capture?.close();
    resetTcp();
    skeleton?.close();
    const old = stage;
    keeper?.close();
    stage = tracees = keeper = capture = skeleton = names = undefined;
    endings.length = 0;
    old?.destroy();
    if (files) rmSync(files, { recursive: true, force: true });
  },
} as const;

export type Commands = typeof commands;

process.on("SIGCHLD", () => tracees?.drain());
process.on("disconnect", () => {
  try {
    commands.clear();
  } finally {
    process.exit(0);
  }
});
process.on("message", async ({ id, method, options }: { id: number; method: keyof Commands; options: never }) => {
  try {
    const result = await (commands[method] as (options: never) => unknown)(options);
    process.send!({ id, result });
  } catch (error) {
    process.send!({ id, error: String((error as Error).stack ?? error) });
  }
});
