/** One process of the application as the capture follows it: its memory tracker and what only itself could tell. */
import { isDeepStrictEqual } from "node:util";
import { openPath, Reader } from "../kernel/calls.ts";
import { readStatus, statusField } from "../kernel/procfs.ts";
import { Remote } from "../kernel/remote.ts";
import { SEIZE_OPTIONS, setTraceOptions } from "../kernel/trace.ts";
import type { HugeObjects } from "../resources/memory/huge-objects.ts";
import { type Area, isTrackable, layoutSteps } from "../resources/memory/layout.ts";
import type { FileNames } from "../resources/memory/layout-reader.ts";
import { MemoryTracker } from "../resources/memory/tracker.ts";
import { ownFilters, readFilters, SUSPEND_SECCOMP } from "../resources/process/filters.ts";
import {
  type InnerProcess,
  type InnerThread,
  readInnerProcess,
  readInnerThread,
  readIntervalTimers,
  readRobustList,
  readRseq,
} from "../resources/process/inner.ts";
import { Places } from "../resources/process/places.ts";
import { type PosixTimer, readPosixTimers } from "../resources/process/posix-timers.ts";
import { readScheduling, type Scheduling } from "../resources/process/scheduling.ts";
import { readIoPriority, type ThreadSettings } from "../resources/process/settings.ts";
import { type Credentials, type ProcessState, parseCredentials, readProcess } from "../resources/process/state.ts";
import { TracelessFacts } from "../resources/process/traceless.ts";
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
  /** Signals that wait for it, siginfos in order. */
  pending: Buffer[];
  robustList: number;
  robustListBytes: number;
  rseq: { address: number; bytes: number; signature: number };
  scheduling: Scheduling;
  /** See ioprio_get(2); 0: none of its own. */
  ioPriority: number;
  /** Where they are not those of the process's first thread. */
  credentials?: Credentials;
  /** Likewise seccomp filters, oldest first. */
  filters?: Buffer[];
  /** The call with a time limit that it is in, and when that ends: microseconds of the application's CLOCK_MONOTONIC. */
  wait?: TimedWait;
}

export interface TimedWait {
  /** Of the system call. */
  call: number;
  untilUs: number;
}

export interface ProcessResource extends ProcessState {
  inner: InnerProcess;
  /** Signals that wait for any of its threads, siginfos in order. */
  pending: Buffer[];
  posixTimers: PosixTimer[];
  /** Seccomp filters, oldest first. */
  filters: Buffer[];
  /** AREA_FLAG bits that areas to come get: see mlockall(2). */
  lockFuture: number;
  /** Pages that nobody may touch, [start, end] each: see madvise(2), MADV_GUARD_INSTALL. */
  guards: ReadonlyArray<[number, number]>;
  /** Where a signal has stopped it: whether its parent has collected that. */
  halted?: { told: boolean };
}

/** A thread just born may still set up its alternate stack and the like: looked at again in each stop for so long. */
const YOUNG_MS = 500;
/** Slow-changing facts without a signal of their change are read again after so long. */
const SLOW_MS = 1000;
/** Many processes are not all looked at again in the same stop. */
const TURNS = 64;

/** Who catches one of these may have an interval timer, which changes by itself: SIGALRM, SIGVTALRM, SIGPROF. */
const ALARM_SIGNALS = (1n << 13n) | (1n << 25n) | (1n << 26n);

/** "SigIgn:", a tab, 16 digits, a newline. */
const MASK_LINE_BYTES = 25;
const FILTERS = "Seccomp_filters:";

function maskIn(lines: string, name: string): bigint {
  const at = lines.indexOf(name) + name.length + 1;
  return BigInt(`0x${lines.slice(at, at + 16)}`);
}

interface KnownThread {
  inner: InnerThread;
  name: string;
  robustList: number;
  robustListBytes: number;
  rseq: ThreadState["rseq"];
  scheduling: Scheduling;
  ioPriority: number;
  credentials: Credentials;
  filters: Buffer[];
}

