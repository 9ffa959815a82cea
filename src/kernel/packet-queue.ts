/** Packets that a netfilter queue holds (native/nfqueue.cc). */
import { addon } from "./addon.ts";
import { checked } from "./errors.ts";

/**
 * Reads all packet messages waiting on a queue's netlink socket; never waits.
 * @param out 4 doubles: packets, id of the last one, bytes, 1 when something else than a packet came
 */
export function drainQueue(fd: number, queue: number, out: Float64Array): void {
  checked(addon.queueDrain(fd, out), "recvmmsg", queue);
}

/** One verdict for all packets of the queue up to the id. */
export function judgeQueue(fd: number, queue: number, upToId: number, verdict: number): void {
  checked(addon.queueVerdict(fd, queue, upToId, verdict), "sendmsg", queue);
}
