/** One process of the application as the capture follows it: its memory tracker and what only itself could tell. */
import { readStatus, statusField } from "../kernel/procfs.ts";
import { Remote } from "../kernel/remote.ts";
import { type Area, layoutSteps } from "../resources/memory/layout.ts";
import { MemoryTracker } from "../resources/memory/tracker.ts";
import {
  type InnerProcess,
  type InnerThread,
  readInnerProcess,
  readInnerThread,
  readRobustList,
  readRseq,
} from "../resources/process/inner.ts";
import { type ProcessState, readProcess } from "../resources/process/state.ts";
import { findGadget } from "../stage/stage.ts";
import type { TracedProcess, TracedThread } from "../tree/tracees.ts";
import type { Operation } from "./operations.ts";

export interface ThreadState {
  process: number;
  tid: number;
  name: string;
  /** See kernel/trace.ts: general registers, signal mask, xsave area. */
  record: Buffer;
  inner: InnerThread;
  robustList: number;
  robustListBytes: number;
  rseq: { address: number; bytes: number; signature: number };
}

export interface ProcessResource extends ProcessState {
  inner: InnerProcess;
}

/** A thread just born may still set up its alternate stack and the like: looked at again in each stop for so long. */
const YOUNG_MS = 2000;
/** Slow-changing facts without a signal of their change are read again after so long. */
const SLOW_MS = 1000;

interface KnownThread {
  inner: InnerThread;
  name: string;
  robustList: number;
  robustListBytes: number;
  rseq: ThreadState["rseq"];
}

export class ProcessCapture {
  readonly traced: TracedProcess;
  readonly image: number;
  readonly tracker: MemoryTracker;
  /** The layout the clones know. */
  emitted: Area[] = [];
  /** No clone has its content yet. */
  needsAll = true;
  #gadget = 0;
  #state: ProcessState | undefined;
  #stateAt = 0;
  #inner: InnerProcess | undefined;
  #signalMasks = "";
  readonly #threads = new Map<number, KnownThread>();

  constructor(traced: TracedProcess) {
    this.traced = traced;
    this.image = traced.image;
    this.tracker = new MemoryTracker(traced.pid);
  }

  get pid(): number {
    return this.traced.pid;
  }

  /** Begins to watch the memory; all threads are stopped. */
  watch(): void {
    if (this.tracker.watching) return;
    const remote = this.#remote(this.traced.threads.keys().next().value!).begin();
    try {
      this.tracker.watch(remote);
    } finally {
      remote.end();
    }
  }

  #remote(tid: number): Remote {
    this.#gadget ||= findGadget(this.pid, this.tracker.memoryFd);
    return new Remote(tid, this.#gadget, this.tracker.memoryFd);
  }

  /** Reads what needs calls in the application, where it is not known or may have changed. All threads are stopped. */
  refreshInner(now: number): void {
    const status = readStatus(this.pid);
    const masks = statusField(status, "SigIgn") + statusField(status, "SigCgt");
    const stale = [...this.traced.threads.values()].filter(
      (t) => !this.#threads.has(t.tid) || now - t.bornAt < YOUNG_MS,
    );
    for (const tid of this.#threads.keys()) if (!this.traced.threads.has(tid)) this.#threads.delete(tid);
    const young = now - this.traced.bornAt < YOUNG_MS;
    const readProcessToo = !this.#inner || masks !== this.#signalMasks || young;
    if (stale.length === 0 && !readProcessToo) return;
    let scratch = 0;
    stale.forEach((thread, i) =>
      this.#visit(
        thread,
        i === 0 && readProcessToo,
        i === stale.length - 1,
        () => scratch,
        (at) => {
          scratch = at;
        },
      ),
    );
    if (stale.length === 0) {
      const first = this.traced.threads.values().next().value!;
      this.#visit(
        first,
        true,
        true,
        () => 0,
        () => {},
      );
    }
    this.#signalMasks = masks;
  }

  #visit(
    thread: TracedThread,
    process: boolean,
    last: boolean,
    scratch: () => number,
    keep: (at: number) => void,
  ): void {
    const remote = this.#remote(thread.tid).begin();
    try {
      if (scratch()) remote.useScratch(scratch(), false);
      else keep(remote.mapScratch());
      if (process) this.#inner = readInnerProcess(remote);
      const inner = readInnerThread(remote);
      this.#threads.set(thread.tid, { inner, ...this.#outer(thread.tid) });
      if (last) remote.unmapScratch();
    } finally {
      remote.end();
    }
  }

  #outer(tid: number): Omit<KnownThread, "inner"> {
    const name = statusField(readStatus(tid), "Name");
    return { name, ...readRobustList(tid), rseq: readRseq(tid) };
  }

  /** @param parentOf asked only when slow-changing facts are read again */
  state(parentOf: (pid: number) => number, now: number): ProcessResource {
    if (!this.#state || now - this.#stateAt > SLOW_MS) {
      this.#state = readProcess(this.pid, parentOf(this.pid));
      this.#stateAt = now;
    }
    return { ...this.#state, inner: this.#inner! };
  }

  threadState(thread: TracedThread, record: Buffer): ThreadState {
    const { inner, ...outer } = this.#threads.get(thread.tid)!;
    return { process: this.traced.virtualPid, tid: thread.virtualTid, record, inner, ...outer };
  }

  /** The layout as an operation, when it is not the one the clones know. */
  layoutOperation(fresh: Array<[number, number]>): Operation | undefined {
    const { areas } = this.tracker;
    if (areas === this.emitted && fresh.length === 0) return undefined;
    for (const step of layoutSteps(this.emitted, areas, fresh))
      if (step.step === "unmap") this.tracker.dropShadow(step.start, step.end);
    this.emitted = areas;
    return { op: "layout", pid: this.traced.virtualPid, areas, fresh };
  }

  close(): void {
    this.tracker.close();
  }
}