export class ProcessCapture {
  readonly traced: TracedProcess;
  readonly image: number;
  readonly tracker: MemoryTracker;
  /** The layout the clones know. */
  emitted: Area[] = [];
  /** Where the clones have memory that is watched here: [start, end …], neighbours joined. */
  knownRanges: BigUint64Array = new BigUint64Array(0);
  /** No clone has its content yet. */
  needsAll = true;
  #gadget = 0;
  #state: ProcessState | undefined;
  #stateAt = 0;
  #inner: InnerProcess | undefined;
  #innerAt = 0;
  #turn = 0;
  #traceless: TracelessFacts | undefined;
  readonly #status: Reader;
  #signalMasks = "";
  #facts = "";
  readonly #timers: Reader;
  #posixTimers: PosixTimer[] = [];
  #filterCount = 0;
  #filters: Buffer[] = [];
  readonly #threads = new Map<number, KnownThread>();

  constructor(traced: TracedProcess, names?: FileNames, objects?: HugeObjects) {
    this.traced = traced;
    this.image = traced.image;
    this.#status = new Reader(openPath(`/proc/${traced.pid}/status`, 0));
    this.#timers = new Reader(openPath(`/proc/${traced.pid}/timers`, 0));
    this.tracker = new MemoryTracker(traced.pid, names, objects);
    this.#places = new Places(traced.pid);
  }

  get pid(): number {
    return this.traced.pid;
  }

