/**
 * Threads share memory, descriptors and working directory within their process and with nobody else: clone(2) and unshare(2) can do
 * otherwise, and a clone would not have it so. Refused by name. (The child of a vfork, which shares its parent's memory, has called
 * exec by the time that all stand still.)
 */
import { OperatingError } from "../kernel/failure.ts";
import type { Tables, ThreadFacts } from "../resources/process/thread-facts.ts";
import type { TracedProcess, TracedThread } from "./tracees.ts";

const WHAT: Record<keyof Tables, { between: string; within: string }> = {
  memory: { between: "their memory (CLONE_VM)", within: "memory" },
  descriptors: {
    between: "their descriptors (CLONE_FILES)",
    within: "descriptors of its own (unshare of CLONE_FILES)",
  },
  directories: {
    between: "their working directory (CLONE_FS)",
    within: "a working directory of its own (unshare of CLONE_FS)",
  },
};
const KINDS = Object.keys(WHAT) as Array<keyof Tables>;

export class Sharing {
  readonly #facts: ThreadFacts<TracedThread>;
  #version = -1;

  constructor(facts: ThreadFacts<TracedThread>) {
    this.#facts = facts;
  }

  /** Once all have been looked at. Errors: `unprotectable-sharing` */
  check(processes: Iterable<TracedProcess>): void {
    if (this.#version === this.#facts.tablesVersion) return;
    const owners = new Map<bigint, TracedProcess>();
    for (const process of processes) for (const thread of process.threads.values()) this.#note(thread, owners);
    this.#version = this.#facts.tablesVersion;
  }

  #note(thread: TracedThread, owners: Map<bigint, TracedProcess>): void {
    const { process } = thread;
    const own = this.#facts.tablesOf(thread);
    if (own === undefined) return;
    const first = this.#facts.tablesOf(process.threads.values().next().value!);
    for (const kind of KINDS) {
      const table = own[kind];
      // Of one that is on its way out.
      if (table === 0n) continue;
      const owner = owners.get(table);
      if (owner !== undefined && owner !== process) refuseShared(kind, owner, process);
      if (first !== undefined && first[kind] !== 0n && first[kind] !== table) refuseOwn(kind, thread);
      owners.set(table, process);
    }
  }
}

function refuseShared(kind: keyof Tables, one: TracedProcess, other: TracedProcess): never {
  const pids = [one.virtualPid, other.virtualPid];
  throw new OperatingError(
    "unprotectable-sharing",
    `Processes ${pids[0]} and ${pids[1]} of the application share ${WHAT[kind].between}, as only threads do`,
    { remedy: "Let it use threads, or processes made by fork.", details: { pids } },
  );
}

function refuseOwn(kind: keyof Tables, { virtualTid, process }: TracedThread): never {
  throw new OperatingError(
    "unprotectable-own-table",
    `Thread ${virtualTid} of process ${process.virtualPid} has ${WHAT[kind].within}, which a clone's threads share`,
    { remedy: "Let it do such work in a process of its own.", details: { pid: process.virtualPid, tid: virtualTid } },
  );
}
