/** Many TCP sockets' state in one native call (native/tcp.cc). */
import { addon } from "./addon.ts";

/** Sockets to dump, by index. */
export interface ConnectionsToDump {
  /** Process that has it; −1: this one. */
  pidfds: Int32Array;
  fds: Int32Array;
  /** Their records' places. */
  slots: Int32Array;
  /** What the kernel had of each a moment ago (resources/tcp/stamp.ts). */
  stamps: Buffer;
  /** False: nobody has set one since the dump before, so that they need not be read. */
  options: boolean;
}

/**
 * Dumps sockets, from the one with index `from` on, into the records of `next` and compares them with those of `previous`; stops early
 * when `bytes` is full.
 * @param results per socket: 1 changed, 0 as before, or −errno
 * @param out one double: how much of `bytes` is used
 * @returns how many were dumped
 */
export function dumpConnections(
  { pidfds, fds, slots, stamps, options }: ConnectionsToDump,
  from: number,
  previous: Buffer,
  next: Buffer,
  results: Int32Array,
  bytes: Buffer,
  out: Float64Array,
): number {
  const stampBytes = stamps.length / fds.length;
  return addon.tcpDump(
    pidfds.subarray(from),
    fds.subarray(from),
    slots.subarray(from),
    previous,
    next,
    results.subarray(from),
    bytes,
    options,
    stamps.subarray(from * stampBytes),
    out,
  );
}
