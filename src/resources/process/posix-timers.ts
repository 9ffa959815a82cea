/** Timers of timer_create(2): what each is comes from /proc/PID/timers, what is left of it from the process itself. */
import type { Remote, RemoteCall } from "../../kernel/remote.ts";

/**
 * @kind time
 * @kept the monotonic and the boot clock go on without a jump; POSIX timers on them are due when they were, other timers keep
 *   what is left of them.
 * @unkept the clock of the day, which is the node's own.
 */
export interface PosixTimer {
  id: number;
  clock: number;
  signal: number;
  /** What the signal carries, hexadecimal. */
  value: string;
  /** SIGEV_* bits */
  notify: number;
  /** Thread it is for, as the application sees it; 0: the process. */
  thread: number;
  /** struct itimerspec: when it is due, by the application's clock, which goes on; for other clocks what is left. */
  setting: Buffer;
  absolute: boolean;
}

const ENTRY = /ID: (\d+)\nsignal: (-?\d+)\/([0-9a-f]+)\nnotify: (\w+)\/(tid|pid)\.(-?\d+)\nClockID: (-?\d+)\n/g;
const NOTIFY: Record<string, number> = { signal: 0, none: 1, thread: 2 };
const SIGEV_THREAD_ID = 4;
const SPECIFICATION_BYTES = 32;
const CLOCK_BYTES = 16;
const EVENT_BYTES = 64;
/** Where struct itimerspec has what is left. */
const VALUE_AT = 16;
const TIMER_ABSTIME = 1;
const SECOND_NS = 1_000_000_000n;
/** CLOCK_MONOTONIC, CLOCK_BOOTTIME: they go on in a clone. */
const GOING_ON = new Set([1, 7]);

const isArmed = (setting: Buffer): boolean => setting.subarray(VALUE_AT).some((byte) => byte !== 0);

/** Adds the time of a clock (struct timespec) to what is left. */
function addClock(setting: Buffer, clock: Buffer): void {
  const ns = (at: Buffer, offset: number) => at.readBigInt64LE(offset) * SECOND_NS + at.readBigInt64LE(offset + 8);
  const due = ns(setting, VALUE_AT) + ns(clock, 0);
  setting.writeBigInt64LE(due / SECOND_NS, VALUE_AT);
  setting.writeBigInt64LE(due % SECOND_NS, VALUE_AT + 8);
}
/** timer_create takes the identifier it is given (kernel 6.15). */
const PR_TIMER_CREATE_RESTORE_IDS = 77;

/**
 * By single calls, as readInnerProcess.
 * @param text of /proc/PID/timers
 * @param virtual the application's own number of a thread
 */
export function readPosixTimers(remote: Remote, text: string, virtual: (tid: number) => number): PosixTimer[] {
  remote.reset();
  const at = remote.put(Buffer.alloc(SPECIFICATION_BYTES));
  return [...text.matchAll(ENTRY)].map(([, id, signal, value, notify, kind, target, clock]) => {
    const forThread = kind === "tid";
    remote.call("timer_gettime", Number(id), at);
    const setting = remote.read(at, SPECIFICATION_BYTES);
    const absolute = GOING_ON.has(Number(clock)) && isArmed(setting);
    if (absolute) {
      remote.call("clock_gettime", Number(clock), at);
      addClock(setting, remote.read(at, CLOCK_BYTES));
    }
    return {
      id: Number(id),
      clock: Number(clock),
      signal: Number(signal),
      value: value!,
      notify: (NOTIFY[notify!] ?? 0) | (forThread ? SIGEV_THREAD_ID : 0),
      thread: forThread ? virtual(Number(target)) : 0,
      setting,
      absolute,
    };
  });
}

/** Calls that make the timers in a clone, under their identifiers. */
export function restorePosixTimers(remote: Remote, timers: PosixTimer[]): RemoteCall[] {
  if (timers.length === 0) return [];
  const calls = timers.flatMap((timer): RemoteCall[] => {
    const event = Buffer.alloc(EVENT_BYTES);
    event.writeBigUInt64LE(BigInt(`0x${timer.value}`), 0);
    event.writeInt32LE(timer.signal, 8);
    event.writeInt32LE(timer.notify, 12);
    event.writeInt32LE(timer.thread, 16);
    const id = Buffer.alloc(4);
    id.writeInt32LE(timer.id);
    const create: RemoteCall = ["timer_create", timer.clock, remote.put(event), remote.put(id)];
    if (!isArmed(timer.setting)) return [create];
    const flags = timer.absolute ? TIMER_ABSTIME : 0;
    return [create, ["timer_settime", timer.id, flags, remote.put(timer.setting), 0]];
  });
  return [
    ["prctl", PR_TIMER_CREATE_RESTORE_IDS, 1, 0, 0, 0],
    ...calls,
    ["prctl", PR_TIMER_CREATE_RESTORE_IDS, 0, 0, 0, 0],
  ];
}
