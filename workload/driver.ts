/** The parent's side of a workload process: starts it where it is told to, marks windows, gets the result. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { WindowSummary } from "./gaps.ts";
import type { WorkloadMode } from "./main.ts";
import type {
  Command,
  CounterOptions,
  CounterResult,
  FillOptions,
  FillResult,
  LoadOptions,
  LoadResult,
  Message,
} from "./messages.ts";

/** Starts a command with piped standard input and output: on this host, or in a lab's client host. */
export type Spawn = (argv: string[]) => ChildProcess | Promise<ChildProcess>;

/** The workload process could not do its work at all (a finding about the server is in its result instead). */
export class WorkloadFailed extends Error {
  override name = "WorkloadFailed";
}

type Target = { host: string; port: number };
type Results = { counters: CounterResult; load: LoadResult; fill: FillResult };
type Options = {
  counters: Target & Partial<CounterOptions>;
  load: Target & Partial<LoadOptions>;
  fill: Target & Partial<FillOptions>;
};

const PROGRAM = fileURLToPath(new URL("./main.ts", import.meta.url));

const FILL_LIMIT_MS = 180_000;

/** Sets the keys of the data set once each. Throws WorkloadFailed, also when it takes longer than three minutes. */
export async function fillKeys(spawn: Spawn, options: Options["fill"], onMessage?: (message: Message) => void) {
  const filling = await begin("fill", spawn, options, onMessage);
  const limit = setTimeout(() => void filling.kill(), FILL_LIMIT_MS);
  try {
    return await filling.result;
  } finally {
    clearTimeout(limit);
  }
}

/** Starts `counters` or `load`; resolves when all its connections stand. Throws WorkloadFailed. */
export async function startWorkload<M extends "counters" | "load">(
  mode: M,
  spawn: Spawn,
  options: Options[M],
  onMessage?: (message: Message) => void,
): Promise<Workload<M>> {
  const workload = await begin(mode, spawn, options, onMessage);
  await workload.ready;
  return workload;
}

async function begin<M extends WorkloadMode>(
  mode: M,
  spawn: Spawn,
  options: Options[M],
  onMessage: (message: Message) => void = () => {},
): Promise<Workload<M>> {
  const flags = Object.entries(options).flatMap(([name, value]) => [`--${kebab(name)}`, String(value)]);
  return new Workload(mode, await spawn([process.execPath, PROGRAM, mode, ...flags]), onMessage);
}

export class Workload<M extends WorkloadMode> {
  readonly ready: Promise<void>;
  /** Settles when the process has finished. */
  readonly result: Promise<Results[M]>;
  readonly #child: ChildProcess;
  readonly #marks: { name: string; resolve(ended: WindowSummary): void; reject(reason: Error): void }[] = [];
  #errorText = "";

  /** `child` is the process of `workload/main.ts`, its standard input and output piped. */
  constructor(mode: M, child: ChildProcess, onMessage: (message: Message) => void) {
    this.#child = child;
    this.#child.stderr?.on("data", (bytes: Buffer) => {
      this.#errorText = (this.#errorText + bytes.toString()).slice(-2000);
    });
    // A process that is gone cannot be told anything: its end is reported by `result`.
    this.#child.stdin?.on("error", () => {});
    const ready = Promise.withResolvers<void>();
    const result = Promise.withResolvers<Results[M]>();
    this.ready = ready.promise;
    this.result = result.promise;
    // Whoever only waits for one of the two must not be ended by the other's rejection.
    this.ready.catch(() => {});
    this.result.catch(() => {});
    const fail = (reason: string) => {
      const error = new WorkloadFailed(`Workload ${JSON.stringify(mode)} failed: ${reason}`);
      ready.reject(error);
      result.reject(error);
      for (const mark of this.#marks.splice(0)) mark.reject(error);
    };
    const lines = createInterface({ input: this.#child.stdout! });
    lines.on("line", (line) => {
      const message = JSON.parse(line) as Message;
      if (message.event === "ready") ready.resolve();
      else if (message.event === "finished") result.resolve(message.result as Results[M]);
      else if (message.event === "failed") fail(message.message);
      else if (message.event === "marked") this.#marks.shift()?.resolve(message.ended);
      onMessage(message);
    });
    this.#child.on("error", (error) => fail(error.message));
    lines.on("close", () => fail(`its process ended too early ${this.#errorText}`.trim()));
  }

  /** Ends the present window and opens the next; the summary is that of the window that ended. */
  mark(name: string): Promise<WindowSummary> {
    return new Promise((resolve, reject) => {
      this.#marks.push({ name, resolve, reject });
      this.#say({ command: "mark", name });
    });
  }

  /** Lets the last answers come, verifies, gives the result. */
  async stop(): Promise<Results[M]> {
    this.#say({ command: "stop" });
    return await this.result;
  }

  /** Ends the process without a result. */
  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await gone;
  }

  #say(command: Command): void {
    this.#child.stdin?.write(JSON.stringify(command) + "\n");
  }
}

function kebab(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
