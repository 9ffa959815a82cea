/**
 * The traced processes and threads of an application, kept up by the kernel's ptrace events: who was born, who ended, who
 * runs another program. The barrier stops them all at one instant.
 */
import { SystemCallError } from "../kernel/errors.ts";
import { OperatingError } from "../kernel/failure.ts";
import { ERRNO, TRACE_EVENT } from "../kernel/numbers.ts";
import { readStatus, statusField, threadIds, virtualPid } from "../kernel/procfs.ts";
import {
  eventMessage,
  interruptAgain,
  type interruptedCall,
  leaveStopped,
  parseStatus,
  refuseCall,
  restartWaits,
  resume,
  resumeAll,
  SEIZE_OPTIONS,
  seize,
  setTraceOptions,
  stopAll,
  untilCall,
  waitAny,
} from "../kernel/trace.ts";
import type { Absent } from "../resources/refusal.ts";
import { descendants } from "./descendants.ts";
import { Sleepers } from "./sleepers.ts";
import { type ExpectedWait, TimedWaits } from "./timed-waits.ts";

export interface TracedThread {
  /** As this program sees it. */
  tid: number;
  /** As the application sees it. */
  virtualTid: number;
  process: TracedProcess;
  bornAt: number;
  /** It has been in a futex wait without an end since its last record was taken: see `letSleep`. */
  asleep: boolean;
}

export interface TracedProcess {
  pid: number;
  virtualPid: number;
  threads: Map<number, TracedThread>;
  /** Grows with each exec: the memory before and after have nothing in common. */
  image: number;
  bornAt: number;
  /** It has called ptrace: it is a debugger, or wants to be debugged. */
  debugs: boolean;
}

/** A process that has ended and that its parent has perhaps not collected yet. */
export interface Ending {
  pid: number;
  virtualPid: number;
  code?: number;
  signal?: number;
}

export interface StopOptions {
  /** Who is known to be asleep is left so: `TracedThread.asleep` tells who that is. */
  leaveSleepers?: boolean;
  /** Nobody else is stopped. */
  only?: ReadonlySet<number>;
}

const SIGTRAP = 5;
/** What the stage's filter says of ptrace(2), and of io_uring_setup(2) and io_setup(2), see native/init.c. */
const DEBUGS = 0x5553;
const ABSENT: ReadonlyMap<number, Absent> = new Map([
  [0x5552, "io_uring"],
  [0x5551, "io_setup"],
]);
/** A vfork's child calls exec within some 100 µs; everybody else stands still meanwhile. */
const VFORK_MS = 20;

export class Tracees {
  readonly processes = new Map<number, TracedProcess>();
  readonly #threads = new Map<number, TracedThread>();
  /** Threads in a group stop (SIGSTOP): they are left there by a release. */
  readonly #groupStopped = new Set<number>();
  /**
   * Processes whose parents wait in vfork (with the thread that does): nothing can stop those until the child has called exec or
   * has ended, so a stop lets it go on up to there.
   */
  readonly #vforks = new Map<number, number>();
  readonly #sleepers = new Sleepers(this.processes, this.#threads);
  readonly #waits = TimedWaits.tryOpen();
  /** Threads that a stop has, in the order of `tids`. */
  #stopped: Int32Array | undefined;
  /** Processes that ended since they were looked at last. */
  readonly endings = new Map<number, Ending>();
  /** What one of them wanted and was told that there is none. */
  readonly askedFor = new Set<Absent>();
  readonly #init: number;
  readonly #options: number;
  onEnding: (ending: Ending) => void = () => {};
  onInitEnd: () => void = () => {};
  /** The last thread of a process stands on its way out: its memory is there for the last time. */
  onExiting: (process: TracedProcess) => void = () => {};
  /**
   * A thread of the process stands on the way out that a signal sends it, or (the kernel does not always stop it there) the process
   * is gone. The first is before the kernel closes anything of it. May come more than once.
   */
  onKilled: (process: TracedProcess, signal: number) => void = () => {};
  /** All run again. */
  onReleased: () => void = () => {};
  /** A change of the tree that the next checkpoint must look at. */
  onChange: () => void = () => {};

  /** @param exitKill a clone's threads end with their tracer; a living application's do not */
  constructor(init: number, exitKill: boolean) {
    this.#init = init;
    this.#options = SEIZE_OPTIONS | (exitKill ? 0x100000 : 0);
  }

  get threadCount(): number {
    return this.#threads.size;
  }

  get isStopped(): boolean {
    return this.#stopped !== undefined;
  }

  /** Of threads that a stop has. */
  tids(): Int32Array {
    return this.#stopped ?? new Int32Array(0);
  }

