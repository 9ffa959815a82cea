/**
 * Output commit's brake: what leaves the application waits in an NFQUEUE on the node's side until it is released. Fail-closed:
 * when this process ends, the kernel drops what is held, and what comes later too, because the rule has no way around.
 */
import { createHash } from "node:crypto";
import { checked, SystemCallError } from "../kernel/errors.ts";
import { OperatingError } from "../kernel/failure.ts";
import { attribute, NETLINK_NETFILTER, Netlink } from "../kernel/netlink.ts";
import { drainQueue, judgeQueue } from "../kernel/packet-queue.ts";
import { SOL_NETLINK, setOption } from "../kernel/socket.ts";
import { unwatch, type WatchHandle, watchReadable } from "../kernel/watch.ts";
import { installHoldRules, removeHoldRules } from "./hold-rules.ts";
import { type ApplicationInterface, nodeEndName } from "./interface.ts";

const QUEUE_SUBSYSTEM = 3 << 8;
const MESSAGE_CONFIGURE = QUEUE_SUBSYSTEM | 2;
const CONFIGURE = { command: 1, parameters: 2, maximum: 3, mask: 4, flags: 5 } as const;
const COMMAND_BIND = 1;
const COPY_METADATA = 1;
const FLAG_GSO = 4;
const NETLINK_NO_ENOBUFS = 5;
const VERDICT = { drop: 0, accept: 1 } as const;

/** Beyond this the kernel drops, as a full switch would. */
const HELD_PACKETS_LIMIT = 32768;
const RECEIVE_BUFFER_BYTES = 64 << 20;
const QUEUE_TRIES = 64;

export interface Drained {
  /** The newest packet held; 0 when there never was one. Everything up to it left the application before this call. */
  lastId: number;
  /** Packets found by this call. */
  packets: number;
}

const isAfter = (a: number, b: number): boolean => ((a - b) | 0) > 0;

export class OutputHold {
  readonly queue: number;
  readonly #port: ApplicationInterface;
  readonly #netlink: Netlink;
  readonly #out = new Float64Array(3);
  #lastId = 0;
  #releasedId = 0;
  #watch: WatchHandle | undefined;
  #callback: (packets: number) => void = () => {};

  private constructor(port: ApplicationInterface, netlink: Netlink, queue: number) {
    this.#port = port;
    this.#netlink = netlink;
    this.queue = queue;
  }

  /**
   * Binds a queue and sets the rules (about 20 ms). Nothing is held before `hold()`, unless the port was holding already
   * when its former owner died: then it goes on holding.
   */
  static open(port: ApplicationInterface): OutputHold {
    const netlink = new Netlink(NETLINK_NETFILTER);
    try {
      netlink.setReceiveBuffer(RECEIVE_BUFFER_BYTES);
      checked(setOption(netlink.fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, 1), "setsockopt", "NETLINK_NO_ENOBUFS");
      const queue = bindQueue(netlink, port.nodeEnd);
      installHoldRules(port.nodeEnd, queue);
      const hold = new OutputHold(port, netlink, queue);
      hold.#listen();
      return hold;
    } catch (error) {
      netlink.close();
      throw error;
    }
  }

  /** Output waits from now on. */
  hold(): void {
    this.#port.setFree(false);
  }

