/** Processes and threads of a clone that does not live yet come and go, with the pids, parents and sessions that they have. */
import { existsSync } from "node:fs";
import type { Operation } from "../checkpoint/operations.ts";
import { call, closeDescriptor, openPath } from "../kernel/calls.ts";
import { SystemCallError } from "../kernel/errors.ts";
import { OperatingError } from "../kernel/failure.ts";
import { O_RDWR } from "../kernel/files.ts";
import { CLONE } from "../kernel/numbers.ts";
import { readStatus, virtualPid as virtualPidOf } from "../kernel/procfs.ts";
import { Remote } from "../kernel/remote.ts";
import { resume, waitAny } from "../kernel/trace.ts";
import type { Stage } from "../stage/stage.ts";
import { beginSession, cloneWith, type SkeletonProcess } from "./skeleton-process.ts";
import type { Terminals } from "./terminals.ts";

/** Where a clone's scratch memory is: below what the kernel gives out, above mmap_min_addr. */
const SCRATCH_AT = 0x20000;
const SIGCHLD = 17;
const SIGKILL = 9;
const WALL = 0x40000000;
const pause = new Int32Array(new SharedArrayBuffer(4));
const THREAD_FLAGS = CLONE.vm | CLONE.fs | CLONE.files | CLONE.sighand | CLONE.thread | CLONE.sysvsem;

interface Born {
  pid: number;
  /** Scratch memory inherited, or 0. */
  scratch: number;
  session: number;
  group: number;
}

export class Births {
  readonly #stage: Stage;
  readonly #terminals: Terminals;
  readonly #processes: Map<number, SkeletonProcess>;
  readonly #of: (virtualPid: number) => SkeletonProcess;

  /**
   * @param processes by the application's pids: who is born is added, who ends is removed
   * @param of the one of a pid, which must be there
   */
  constructor(
    stage: Stage,
    terminals: Terminals,
    processes: Map<number, SkeletonProcess>,
    of: (virtualPid: number) => SkeletonProcess,
  ) {
    this.#stage = stage;
    this.#terminals = terminals;
    this.#processes = processes;
    this.#of = of;
  }