  threads(): Iterable<TracedThread> {
    return this.#threads.values();
  }

  /** From its next release on a thread that a stop has is left asleep: see `Sleepers`. */
  letSleep(tid: number): void {
    if (!this.#groupStopped.has(tid)) this.#sleepers.let(tid);
  }

  /**
   * Whether all who were asleep when the stop was made still are, as the end of what is taken in it must find them: a signal may
   * have come from outside.
   */
  allStillAsleep(): boolean {
    return this.#sleepers.noticeAwake() === 0;
  }

  thread(tid: number): TracedThread | undefined {
    return this.#threads.get(tid);
  }

  /** Seizes every process below init that runs already (a tracer before this one died). */
  attachAll(): void {
    for (let found = true; found; ) {
      found = false;
      for (const pid of descendants(this.#init)) {
        for (const tid of threadIds(pid)) {
          if (this.#threads.has(tid)) continue;
          seize(tid, this.#options);
          this.add(tid);
          found = true;
        }
      }
    }
  }

  /** Takes up a thread that is traced already. */
  add(tid: number): TracedThread {
    const known = this.#threads.get(tid);
    if (known) return known;
    const status = readStatus(tid);
    const pid = Number(statusField(status, "Tgid"));
    let process = this.processes.get(pid);
    const bornAt = Date.now();
    if (!process) {
      process = { pid, virtualPid: virtualPid(readStatus(pid)), threads: new Map(), image: 0, bornAt, debugs: false };
      this.processes.set(pid, process);
    }
    const thread = { tid, virtualTid: virtualPid(status), process, bornAt, asleep: false };
    process.threads.set(tid, thread);
    this.#threads.set(tid, thread);
    this.onChange();
    return thread;
  }

  #remove(tid: number, ending?: Ending): void {
    const thread = this.#threads.get(tid);
    this.#sleepers.forget(tid);
    this.#threads.delete(tid);
    this.#groupStopped.delete(tid);
    if (!thread) return;
    this.#waits?.forget(thread);
    thread.process.threads.delete(tid);
    if (thread.process.threads.size === 0) {
      this.#vforks.delete(thread.process.pid);
      this.#sleepers.forgetProcess(thread.process.pid);
      this.processes.delete(thread.process.pid);
      if (ending) {
        const whole = { ...ending, pid: thread.process.pid, virtualPid: thread.process.virtualPid };
        this.endings.set(whole.pid, whole);
        this.onEnding(whole);
      }
    }
    this.onChange();
  }

  /** Handles all that the kernel has to tell; call on SIGCHLD. */
  drain(): void {
    for (let next = waitAny(); next; next = waitAny()) this.#handle(next.tid, next.status, false);
  }

  /**
   * What one wait status asks for. While a stop is being made threads are not resumed after a stop that is final.
   * @returns whether the thread now stands stopped for the barrier
   */
  #handle(tid: number, status: number, stopping: boolean): boolean {
    const stop = parseStatus(status);
    if (tid === this.#init) {
      if (stop.kind === "exited" || stop.kind === "killed") this.onInitEnd();
      else resume(tid, stop.kind === "signal" ? stop.signal : 0);
      return false;
    }
    // At the beginning of its wait it is on its way into it; anything else that it tells comes out of it.
    const begins = stop.kind === "call" && this.#sleepers.isLyingDown(tid) && !stopping;
    this.#sleepers.set(tid, begins);
    const thread = this.#threads.get(tid);
    switch (stop.kind) {
      case "call":
        if (begins) untilCall(tid);
        else resume(tid);
        return false;
      case "exited":
        this.#remove(tid, { pid: tid, virtualPid: 0, code: stop.code });
        return false;
      case "killed":
        if (thread) this.onKilled(thread.process, stop.signal);
        this.#remove(tid, { pid: tid, virtualPid: 0, signal: stop.signal });
        return false;
      case "signal":
        resume(tid, stop.signal);
        return false;
      case "event":
        return this.#handleEvent(tid, stop.event, stop.signal, stopping);
    }
  }

  #handleEvent(tid: number, event: number, signal: number, stopping: boolean): boolean {
    switch (event) {
      case TRACE_EVENT.stop:
        if (!this.#threads.has(tid)) this.add(tid);
        if (signal !== SIGTRAP) this.#groupStopped.add(tid);
        else this.#groupStopped.delete(tid);
        if (stopping && !this.#isOfVfork(tid)) return true;
        // It comes after a stop that was given up, or for a vfork: what it has done to the thread's call is mended all the same.
        if (signal === SIGTRAP) this.#goOn(Int32Array.of(tid));
        else this.#go(tid);
        return false;
      case TRACE_EVENT.exec:
        this.#afterExec(tid);
        break;
      case TRACE_EVENT.seccomp:
        this.#onFilteredCall(tid);
        break;
      case TRACE_EVENT.exit: {
        const process = this.#threads.get(tid)?.process;
        const signal = exitSignal(tid);
        if (process && signal !== 0) this.onKilled(process, signal);
        if (process?.threads.size === 1) this.onExiting(process);
        break;
      }
      case TRACE_EVENT.fork:
      case TRACE_EVENT.vfork:
      case TRACE_EVENT.clone: {
        const child = eventMessage(tid);
        try {
          // What the child tells may come first: it may have run another program by now, or have come and gone.
          if (!this.#threads.has(child) && !isTraced(child)) break;
          const { process } = this.add(child);
          if (event === TRACE_EVENT.vfork && process.image === 0) this.#vforks.set(child, tid);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
        }
        break;
      }
    }
    resume(tid);
    return false;
  }

  #onFilteredCall(tid: number): void {
    const process = this.#threads.get(tid)?.process;
    // A filter of the application's own speaks to a debugger that is not there.
    const message = eventMessage(tid);
    const absent = ABSENT.get(message);
    if (absent) this.askedFor.add(absent);
    if (message !== DEBUGS) refuseCall(tid);
    else if (process) process.debugs = true;
  }

  #go(tid: number): void {
    if (this.#groupStopped.has(tid)) leaveStopped(tid);
    else if (this.#sleepers.lieDown(tid)) untilCall(tid);
    else resume(tid);
  }

  /** Threads that stand in an interrupt stop of no use to anybody. */
  #goOn(tids: Int32Array): void {
    this.#settleWaits(tids);
    this.#waits?.release(this.#among(tids));
    for (const tid of tids) this.#go(tid);
    this.onReleased();
  }

  /** The thread that called exec has the leader's id now; all other threads are gone without a word. */
  #afterExec(tid: number): void {
    const thread = this.#threads.get(tid) ?? this.add(tid);
    const { process } = thread;
    process.image++;
    this.#vforks.delete(process.pid);
    const alive = new Set(threadIds(process.pid));
    for (const other of [...process.threads.keys()]) if (!alive.has(other)) this.#remove(other);
    this.onChange();
  }

  /** Of a child that its parent waits for in vfork. */
  #isOfVfork(tid: number): boolean {
    const process = this.#threads.get(tid)?.process;
    return process !== undefined && this.#vforks.has(process.pid);
  }

  /** Whom a stop waits for next: who stands in a vfork, and its child, come when all others stand still. */
  #nextToStop(stopped: ReadonlySet<number>, { leaveSleepers = false, only }: StopOptions): number[] {
    const left: number[] = [];
    for (const { tid, asleep } of this.#threads.values())
      if (!stopped.has(tid) && !(asleep && leaveSleepers) && (only?.has(tid) ?? true)) left.push(tid);
    if (this.#vforks.size === 0) return left;
    const waiting = new Set(this.#vforks.values());
    const free = left.filter((tid) => !waiting.has(tid) && !this.#isOfVfork(tid));
    return free.length > 0 ? free : left.filter((tid) => this.#isOfVfork(tid));
  }

  /**
   * Stops every thread. On return all stand still, until `release`.
   * Errors: `barrier-timeout` (a thread cannot be stopped now, e.g. its vfork's child does not come to exec): all run again.
   */
  stop(timeoutUs: number, options: StopOptions = {}): Int32Array {
    this.#waits?.lookAhead(this.#threads);
    const deadline = performance.now() + timeoutUs / 1000;
    const stopped = new Set<number>();
    const interrupted = new Set<number>();
    for (;;) {
      const tids = Int32Array.from(this.#nextToStop(stopped, options));
      if (tids.length === 0) {
        // Now nobody is left to wake them up; who was woken before that is stopped like all others.
        if (options.leaveSleepers && this.#sleepers.noticeAwake() > 0) continue;
        break;
      }
      const ofVfork = this.#isOfVfork(tids[0]!);
      const first = interrupted.size === 0 && !ofVfork;
      if (!first && !ofVfork) for (const tid of tids) if (!interrupted.has(tid)) interruptAgain(tid);
      if (!ofVfork) for (const tid of tids) interrupted.add(tid);
      const statuses = new Int32Array(tids.length);
      const patienceMs = ofVfork ? Math.min(VFORK_MS, deadline - performance.now()) : deadline - performance.now();
      const missing = stopAll(tids, statuses, Math.max(0, patienceMs * 1000), first);
      // Threads born meanwhile stop by themselves. Any other stop takes back a pending interrupt (kernel/signal.c, ptrace_stop),
      // so who stopped for another reason is interrupted again.
      tids.forEach((tid, i) => {
        const status = statuses[i]!;
        if (status === ERRNO.child || status === ERRNO.srch) this.#remove(tid);
        else if (status < 0) throw new SystemCallError("ptrace(INTERRUPT)", status, String(tid));
        else if (status === 0) return;
        else if (this.#handle(tid, status, true)) stopped.add(tid);
        else interrupted.delete(tid);
      });
      if (missing > 0) this.#giveUp(stopped, missing, timeoutUs);
    }
    this.#stopped = Int32Array.from(stopped);
    this.#settleWaits(this.#stopped);
    return this.#stopped;
  }

  #settleWaits(stopped: Int32Array): void {
    const timed = restartWaits(stopped);
    this.#waits?.settle(this.#among(stopped), timed);
  }

  #among(tids: Int32Array): Map<number, TracedThread> {
    const threads = new Map<number, TracedThread>();
    for (const tid of tids) {
      const thread = this.#threads.get(tid);
      if (thread) threads.set(tid, thread);
    }
    return threads;
  }

  /** When the call that a stop has found the thread in is to end, nanoseconds of CLOCK_MONOTONIC: see `TimedWaits`. */
  waitEnd(thread: TracedThread, interrupted: ReturnType<typeof interruptedCall>): bigint | undefined {
    return this.#waits?.until(thread, interrupted);
  }

  /** The first instant at which a wait is over that nobody ends but `endWaits`. */
  nextWaitEnd(): bigint | undefined {
    return this.#waits?.next();
  }

  /** Ends waits that are over. Returns whether there were any. Errors: as `stop`. */
  endWaits(timeoutUs: number): boolean {
    if (this.isStopped || this.#waits === undefined) return false;
    const only = this.#waits.due((tid) => this.#threads.get(tid));
    if (only.size === 0) return false;
    this.stop(timeoutUs, { only });
    this.release();
    return true;
  }

  #giveUp(stopped: ReadonlySet<number>, missing: number, timeoutUs: number): never {
    this.#goOn(Int32Array.from(stopped));
    throw new OperatingError(
      "barrier-timeout",
      `${missing} of ${this.#threads.size} threads did not stop within ${timeoutUs} µs`,
    );
  }

  /** Lets all threads go on. Does nothing when none is stopped, so an abort may always call it. */
  release(): void {
    const stopped = this.#stopped;
    if (!stopped) return;
    this.#stopped = undefined;
    this.#waits?.release(this.#among(stopped));
    if (this.#groupStopped.size === 0 && !this.#sleepers.areComing) resumeAll(stopped);
    else for (const tid of stopped) this.#go(tid);
    this.#sleepers.released();
    this.onReleased();
  }

  /** A clone that has come to life no longer ends with its tracer. */
  liveOn(): void {
    for (const tid of this.#threads.keys()) setTraceOptions(tid, SEIZE_OPTIONS);
  }

  /** Whether its application has stopped it (SIGSTOP, SIGTSTP), until somebody sends it SIGCONT. */
  isHalted({ threads }: TracedProcess): boolean {
    if (this.#groupStopped.size === 0) return false;
    return [...threads.keys()].every((tid) => this.#groupStopped.has(tid));
  }

  /** When all are, nobody inside is left to send it: whoever wants the application to go on does. */
  wakeHalted(): void {
    const all = [...this.processes.values()];
    if (!all.every((traced) => this.isHalted(traced))) return;
    for (const { pid } of all) process.kill(pid, "SIGCONT");
  }

  /**
   * Takes threads as stopped that were built stopped (a clone's), and processes as ended that were made as such.
   * @param halted threads among them that their application had stopped
   */
  adoptStopped(
    tids: number[],
    ended: Ending[] = [],
    waits: readonly ExpectedWait[] = [],
    halted: readonly number[] = [],
  ): void {
    this.#stopped = Int32Array.from(tids);
    for (const tid of halted) this.#groupStopped.add(tid);
    this.#waits?.expect(waits);
    for (const ending of ended) this.endings.set(ending.pid, ending);
  }

  get options(): number {
    return this.#options;
  }
}

/** False of one whose end has been taken and that its parent has not collected. */
function isTraced(tid: number): boolean {
  return statusField(readStatus(tid), "TracerPid") !== "0";
}

/** The signal that ends a thread on its way out; 0: none, or a SIGKILL has swept it away just now, as its wait status will tell. */
function exitSignal(tid: number): number {
  try {
    return eventMessage(tid) & 0x7f;
  } catch (error) {
    if (error instanceof SystemCallError && error.errno === ERRNO.srch) return 0;
    throw error;
  }
}
