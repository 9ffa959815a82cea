/** One instance on this node, started or adopted: its process, its control connection, what it last said. */
import { spawn } from "node:child_process";
import { EventEmitter } from "node:events";
import { closeSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { ControlClient } from "../instance/client.ts";
import type { ControlEvents, ControlMethods, InstanceConfig, InstanceStatus } from "../instance/control.ts";
import { startTicks } from "../instance/pid-file.ts";
import { type Failure, fromFailure, OperatingError } from "../kernel/failure.ts";
import { makeCgroup } from "./cgroup.ts";
import type { Layout } from "./layout.ts";
import { limits } from "./limits.ts";

const CONNECT_POLL_MS = 10;
const LOG_TAIL_LINES = 12;

interface InstanceFile {
  pid: number;
  startTicks: number;
  createdAt: string;
  begin: InstanceConfig["begin"];
}

type InstanceEvents = {
  note: [ControlEvents["note"]];
  /** The cached status is new. */
  changed: [];
  /** The process is gone. */
  gone: [];
};

export class LocalInstance extends EventEmitter<InstanceEvents> {
  readonly application: string;
  readonly pid: number;
  readonly begin: InstanceConfig["begin"];
  /** `createdAt` of the specification it was started for: tells two applications of one name apart. */
  readonly createdAt: string;
  /** What it last said; undefined until it first answered. */
  status: InstanceStatus | undefined;
  /** When it was asked for that, milliseconds of `performance.now()`. */
  statusAskedMs = 0;
  readonly #layout: Layout;
  readonly #startTicks: number;
  #client: ControlClient | undefined;
  #gone = false;
  #refreshing: Promise<void> | undefined;
  /** Process exit of a child of ours, for messages; unknown for one that was adopted. */
  #exit = "";

  private constructor(layout: Layout, application: string, file: InstanceFile) {
    super();
    this.#layout = layout;
    this.application = application;
    this.pid = file.pid;
    this.begin = file.begin;
    this.createdAt = file.createdAt;
    this.#startTicks = file.startTicks;
  }

  /** Starts the instance's program detached, in the node's cgroup for instances, and connects to it in the background. */
  static start(layout: Layout, program: string, config: InstanceConfig): LocalInstance {
    const { name, createdAt } = config.application;
    mkdirSync(config.stateDirectory, { recursive: true });
    makeCgroup(layout.instancesCgroup);
    rmSync(layout.controlSocket(name), { force: true });
    rmSync(layout.failureFile(name), { force: true });
    writeFileSync(layout.instanceConfig(name), JSON.stringify(config, null, 2), { mode: 0o600 });
    const log = openSync(layout.instanceLog(name), "a", 0o600);
    // A shell enters the cgroup and becomes the instance: no instant in which it could fork outside.
    const script =
      'echo 0 > "$1/cgroup.procs" && exec "$2" --disable-warning=ExperimentalWarning --max-semi-space-size=32 "$3" "$4"';
    const files = [layout.instancesCgroup, process.execPath, program, layout.instanceConfig(name)];
    const child = spawn("/bin/sh", ["-c", script, "understudy-instance", ...files], {
      cwd: "/",
      detached: true,
      env: { ...plainEnvironment(), NODE_COMPILE_CACHE: layout.compileCache },
      stdio: ["ignore", log, log],
    });
    closeSync(log);
    child.unref();
    if (child.pid === undefined) {
      child.once("error", () => {});
      throw new OperatingError("instance-not-started", `Cannot start an instance for "${name}"`);
    }
    const file = { pid: child.pid, startTicks: startTicks(child.pid) ?? 0, createdAt, begin: config.begin };
    writeFileSync(`${layout.instanceFile(name)}.new`, JSON.stringify(file));
    renameSync(`${layout.instanceFile(name)}.new`, layout.instanceFile(name));
    const instance = new LocalInstance(layout, name, file);
    child.once("exit", (code, signal) => {
      instance.#exit = signal === null ? `exit status ${code}` : `signal ${signal}`;
      instance.#end();
    });
    void instance.#connect();
    return instance;
  }

  /** Takes up an instance that an earlier agent started; undefined when it is not alive any more. */
  static adopt(layout: Layout, application: string): LocalInstance | undefined {
    const file = readInstanceFile(layout, application);
    if (file === undefined || startTicks(file.pid) !== file.startTicks) return undefined;
    const instance = new LocalInstance(layout, application, file);
    void instance.#connect();
    return instance;
  }

  get alive(): boolean {
    if (!this.#gone && startTicks(this.pid) !== this.#startTicks) this.#end();
    return !this.#gone;
  }

  get connected(): boolean {
    return this.#client !== undefined && !this.#client.closed;
  }

  /** Fails with `instance-gone` when it has died or cannot be reached. */
  async call<M extends keyof ControlMethods>(
    method: M,
    params: ControlMethods[M]["params"],
    timeoutMs?: number,
  ): Promise<ControlMethods[M]["result"]> {
    await this.ready();
    return this.#client!.call(method, params, timeoutMs === undefined ? {} : { timeoutMs });
  }

  /** Resolves when the control socket answers; fails when the process ends before or takes too long. */
  async ready(timeoutMs: number = limits.instanceStartTimeoutMs): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (!this.connected) {
      if (!this.alive) throw this.failure();
      if (performance.now() > deadline) {
        throw new OperatingError("instance-silent", `The instance of "${this.application}" does not answer`, {
          remedy: `Look at ${this.#layout.instanceLog(this.application)}`,
        });
      }
      await sleep(CONNECT_POLL_MS);
    }
  }

  /** Asks for its status now; several askers share one question. A silent instance keeps its last status. */
  refresh(): Promise<void> {
    this.#refreshing ??= this.#ask().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  /**
   * Waits until the status satisfies `wanted`, asking at every change and every `pollMs`.
   * @throws the instance's failure when it ends or `status` fails, `timeout` after `timeoutMs`, the signal's reason
   */
  async until(
    wanted: (status: InstanceStatus) => boolean,
    options: { timeoutMs?: number; pollMs?: number; signal?: AbortSignal } = {},
  ): Promise<InstanceStatus> {
    const deadline = performance.now() + (options.timeoutMs ?? Number.POSITIVE_INFINITY);
    for (;;) {
      options.signal?.throwIfAborted();
      if (!this.alive) throw this.failure();
      const askedMs = performance.now();
      try {
        this.#take(await this.call("status", {}, limits.instanceStartTimeoutMs), askedMs);
      } catch (error) {
        if (error instanceof OperatingError && error.code === "instance-gone") {
          await sleep(50);
          if (!this.alive) throw this.failure();
        }
        throw error;
      }
      if (wanted(this.status!)) return this.status!;
      if (performance.now() > deadline) {
        throw new OperatingError(
          "timeout",
          `The instance of "${this.application}" is still "${this.status!.state}" after ${options.timeoutMs} ms`,
        );
      }
      await sleep(options.pollMs ?? 50);
    }
  }

  /** Asks it to stop; kills it when it does not within the time. The caller removes what it leaves. */
  async stop(timeoutMs: number = limits.stopTimeoutMs): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    if (this.alive && this.connected) await this.call("stop", {}, timeoutMs).catch(() => {});
    while (this.connected && this.alive && performance.now() < deadline) await sleep(CONNECT_POLL_MS);
    await this.kill();
  }

  async kill(): Promise<void> {
    if (this.alive) {
      try {
        process.kill(this.pid, "SIGKILL");
      } catch {
        // Gone in the meantime.
      }
    }
    while (this.alive) await sleep(2);
    this.#client?.close();
  }

  /** Why it ended: its own `Failure` if it left one, else its exit and the last lines of its log. */
  failure(): OperatingError {
    try {
      const path = this.#layout.failureFile(this.application);
      return fromFailure(JSON.parse(readFileSync(path, "utf8")) as Failure);
    } catch {
      const exit = this.#exit === "" ? "" : ` with ${this.#exit}`;
      const tail = this.logTail();
      return new OperatingError("instance-gone", `The instance of "${this.application}" ended${exit}`, {
        remedy: `Look at ${this.#layout.instanceLog(this.application)}${tail === "" ? "" : `:\n${tail}`}`,
        details: { application: this.application },
      });
    }
  }

  logTail(): string {
    try {
      const lines = readFileSync(this.#layout.instanceLog(this.application), "utf8").trimEnd().split("\n");
      return lines.slice(-LOG_TAIL_LINES).join("\n");
    } catch {
      return "";
    }
  }

  async #connect(): Promise<void> {
    while (this.alive) {
      try {
        const client = await ControlClient.connect(this.#layout.controlSocket(this.application));
        this.#client = client;
        client.on("note", (note) => this.emit("note", note));
        client.on("changed", () => void this.refresh());
        client.on("close", () => void this.#connect());
        void this.refresh();
        return;
      } catch {
        await sleep(CONNECT_POLL_MS);
      }
    }
  }

  async #ask(): Promise<void> {
    if (!this.connected) return;
    const askedMs = performance.now();
    const status = await this.#client!.call("status", {}, { timeoutMs: limits.statusTimeoutMs }).catch(() => undefined);
    if (status) this.#take(status, askedMs);
  }

  #take(status: InstanceStatus, askedMs: number): void {
    this.statusAskedMs = Math.max(this.statusAskedMs, askedMs);
    const before = this.status;
    this.status = status;
    if (before?.state !== status.state || before.role !== status.role || before.term !== status.term) {
      this.emit("changed");
    }
  }

  #end(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#client?.close();
    this.emit("gone");
  }
}

function readInstanceFile(layout: Layout, application: string): InstanceFile | undefined {
  try {
    return JSON.parse(readFileSync(layout.instanceFile(application), "utf8")) as InstanceFile;
  } catch {
    return undefined;
  }
}

/** Nothing of the operator's shell reaches an instance, but the project's own switches. */
function plainEnvironment(): Record<string, string> {
  const own = Object.entries(process.env).filter(([key]) => key.startsWith("UNDERSTUDY_"));
  return {
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    HOME: process.env.HOME ?? "/root",
    LANG: "C.UTF-8",
    ...(Object.fromEntries(own) as Record<string, string>),
  };
}