  make({ pid: virtualPid, parent, session, terminal }: Extract<Operation, { op: "process" }>): void {
    if (this.#processes.has(virtualPid)) this.end(virtualPid);
    const above = this.#processes.get(parent);
    // Since it made others before, the parent has begun a session of its own.
    if (above && session === parent && above.session !== session) beginSession(above);
    const leader = this.#processes.get(session);
    if (terminal !== undefined && leader !== undefined && leader.session === session)
      this.#terminals.give(leader, terminal);
    const made =
      session === virtualPid || session === (above?.session ?? 0)
        ? this.#fork(above, virtualPid)
        : this.#forkInSession(above, virtualPid, session);
    const { pid } = made;
    const memoryFd = openPath(`/proc/${pid}/mem`, O_RDWR);
    const remote = new Remote(pid, above ? above.remote.gadget : this.#stage.gadget, memoryFd);
    remote.begin();
    if (made.scratch) remote.useScratch(made.scratch, false);
    else remote.mapScratch(SCRATCH_AT);
    remote.gadget = remote.scratchGadget;
    const threads = new Map([[virtualPid, pid]]);
    const { session: bornIn, group } = made;
    const process = { virtualPid, parent, pid, memoryFd, remote, areas: [], threads, placed: false, window: false };
    this.#processes.set(virtualPid, { ...process, session: bornIn, group });
    if (session === virtualPid) beginSession(this.#of(virtualPid));
  }

  #fork(above: SkeletonProcess | undefined, virtualPid: number): Born {
    if (!above) {
      const pid = this.#stage.visit((remote) => cloneWith(remote, 0, SIGCHLD, virtualPid));
      return { pid, scratch: 0, session: 0, group: 0 };
    }
    const pid = cloneWith(above.remote, 0, SIGCHLD, virtualPid);
    return { pid, scratch: above.remote.scratch, session: above.session, group: above.group };
  }

  /**
   * An orphan of another session than its new parent's: made by a process of that session, which ends at once. That one is made by the
   * session's leader or by any other in it; only with none of them is its number free for one that begins the session anew.
   */
  #forkInSession(above: SkeletonProcess | undefined, virtualPid: number, session: number): Born {
    const leader = this.#processes.get(session);
    if (above || (leader && leader.session !== session)) return this.#fork(above, virtualPid);
    const maker = leader ?? [...this.#processes.values()].find((process) => process.session === session);
    const between = maker ? this.#aside(maker, virtualPid) : this.#fork(undefined, session).pid;
    const memoryFd = openPath(`/proc/${between}/mem`, O_RDWR);
    try {
      const remote = new Remote(between, maker ? maker.remote.gadget : this.#stage.gadget, memoryFd).begin();
      if (maker) remote.useScratch(maker.remote.scratch, false);
      else {
        remote.mapScratch(SCRATCH_AT);
        remote.call("setsid");
      }
      const pid = cloneWith(remote, 0, SIGCHLD, virtualPid);
      const { scratch } = remote;
      this.#kill(between, maker);
      return { pid, scratch, session, group: maker?.group ?? session };
    } finally {
      closeDescriptor(memoryFd);
    }
  }

  /** A child of the maker's that will end at once. Its pid is whatever the kernel gives, but not the one that is wanted next. */
  #aside(maker: SkeletonProcess, wanted: number): number {
    const first = cloneWith(maker.remote, 0, SIGCHLD, 0);
    if (virtualPidOf(readStatus(first)) !== wanted) return first;
    const second = cloneWith(maker.remote, 0, SIGCHLD, 0);
    this.#kill(first, maker);
    return second;
  }

  /** Ends a process for good: its pid is free when this returns. */
  #kill(pid: number, parent: SkeletonProcess | undefined, threads: Iterable<number> = [pid]): void {
    call("kill", pid, SIGKILL);
    const left = new Set(threads);
    while (left.size > 0) {
      const told = waitAny();
      if (!told) continue;
      const ended = (told.status & 0x7f) !== 0x7f;
      if (ended) left.delete(told.tid);
      else resume(told.tid);
    }
    // The parent stands still and would collect it never; without one the init does, in its own time.
    if (parent) parent.remote.tryCall("wait4", -1, 0, WALL, 0);
    for (let i = 0; existsSync(`/proc/${pid}`) && i < 2000; i++) Atomics.wait(pause, 0, 0, 1);
  }

  end(virtualPid: number): void {
    const process = this.#of(virtualPid);
    this.#processes.delete(virtualPid);
    closeDescriptor(process.memoryFd);
    const threads = [...process.threads.values()];
    this.#kill(process.pid, this.#processes.get(process.parent), threads);
    // Its children are the init's now.
    for (const child of this.#processes.values()) if (child.parent === virtualPid) child.parent = 1;
  }

  /** Makes and ends threads until each process has those given (the leader is always there). */
  setThreads(wanted: Map<number, Set<number>>): void {
    for (const process of this.#processes.values()) {
      const tids = wanted.get(process.virtualPid);
      if (!tids)
        throw new OperatingError(
          "checkpoint-inconsistent",
          `The checkpoint has no threads of process ${process.virtualPid}`,
        );
      for (const tid of tids)
        if (!process.threads.has(tid)) process.threads.set(tid, cloneWith(process.remote, THREAD_FLAGS, 0, tid));
      for (const [tid, host] of [...process.threads])
        if (!tids.has(tid) && tid !== process.virtualPid) {
          this.#endThread(process, host);
          process.threads.delete(tid);
        }
    }
  }

  #endThread(process: SkeletonProcess, host: number): void {
    const remote = new Remote(host, process.remote.gadget, process.memoryFd);
    try {
      remote.tryCall("exit", 0);
    } catch (error) {
      if (!(error instanceof SystemCallError && error.code === "ESRCH")) throw error;
    }
  }
}
