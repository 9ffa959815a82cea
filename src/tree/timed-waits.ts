/**
 * Calls with a time limit that every stop ends with EINTR (epoll_wait, sigtimedwait, recv with SO_RCVTIMEO and others, see signal(7)):
 * the application is not to see that. They begin again with their whole limit, and when what is left of it is over, they are ended as
 * the kernel would have ended them. A clone's waits that began before its life end so, too.
 */
import { closeDescriptor, pidfdGetfd, pidfdOpen, tryCall } from "../kernel/calls.ts";
import { SOL_SOCKET } from "../kernel/socket.ts";
import { endCall, type interruptedCall, restartCall, type TimedCall } from "../kernel/trace.ts";
import { type Sight, ThreadSwitches } from "../resources/process/thread-switches.ts";
import type { TracedThread } from "./tracees.ts";

interface Wait {
  /** Of the system call. */
  number: number;
  /** Nanoseconds of CLOCK_MONOTONIC. */
  until: bigint;
  /** How often the thread had fallen asleep when it was released last. */
  switches: bigint;
  /** When that was, at the earliest: the call began again. */
  released: bigint;
}

/** A wait that a clone's thread is in: it is to end then. */
export interface ExpectedWait {
  tid: number;
  number: number;
  until: bigint;
}

const EAGAIN = -11;
const ETIMEDOUT = -110;
const EINPROGRESS = -115;
/** What each call returns when its time is over: see restartWaits in native/trace.cc. */
const AT_LIMIT: Readonly<Record<number, number>> = {
  7: 0, // poll
  35: 0, // nanosleep
  230: 0, // clock_nanosleep
  202: ETIMEDOUT, // futex
  232: 0, // epoll_wait
  281: 0, // epoll_pwait
  441: 0, // epoll_pwait2
  208: 0, // io_getevents
  333: 0, // io_pgetevents
  42: EINPROGRESS, // connect
};
/**
 * So many threads are looked at before a stop, of more only those that have been found in such a call before: a wait in which one is found
 * for the first time seems to begin with the stop then.
 */
const MOST_LOOKED_AT = 64;
const SO_RCVTIMEO = 20;
const SO_SNDTIMEO = 21;

export class TimedWaits {
  readonly #switches: ThreadSwitches;
  readonly #waits = new Map<number, Wait>();
  /** Threads that have been found in such a call. */
  readonly #known = new Set<TracedThread>();
  #ahead = new Map<number, Sight>();

  private constructor(switches: ThreadSwitches) {
    this.#switches = switches;
  }

  /** Undefined where the kernel does not tell when a thread fell asleep: then such calls end with EINTR. */
  static tryOpen(): TimedWaits | undefined {
    const switches = ThreadSwitches.tryOpen();
    return switches && new TimedWaits(switches);
  }

  /** Right before threads are interrupted. */
  lookAhead(all: ReadonlyMap<number, TracedThread>): void {
    const wanted = all.size <= MOST_LOOKED_AT ? all.values() : this.#known;
    const threads = [...wanted].filter(({ asleep }) => !asleep).slice(0, MOST_LOOKED_AT);
    const sights = threads.length > 0 ? this.#switches.sights(threads) : [];
    this.#ahead = new Map(sights.map((sight, i) => [threads[i]!.tid, sight]));
  }

  /** In a stop that has these threads. @param timed calls that it has found them in */
  settle(stopped: ReadonlyMap<number, TracedThread>, timed: readonly TimedCall[]): void {
    const now = process.hrtime.bigint();
    const found = new Map(timed.map((one) => [one.tid, one]));
    for (const tid of this.#waits.keys()) if (stopped.has(tid) && !found.has(tid)) this.#waits.delete(tid);
    const asked = [...found.values()].flatMap((call) => {
      const thread = stopped.get(call.tid);
      // What the kernel keeps the time of is of interest only in a clone's first such call.
      const matters = thread !== undefined && (call.limit !== "kept" || this.#waits.has(call.tid));
      return matters ? [{ thread, call }] : [];
    });
    if (asked.length === 0) return;
    const counts = this.#switches.counts(asked.map(({ thread }) => thread));
    asked.forEach(({ thread, call }, i) => {
      const wait = this.#waitOf(thread, call, counts[i]!, now);
      if (wait === undefined) this.#waits.delete(thread.tid);
      else this.#goOn(thread.tid, wait, call.limit !== "kept", now);
    });
  }

  #goOn(tid: number, wait: Wait, wasEnded: boolean, now: bigint): void {
    if (wait.until <= now) {
      endCall(tid, AT_LIMIT[wait.number] ?? EAGAIN);
      this.#waits.delete(tid);
      return;
    }
    if (wasEnded) restartCall(tid);
    this.#waits.set(tid, wait);
  }

  /** The wait that the thread is in; undefined: none of those that are meant here. */
  #waitOf(thread: TracedThread, call: TimedCall, switches: bigint, now: bigint): Wait | undefined {
    const known = this.#waits.get(thread.tid);
    // It has fallen asleep twice since its release: in the call, and in this stop.
    const isSame = known?.number === call.number && switches === known.switches + 2n;
    if (isSame && now < known.until) return { ...known, switches };
    const limit = call.limit === "kept" ? undefined : nanoseconds(thread, call.limit);
    // That one's own limit may be over, too, and the next was about to begin.
    if (isSame && (limit === undefined || now < known.released + limit)) return { ...known, switches };
    if (limit === undefined) return undefined;
    this.#known.add(thread);
    const ahead = this.#ahead.get(thread.tid);
    const since = ahead && ahead.switches + 1n === switches && ahead.since < now ? ahead.since : now;
    return { number: call.number, until: since + limit, switches, released: now };
  }

