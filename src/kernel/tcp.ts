/** Many TCP sockets' state in one native call (native/tcp.cc). */
import { addon } from "./addon.ts";

/** Sockets to dump, by index. */
export interface ConnectionsToDump {
  /** Process that has it; −1: this one. */
  pidfds: Int32Array;
  fds: Int32Array;
  /** Their records' places. */
  slots: Int32Array;
  /** Where their stamps are, bytes from the beginning of `stamps`; −1: there is none. */
  stampsAt: Int32Array;
  /** What the kernel had of each a moment ago (resources/tcp/stamp.ts). */
  stamps: Buffer;
  /** Stamps of the dumps before, in their records' places. Whoever has the same again is as before. */
  known: Buffer;
  /** False: nobody has set one since the dump before, so that they need not be read. */
  options: boolean;
}

/**
 * Dumps sockets, from the one with index `from` on, into the records of `next` and compares them with those of `previous`; stops early
 * when `bytes` is full. `known` is brought up to date for those that are as before, for others it is left to the caller.
 * @param results per socket: 1 changed, 0 as before, or −errno
 * @param used one double: how much of `bytes` is used, before and after
 * @returns how many were dumped
 */
export function dumpConnections(
  { pidfds, fds, slots, stampsAt, stamps, known, options }: ConnectionsToDump,
  from: number,
  previous: Buffer,
  next: Buffer,
  results: Int32Array,
  bytes: Buffer,
  used: Float64Array,
): number {
  return addon.tcpDump(
    pidfds.subarray(from),
    fds.subarray(from),
    slots.subarray(from),
    previous,
    next,
    results.subarray(from),
    bytes,
    options,
    stampsAt.subarray(from),
    stamps,
    known,
    used,
  );
}
