/**
 * What a program may have made itself around it that a clone would not have: namespaces, mounts, a debugger. Refused by name.
 */
import { readlinkSync } from "node:fs";
import { openPath, Reader } from "../kernel/calls.ts";
import { OperatingError } from "../kernel/failure.ts";
import { mountPoints } from "../kernel/procfs.ts";
import { hasNews } from "../kernel/watch.ts";
import type { TracedProcess } from "./tracees.ts";

const NAMESPACES = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"] as const;
/** Mounts of the stage (stage/root.ts); /sys has what the node has there. */
const OF_STAGE = /^\/(|proc|dev|dev\/shm|dev\/pts|sys(\/.*)?)$/;
/** A process's namespaces are looked at again after so long, before a stop rather than in it: nothing tells of a change. */
const FRESH_MS = 1000;
const STALE_MS = 2 * FRESH_MS;

export class Surroundings {
  readonly #init: number;
  readonly #mounts: Reader;
  readonly #given: ReadonlySet<string>;
  #added: string | undefined;
  #namespaces: readonly string[] | undefined;
  readonly #lookedAt = new WeakMap<TracedProcess, number>();
  /** Namespaces that a process has made itself. */
  readonly #others = new WeakMap<TracedProcess, readonly string[]>();
  #begun = false;

  /**
   * @param init host pid of the application's init, which has the namespaces that the application was given
   * @param given paths of mounts that it was given
   */
  constructor(init: number, given: readonly string[]) {
    this.#init = init;
    this.#given = new Set(given);
    this.#mounts = new Reader(openPath(`/proc/${init}/mountinfo`, 0));
  }

  /**
   * In the stop. Throws OperatingError `unprotectable-debugger`, `unprotectable-mount`, `unprotectable-namespace`.
   * @param exact asks again what was asked a moment ago
   */
  check(processes: Iterable<TracedProcess>, nowMs: number, exact: boolean): void {
    this.#refuseMounts();
    for (const process of processes) {
      if (process.debugs)
        throw new OperatingError(
          "unprotectable-debugger",
          `Process ${process.virtualPid} of the application calls ptrace, as debuggers do, which are there only once`,
          { remedy: "Run it without a debugger.", details: { pid: process.virtualPid } },
        );
      if (exact || this.#age(process, nowMs) >= STALE_MS) this.#look(process, nowMs);
      const other = this.#others.get(process);
      if (other !== undefined) refuseNamespaces(process, other);
    }
  }

  /** While the application runs; what is found is told by the next `check`. */
  lookAhead(processes: Iterable<TracedProcess>, nowMs: number): void {
    for (const process of processes) if (this.#age(process, nowMs) >= FRESH_MS) this.#look(process, nowMs);
  }

  #age(process: TracedProcess, nowMs: number): number {
    return nowMs - (this.#lookedAt.get(process) ?? Number.NEGATIVE_INFINITY);
  }

  #refuseMounts(): void {
    if (!this.#begun || hasNews(this.#mounts.fd)) {
      this.#begun = true;
      const points = mountPoints(this.#mounts.read().toString());
      const seen = new Set<string>();
      this.#added = points.find(
        (point) =>
          (!OF_STAGE.test(point) && !this.#given.has(point)) ||
          (!point.startsWith("/sys") && seen.size === seen.add(point).size),
      );
    }
    if (this.#added === undefined) return;
    throw new OperatingError(
      "unprotectable-mount",
      `The application has mounted something at "${this.#added}", which a clone would not have`,
      { remedy: "Let it do without mounts of its own.", details: { path: this.#added } },
    );
  }

  #look(process: TracedProcess, nowMs: number): void {
    this.#namespaces ??= namespacesOf(this.#init);
    const own = namespacesOf(process.pid);
    const other = NAMESPACES.filter((_, i) => own[i] !== this.#namespaces![i]);
    if (own.length === 0 || other.length === 0) this.#others.delete(process);
    else this.#others.set(process, other);
    this.#lookedAt.set(process, nowMs);
  }

  close(): void {
    this.#mounts.close();
  }
}

function refuseNamespaces({ virtualPid }: TracedProcess, namespaces: readonly string[]): never {
  throw new OperatingError(
    "unprotectable-namespace",
    `Process ${virtualPid} of the application has made itself other namespaces (${namespaces.join(", ")})`,
    { remedy: "Turn its sandbox off.", details: { pid: virtualPid, namespaces } },
  );
}

/** Empty for a process that has gone. */
function namespacesOf(pid: number): string[] {
  try {
    return NAMESPACES.map((name) => readlinkSync(`/proc/${pid}/ns/${name}`));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