  /** Of a clone's threads, which are about to be released for the first time. */
  expect(waits: readonly ExpectedWait[]): void {
    for (const { tid, number, until } of waits) this.#waits.set(tid, { number, until, switches: 0n, released: 0n });
  }

  /** Right before these threads go on: what was done to them in the stop has let them fall asleep, too. */
  release(stopped: ReadonlyMap<number, TracedThread>): void {
    const waiting = [...this.#waits.keys()].flatMap((tid) => stopped.get(tid) ?? []);
    if (waiting.length === 0) return;
    const counts = this.#switches.counts(waiting);
    const released = process.hrtime.bigint();
    waiting.forEach(({ tid }, i) => {
      Object.assign(this.#waits.get(tid)!, { switches: counts[i]!, released });
    });
  }

  /** When the call that a stop has found the thread in is to end; undefined: none of those that are meant here. */
  until(thread: TracedThread, interrupted: ReturnType<typeof interruptedCall>): bigint | undefined {
    const { call, isResumed, operation } = interrupted;
    const wait = this.#waits.get(thread.tid);
    if (wait !== undefined) return wait.until;
    return isResumed ? this.#switches.endOf(thread, call, operation) : undefined;
  }

  /** The next instant at which one is over. */
  next(): bigint | undefined {
    let next: bigint | undefined;
    for (const { until } of this.#waits.values()) if (next === undefined || until < next) next = until;
    return next;
  }

  /** Threads that are still in a wait that is over; those that have left theirs by themselves are forgotten. */
  due(thread: (tid: number) => TracedThread | undefined): Set<number> {
    const now = process.hrtime.bigint();
    const over = [...this.#waits].filter(([, { until }]) => until <= now).flatMap(([tid]) => thread(tid) ?? []);
    const counts = this.#switches.counts(over);
    const due = over.filter(({ tid }, i) => counts[i] === this.#waits.get(tid)!.switches + 1n);
    for (const { tid } of over) if (!due.some((one) => one.tid === tid)) this.#waits.delete(tid);
    return new Set(due.map(({ tid }) => tid));
  }

  forget(thread: TracedThread): void {
    this.#waits.delete(thread.tid);
    this.#known.delete(thread);
  }
}

/** Undefined when it has none: then something else has ended it. */
function nanoseconds(
  { process: { pid } }: TracedThread,
  limit: Exclude<TimedCall["limit"], "kept">,
): bigint | undefined {
  if ("ns" in limit) return limit.ns;
  const [fd, option] = "receiving" in limit ? [limit.receiving, SO_RCVTIMEO] : [limit.sending, SO_SNDTIMEO];
  const pidfd = pidfdOpen(pid);
  try {
    const own = pidfdGetfd(pidfd, fd);
    try {
      if (tryCall("getsockopt", own, SOL_SOCKET, option, time, timeLength()) < 0) return undefined;
    } finally {
      closeDescriptor(own);
    }
  } finally {
    closeDescriptor(pidfd);
  }
  const ns = time.readBigInt64LE(0) * 1_000_000_000n + time.readBigInt64LE(8) * 1000n;
  return ns > 0n ? ns : undefined;
}

/** struct timeval */
const time = Buffer.alloc(16);
const length = Buffer.alloc(4);

function timeLength(): Buffer {
  length.writeUInt32LE(time.length);
  return length;
}
