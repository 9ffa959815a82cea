/** Clocks as a process sees them, which may live in a time namespace (time_namespaces(7)). */
import { call } from "./calls.ts";
import { readSmall } from "./procfs.ts";

/** Numbers of clock_gettime(2). */
export const CLOCK = { realtime: 0, monotonic: 1, boottime: 7, realtimeAlarm: 8, boottimeAlarm: 9 } as const;

const SECOND_NS = 1_000_000_000n;
const time = Buffer.alloc(16);

export interface Clocks {
  /** Nanoseconds. */
  monotonic: bigint;
  boottime: bigint;
}

/** Of this process, nanoseconds. */
export function readClock(clock: number): bigint {
  call("clock_gettime", clock, time);
  return time.readBigInt64LE(0) * SECOND_NS + time.readBigInt64LE(8);
}

/** Those of this process, now. */
export function ownClocks(): Clocks {
  return { monotonic: readClock(CLOCK.monotonic), boottime: readClock(CLOCK.boottime) };
}

/** By how much a process's clocks are ahead of this process's; it never changes. */
export function clocksAhead(pid: number): Clocks {
  const [theirs, own] = [offsetsOf(pid), offsetsOf("self")];
  return { monotonic: theirs.monotonic - own.monotonic, boottime: theirs.boottime - own.boottime };
}

/** Those of a process, now. */
export function clocksOf(pid: number): Clocks {
  const [ahead, own] = [clocksAhead(pid), ownClocks()];
  return { monotonic: own.monotonic + ahead.monotonic, boottime: own.boottime + ahead.boottime };
}

/** /proc/PID/timens_offsets: of the namespace that its children live in, which is its own. */
function offsetsOf(pid: number | "self"): Clocks {
  const text = readSmall(`/proc/${pid}/timens_offsets`);
  const offset = (name: string) => {
    const [, seconds, nanoseconds] = new RegExp(`^${name}\\s+(-?\\d+)\\s+(\\d+)$`, "m").exec(text)!;
    return BigInt(seconds!) * SECOND_NS + BigInt(nanoseconds!);
  };
  return { monotonic: offset("monotonic"), boottime: offset("boottime") };
}
