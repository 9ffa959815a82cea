/** Many TCP sockets' state in one native call (native/tcp.cc). */
import { addon } from "./addon.ts";

/**
 * Dumps the sockets that are descriptors `fds` of this process, one after the other, into the records `slots` of `next`, and
 * compares them with those of `previous`; stops early when `bytes` is full.
 * @param results per socket: 1 changed, 0 as before, or −errno
 * @param options false: nobody has set one since then, so that they need not be read
 * @param out one double: how much of `bytes` is used
 * @returns how many were dumped
 */
export function dumpConnections(
  fds: Int32Array,
  slots: Int32Array,
  previous: Buffer,
  next: Buffer,
  results: Int32Array,
  bytes: Buffer,
  options: boolean,
  out: Float64Array,
): number {
  return addon.tcpDump(-1, fds, slots, previous, next, results, bytes, options, out);
}
