/** The addon's loops for queued packets and TCP sockets (native/nfqueue.cc, native/tcp.cc). */
import { type Addon, addon } from "./addon.ts";

interface NetworkAddon {
  /** Receives all frames waiting on one packet socket and sends them on another, headers of offloads included. */
  forwardFrames(fromFd: number, toFd: number): number;
  /**
   * Reads all packet messages waiting on a queue's netlink socket. `out` (4 doubles): packets, id of the last one,
   * bytes, 1 when something else than a packet came.
   */
  queueDrain(fd: number, out: Float64Array): number;
  /** One verdict for all packets of the queue up to the id. */
  queueVerdict(fd: number, queue: number, upToId: number, verdict: number): number;
  /** See native/tcp.cc. */
  tcpDump(
    pidfd: number,
    fds: Int32Array,
    slots: Int32Array,
    previous: Buffer,
    next: Buffer,
    results: Int32Array,
    bytes: Buffer,
    options: boolean,
    out: Float64Array,
  ): number;
}

export const networkAddon = addon as Addon & NetworkAddon;