  /** What is read first in one stop with that of others falls due at other times than theirs. */
  #begins(now: number): number {
    return now - (SLOW_MS * (this.pid % TURNS)) / TURNS;
  }

  /** While it runs: what /proc tells of it is read anew when that falls due, so that the next stop need not. */
  readAhead(now: number, parentOf: (pid: number) => number): void {
    if (!this.#state || this.#stateAt === 0 || now - this.#stateAt <= SLOW_MS) return;
    try {
      this.#state = readProcess(this.pid, parentOf(this.pid));
      this.#stateAt = now;
    } catch (error) {
      // It may be ending: the stop takes notice of that.
      const { code } = error as NodeJS.ErrnoException;
      if (code !== "ENOENT" && code !== "ESRCH") throw error;
    }
  }

  /** Begins to watch the memory; all threads are stopped. */
  watch(): void {
    if (this.tracker.watching) return;
    this.#readSignalMasks();
    this.#traceless = TracelessFacts.of(this.pid);
    this.#inThread(this.#firstTid, this.#filterCount, (remote) => this.tracker.watch(remote));
  }

  get #firstTid(): number {
    return this.traced.threads.keys().next().value!;
  }

  /** Makes calls in a thread, past the filters that the application has put on itself. */
  #inThread<T>(tid: number, filterCount: number, body: (remote: Remote) => T): T {
    const filtered = ownFilters(filterCount) > 0;
    if (filtered) setTraceOptions(tid, SEIZE_OPTIONS | SUSPEND_SECCOMP);
    const remote = this.#remote(tid).begin();
    try {
      return body(remote);
    } finally {
      remote.end();
      if (filtered) setTraceOptions(tid, SEIZE_OPTIONS);
    }
  }

  #remote(tid: number): Remote {
    this.#gadget ||= findGadget(this.pid, this.tracker.memoryFd);
    return new Remote(tid, this.#gadget, this.tracker.memoryFd);
  }

  /** Milliseconds since 1970 at which its slow-changing facts were asked for last; 0: never. */
  get askedAt(): number {
    return this.#innerAt;
  }

  /** It has never been asked, and is old enough for its answers to last. */
  isUnasked(now: number): boolean {
    return this.#innerAt === 0 && now - this.traced.bornAt >= YOUNG_MS;
  }

  /**
   * Reads what needs calls in the application, where it is not known or may have changed. All threads are stopped.
   * @param exact nothing is taken as still known
   * @param changedThreads threads that are other than when they were asked last; who is asked here is taken out
   * @param mayBeSlow there is time for facts that are merely old
   */
  refreshInner(now: number, exact: boolean, changedThreads: Set<TracedThread>, mayBeSlow: boolean): void {
    const masks = this.#readSignalMasks();
    if (exact) this.#stateAt = this.#innerAt = 0;
    const [ignored, caught] = [maskIn(masks, "SigIgn:"), maskIn(masks, "SigCgt:")];
    if (this.#filters.length !== ownFilters(this.#filterCount))
      this.#filters = readFilters(this.#firstTid, this.#filterCount);
    const stale = [...this.traced.threads.values()].filter(
      (t) => exact || changedThreads.has(t) || !this.#threads.has(t.tid) || now - t.bornAt < YOUNG_MS,
    );
    for (const tid of this.#threads.keys()) if (!this.traced.threads.has(tid)) this.#threads.delete(tid);
    const old = now - this.traced.bornAt < YOUNG_MS || (mayBeSlow && now - this.#innerAt > SLOW_MS);
    const changed = this.#traceless?.changed() ?? false;
    const whole = !this.#inner || masks !== this.#signalMasks || changed || old;
    const timers = !whole && (caught & ALARM_SIGNALS) !== 0n;
    const posixTimers = this.#timers.read().toString("latin1");
    if (posixTimers === "") this.#posixTimers = [];
    if (stale.length === 0 && !whole && !timers && posixTimers === "") return;
    const read = (remote: Remote) => {
      if (whole) this.#inner = readInnerProcess(remote, this.pid, caught, ignored);
      else if (timers) this.#inner = { ...this.#inner!, timers: readIntervalTimers(remote) };
      if (posixTimers === "") return;
      const virtual = (tid: number) => this.traced.threads.get(tid)?.virtualTid ?? 0;
      this.#posixTimers = readPosixTimers(remote, posixTimers, virtual);
    };
    // Otherwise one thread after the other: what they changed late is not missed for long.
    const threads = [...this.traced.threads.values()];
    const next = threads[this.#turn++ % threads.length]!;
    if (next.asleep) this.#lookAtSleeper(next.tid);
    const visited = stale.length > 0 ? stale : [next.asleep ? threads[0]! : next];
    let scratch = 0;
    visited.forEach((thread, i) => {
      // Looked at again only because it is young: what takes many calls has been seen not to change.
      const known = exact || changedThreads.has(thread) ? undefined : this.#threads.get(thread.tid);
      const settings = thread === next || this.#traceless === undefined ? undefined : known?.inner.settings;
      scratch = this.#visit(thread, scratch, i === visited.length - 1, settings, i === 0 ? read : () => {});
      changedThreads.delete(thread);
    });
    this.#signalMasks = masks;
    if (whole) this.#innerAt = this.#innerAt === 0 ? this.#begins(now) : now;
  }

  /** What others may have changed of it: no call is made in it. */
  #lookAtSleeper(tid: number): void {
    const known = this.#threads.get(tid)!;
    const name = statusField(readStatus(tid), "Name");
    const now = { ...known, name, scheduling: readScheduling(tid), ioPriority: readIoPriority(tid) };
    if (!isDeepStrictEqual(now, known)) this.#threads.set(tid, now);
  }

  /** What is known of a thread besides its record: another object when anything of it has changed. */
  factsOf(tid: number): unknown {
    return this.#threads.get(tid);
  }

  /** The lines SigIgn and SigCgt of /proc/PID/status; notices what else there has changed. */
  #readSignalMasks(): string {
    const status = this.#status.read();
    const facts = factsIn(status);
    if (facts !== this.#facts) this.#stateAt = 0;
    this.#facts = facts;
    const at = status.indexOf("SigIgn:");
    const filtersAt = status.indexOf(FILTERS);
    if (filtersAt >= 0) this.#filterCount = Number.parseInt(status.toString("latin1", filtersAt + FILTERS.length), 10);
    return status.toString("latin1", at, at + 2 * MASK_LINE_BYTES);
  }

  /** Makes calls in one thread; the first of a row maps the scratch memory, the last takes it away. Returns where it is. */
  #visit(
    { tid }: TracedThread,
    scratch: number,
    last: boolean,
    settings: ThreadSettings | undefined,
    read: (remote: Remote) => void,
  ): number {
    const status = readStatus(tid);
    const filterCount = Number(statusField(status, FILTERS.slice(0, -1)) || 0);
    return this.#inThread(tid, filterCount, (remote) => {
      if (scratch) remote.useScratch(scratch, false);
      else remote.mapData();
      read(remote);
      const inner = readInnerThread(remote, settings);
      this.#threads.set(tid, { inner, ...this.#outer(tid, status, filterCount) });
      const at = remote.scratch;
      if (last) remote.unmapScratch();
      return at;
    });
  }

  #outer(tid: number, status: string, filterCount: number): Omit<KnownThread, "inner"> {
    return {
      name: statusField(status, "Name"),
      ...readRobustList(tid),
      rseq: readRseq(tid),
      scheduling: readScheduling(tid),
      ioPriority: readIoPriority(tid),
      credentials: parseCredentials(status),
      filters: tid === this.#firstTid ? this.#filters : readFilters(tid, filterCount),
    };
  }

  /** struct kernel_sigaction of signals 1 … 64. */
  get actions(): Buffer {
    return this.#inner!.actions;
  }

  /** @param parentOf asked only when slow-changing facts are read again */
  state(parentOf: (pid: number) => number, now: number, pending: Buffer[]): ProcessResource {
    const moved = [this.#places.changed(), this.#programHasMoved()].includes(true);
    if (!this.#state || now - this.#stateAt > SLOW_MS || moved) {
      this.#stateAt = this.#state ? now : this.#begins(now);
      this.#state = readProcess(this.pid, parentOf(this.pid));
    }
    return {
      ...this.#state,
      inner: this.#inner!,
      pending,
      posixTimers: this.#posixTimers,
      filters: this.#filters,
      lockFuture: this.tracker.futureFlags,
      guards: this.tracker.takeGuards(),
    };
  }

  readonly #places: Places;
  #lookedAt: readonly Area[] = [];
  #programMapped = false;

  /** Since the last look, whether the file of its program has another name, or none any more: its text is mapped under that. */
  #programHasMoved(): boolean {
    const { areas } = this.tracker;
    if (areas === this.#lookedAt) return false;
    this.#lookedAt = areas;
    const before = this.#programMapped;
    const executable = this.#state && Buffer.from(this.#state.executable).toString("latin1");
    this.#programMapped = areas.some(({ backing }) => backing.type === "file" && backing.path === executable);
    return before && !this.#programMapped;
  }

  threadState(thread: TracedThread, record: Buffer, pending: Buffer[], wait: TimedWait | undefined): ThreadState {
    const { credentials, filters, ...facts } = this.#threads.get(thread.tid)!;
    const first = this.#threads.get(this.#firstTid);
    return {
      process: this.traced.virtualPid,
      tid: thread.virtualTid,
      record,
      pending,
      ...facts,
      ...(!isDeepStrictEqual(credentials, first?.credentials) && { credentials }),
      ...(!isDeepStrictEqual(filters, this.#filters) && { filters }),
      ...(wait && { wait }),
    };
  }

  /** The layout as an operation, when it is not the one the clones know. */
  layoutOperation(fresh: Array<[number, number]>): Operation | undefined {
    const { areas } = this.tracker;
    if (areas === this.emitted && fresh.length === 0) return undefined;
    const replaced: Array<[number, number]> = [];
    for (const step of layoutSteps(this.emitted, areas, fresh)) {
      if (step.step === "unmap") this.tracker.dropShadow(step.start, step.end);
      else if (step.step === "map" && step.area.backing.type === "file")
        replaced.push([step.area.start, step.area.end]);
    }
    // Under another name a clone maps it anew: the pages of its own that lay over it are gone there.
    this.#replaced = this.emitted.length > 0 ? this.tracker.ownIn(replaced) : undefined;
    this.emitted = areas;
    this.knownRanges = joinedRanges(areas);
    return { op: "layout", pid: this.traced.virtualPid, areas, fresh };
  }

  #replaced: BigUint64Array | undefined;

  /** Regions that a clone lacks with the last layout, though nobody has written there. */
  takeReplaced(): BigUint64Array[] {
    const regions = this.#replaced;
    this.#replaced = undefined;
    return regions && regions.length > 0 ? [regions] : [];
  }

  close(): void {
    this.#status.close();
    this.#timers.close();
    this.tracker.close();
  }
}

/** Umask, ids, groups, session, and capabilities, of /proc/PID/status: what changes from call to call stands between them. */
function factsIn(status: Buffer): string {
  const part = (from: string, to: string) => {
    const at = status.indexOf(from);
    return at < 0 ? "" : status.toString("latin1", at, status.indexOf(to, at));
  };
  return `${part("Umask:", "State:")}${part("Uid:", "FDSize:")}${part("Groups:", "VmPeak:")}${part("CapInh:", "Speculation")}`;
}

function joinedRanges(areas: Area[]): BigUint64Array {
  const words: number[] = [];
  for (const area of areas) {
    if (!isTrackable(area)) continue;
    if (words.at(-1) === area.start) words[words.length - 1] = area.end;
    else words.push(area.start, area.end);
  }
  return BigUint64Array.from(words, BigInt);
}