  /** Output goes out at once, what is held first. Only when nothing needs to be waited for. */
  passThrough(): void {
    this.drain();
    this.release(this.#lastId);
    this.#port.setFree(true);
    this.#releaseStragglers();
  }

  get holding(): boolean {
    return !this.#port.free;
  }

  /**
   * Learns of all packets held now; never waits, ≤ 2 µs a packet. Called in the stop *before* sockets are dumped: an
   * acknowledgement that the kernel sends between the two must belong to the next epoch, whose dump has the data.
   */
  drain(): Drained {
    drainQueue(this.#netlink.fd, this.queue, this.#out);
    const packets = this.#out[0]!;
    if (packets > 0) this.#lastId = this.#out[1]!;
    return { lastId: this.#lastId, packets };
  }

  /** Lets everything up to `upToId` go, in order. The packets' way onward runs inside this call. */
  release(upToId: number): void {
    this.#verdict(upToId, VERDICT.accept);
  }

  /** Throws everything held away: this node may not speak any more. */
  discard(): void {
    this.drain();
    this.#verdict(this.#lastId, VERDICT.drop);
  }

  #verdict(upToId: number, verdict: number): void {
    if (!isAfter(upToId, this.#releasedId)) return;
    judgeQueue(this.#netlink.fd, this.queue, upToId, verdict);
    this.#releasedId = upToId;
  }

  /** Packets known to be held. */
  get pending(): number {
    return (this.#lastId - this.#releasedId) >>> 0;
  }

  /** Called when packets have come since the last call, with their number; they are drained already. */
  onPacket(callback: (packets: number) => void): void {
    this.#callback = callback;
  }

  #listen(): void {
    this.#watch = watchReadable(this.#netlink.fd, () => {
      const { packets } = this.drain();
      if (packets === 0) return;
      if (this.#port.free) this.release(this.#lastId);
      else this.#callback(packets);
    });
  }

  /** Packets judged before the mode changed may still be on their way into the queue; the watcher takes the later ones. */
  #releaseStragglers(): void {
    this.drain();
    this.release(this.#lastId);
  }

  /** Gives the queue up: what is held is dropped. The rules stay, so that nothing leaves until another owner comes. */
  close(): void {
    if (this.#watch === undefined) return;
    unwatch(this.#watch);
    this.#watch = undefined;
    this.#netlink.close();
  }

  /** As `close`, and takes the rules away: from now on output of this interface is free. */
  remove(): void {
    this.close();
    removeHold(this.#port.nodeEnd);
  }
}

/** Removes what a predecessor left on this node; no error when there is nothing. */
export function removeHold(nodeEnd: string): void {
  removeHoldRules(nodeEnd);
}

/** As `removeHold`, by the application's name. */
export function removeHoldOf(application: string): void {
  removeHoldRules(nodeEndName(application));
}

function bindQueue(netlink: Netlink, nodeEnd: string): number {
  const first = createHash("sha256").update(nodeEnd).digest().readUInt16BE(0);
  for (let i = 0; i < QUEUE_TRIES; i++) {
    const queue = 1 + ((first + i) % 65535);
    try {
      configure(netlink, queue, attribute(CONFIGURE.command, Buffer.from([COMMAND_BIND, 0, 0, 2])));
    } catch (error) {
      // Another process owns this number (EBUSY, or EPERM from older kernels): take the next.
      if (error instanceof SystemCallError && (error.code === "EBUSY" || error.code === "EPERM")) continue;
      throw error;
    }
    const parameters = Buffer.from([0, 0, 0, 0, COPY_METADATA]);
    configure(
      netlink,
      queue,
      attribute(CONFIGURE.parameters, parameters),
      attribute(CONFIGURE.maximum, bigEndian(HELD_PACKETS_LIMIT)),
      attribute(CONFIGURE.mask, bigEndian(FLAG_GSO)),
      attribute(CONFIGURE.flags, bigEndian(FLAG_GSO)),
    );
    return queue;
  }
  throw new OperatingError("no-free-queue", `No free packet queue was found for interface "${nodeEnd}"`, {
    remedy: "See /proc/net/netfilter/nfnetlink_queue for the processes that own queues.",
  });
}

function configure(netlink: Netlink, queue: number, ...attributes: Buffer[]): void {
  const general = Buffer.alloc(4);
  general.writeUInt16BE(queue, 2);
  netlink.request(`queue ${queue}`, MESSAGE_CONFIGURE, 0, general, ...attributes);
}

function bigEndian(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value);
  return out;
}
