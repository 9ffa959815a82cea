/**
 * Puts a program through checkpoints and lives without a network: each node is a process of its own (host.ts), the real frames
 * of the stream go from one to the next through this one. Until files are replicated, the layer is copied before a life.
 */
import { type ChildProcess, fork } from "node:child_process";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { layerPaths } from "../../src/stage/root.ts";
import type { CheckpointAnswer, CheckpointOptions, Commands, StageNames } from "./host.ts";

const HOST = resolve(import.meta.dirname, "host.ts");
const STATE = "/var/lib/understudy-test";

/** The cgroup2 mount; tests put theirs into directories of their own below it. */
export function cgroupRoot(): string {
  const line = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .find((text) => text.includes(" - cgroup2 "));
  if (!line) throw new Error("No cgroup2 is mounted");
  return line.split(" ")[4]!;
}

class Host {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #next = 1;
  #stages = 0;
  names: StageNames | undefined;

  constructor() {
    this.#child = fork(HOST, [], {
      serialization: "advanced",
      execArgv: ["--disable-warning=ExperimentalWarning"],
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.#child.on("message", ({ id, result, error }: { id: number; result: unknown; error?: string }) => {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve(result);
      else waiting?.reject(new Error(error));
    });
    this.#child.on("exit", (code, signal) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`Host ended: ${signal ?? code}`));
    });
  }

  async ask<M extends keyof Commands>(
    method: M,
    options?: Parameters<Commands[M]>[0],
  ): Promise<Awaited<ReturnType<Commands[M]>>> {
    const id = this.#next++;
    const answer = new Promise<unknown>((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    this.#child.send({ id, method, options });
    return (await answer) as Awaited<ReturnType<Commands[M]>>;
  }

  newNames(): StageNames {
    const name = `understudy-test-${this.#child.pid}-${this.#stages++}`;
    this.names = { name, cgroup: `${cgroupRoot()}/${name}`, files: `${STATE}/${name}` };
    return this.names;
  }

  end(): void {
    if (this.#child.connected) this.#child.disconnect();
  }
}

const idle: Host[] = [];
const all: Host[] = [];

function takeHost(): Host {
  const host = idle.pop();
  if (host) return host;
  const made = new Host();
  all.push(made);
  return made;
}

/** To be called when a test file is done: ends the processes kept for reuse. */
export function closeHosts(): void {
  for (const host of all.splice(0)) host.end();
  idle.length = 0;
}

const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));

/** A program somewhere: in its first life, or as the clone of an earlier one. */
export class Life {
  readonly #host: Host;
  #clone: Host | undefined;
  #captured = false;
  #closed = false;
  /** Host pid of the application's first process. */
  readonly pid: number;
  /** Generous: the machine may be busy with other tests. */
  stopTimeoutUs = 500_000;

  constructor(host: Host, pid: number) {
    this.#host = host;
    this.pid = pid;
  }

  get #upper(): string {
    return layerPaths(this.#host.names!.files).upper;
  }

  /** What it has printed, in all its lives. */
  log(): string {
    try {
      return readFileSync(`${this.#upper}/var/log/understudy/test.log`, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
      throw error;
    }
  }

  lines(): string[] {
    return this.log().split("\n").filter(Boolean);
  }

  /** The next line behind `from` lines; fails after `timeoutMs` or when the program has ended without it. */
  async line(from: number, timeoutMs = 10_000): Promise<string> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const line = this.lines()[from];
      if (line !== undefined) return line;
      const endings = await this.#host.ask("endings");
      const ended = endings.find((ending) => ending.startsWith("2:"));
      if (ended && this.lines()[from] === undefined) throw new Error(`Program ended (${ended}) after: ${this.log()}`);
      if (performance.now() > deadline) throw new Error(`No line ${from + 1} within ${timeoutMs} ms of: ${this.log()}`);
      await pause(3);
    }
  }

  /** Sends SIGUSR1, on which a test program checks itself; returns the line it prints. */
  async check(): Promise<string> {
    const before = this.lines().length;
    try {
      process.kill(this.pid, "SIGUSR1");
    } catch (error) {
      throw new Error(`The program has ended: ${(await this.#host.ask("endings")).join()}; ${this.log()}`, {
        cause: error,
      });
    }
    return this.line(before);
  }

  /** A checkpoint; a clone (made with the first one) gets and applies it. */
  async checkpoint(options: CheckpointOptions = {}): Promise<Omit<CheckpointAnswer, "frames">> {
    if (!this.#captured) {
      this.#clone = takeHost();
      await this.#clone.ask("stage", { ...this.#clone.newNames(), upper: this.#upper });
      await this.#host.ask("capture", { stopTimeoutUs: this.stopTimeoutUs });
      this.#captured = true;
    }
    const { frames, ...answer } = await this.#host.ask("checkpoint", options);
    if (frames.length > 0) await this.#clone!.ask("feed", frames);
    return answer;
  }

  /** One last checkpoint, or with `final: false` one like any other; the original ends, the clone lives on. */
  async liveOnCloneAndKillOriginal(options: CheckpointOptions = {}): Promise<Life> {
    const { error } = await this.checkpoint({ final: true, ...options });
    if (error) throw new Error(`The last checkpoint failed: ${error}`);
    const pid = await this.#clone!.ask("live", { upper: this.#upper });
    const clone = this.#clone!;
    this.#clone = undefined;
    await this.close();
    return new Life(clone, pid);
  }

  /** Files without a name that the clone keeps. */
  objects(): Promise<number> {
    return this.#clone!.ask("objects");
  }

  /** Threads that the next stop will leave asleep. */
  sleepers(): Promise<number> {
    return this.#host.ask("sleepers");
  }

  processes(): Promise<Array<{ pid: number; virtualPid: number }>> {
    return this.#host.ask("processes");
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const host of [this.#host, this.#clone]) {
      if (!host) continue;
      await host.ask("clear");
      idle.push(host);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Starts a program on a stage of its own; it runs when this returns. */
export async function runProgram(binary: string, args: string[] = []): Promise<Life> {
  const host = takeHost();
  const pid = await host.ask("start", { ...host.newNames(), command: [binary, ...args] });
  return new Life(host, pid);
}
