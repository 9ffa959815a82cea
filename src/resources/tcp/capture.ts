/**
 * Dumps the TCP sockets of a running application, in the stop; one native call for all. With `linger`, a duplicate of each
 * connected socket's descriptor is kept from dump to dump: a socket that the application has closed stays known until its
 * last bytes are acknowledged, so that a clone can deliver them too (its FIN then leaves with the dump after the close).
 */
import { closeDescriptor, tryCall } from "../../kernel/calls.ts";
import { checked, SystemCallError } from "../../kernel/errors.ts";
import { shutdown } from "../../kernel/socket.ts";
import { dumpConnections } from "../../kernel/tcp.ts";
import type { OptionWatch } from "./option-watch.ts";
import { FLAG, RECORD_BYTES, STATE, TcpRecord } from "./record.ts";
import { applyTcpChange, type TcpState } from "./state.ts";

export interface TcpSocket {
  /** Unique among open sockets. */
  id: string;
  /** A descriptor of this process for it; −1 when `keeps(id)`. */
  fd: number;
}

export interface TcpDump {
  /** Of each socket asked for, in order. The same object as in the dump before when nothing changed. */
  states: TcpState[];
  /** Sockets that the application has closed and whose peers have not acknowledged all, by id. */
  lingering: Map<string, TcpState>;
  /** Connections that wait in listening sockets and that the application has not accepted. */
  notAccepted: number;
}

interface Entry {
  id: string;
  slot: number;
  /** Kept duplicate, or −1. Listening and unconnected sockets are never kept: their close must free the port at once. */
  kept: number;
  state: TcpState | undefined;
}

const ENOBUFS = -105;
const F_DUPFD_CLOEXEC = 1030;
const FIRST_SLOTS = 64;
const FIRST_BYTES = 1 << 20;
const MOST_BYTES = 1 << 30;
const SHUT_WR = 1;

export class TcpCapture {
  readonly #entries = new Map<string, Entry>();
  readonly #freeSlots: number[] = [];
  readonly #out = new Float64Array(1);
  #slots = 0;
  #previous = Buffer.alloc(0);
  #next = Buffer.alloc(0);
  #bytes = Buffer.alloc(FIRST_BYTES);
  #linger = false;
  #watch: OptionWatch | undefined;

  /** With a watch, options are read only when somebody set one: about thirty system calls less per socket. */
  setWatch(watch: OptionWatch): void {
    this.#watch?.close();
    this.#watch = watch;
  }

  /** Off lets go of all kept descriptors: closed sockets then end as the kernel ends them. */
  setLinger(linger: boolean): void {
    this.#linger = linger;
    if (linger) return;
    for (const entry of this.#entries.values()) {
      closeDescriptor(entry.kept);
      entry.kept = -1;
    }
  }

  keeps(id: string): boolean {
    return (this.#entries.get(id)?.kept ?? -1) >= 0;
  }

  /**
   * Dumps all sockets that the application has. The application is stopped, and the mark in the held output was taken
   * before (`OutputHold.drain`): what the kernel sends between mark and dump then belongs to the next epoch.
   */
  dump(sockets: readonly TcpSocket[]): TcpDump {
    const entries = sockets.map(({ id }) => this.#entry(id));
    const listed = new Set(entries);
    const closed = [...this.#entries.values()].filter((entry) => !listed.has(entry));
    const lingering = closed.filter((entry) => entry.kept >= 0);
    for (const entry of closed) if (entry.kept < 0) this.#forget(entry);
    const all = [...entries, ...lingering];
    const fds = Int32Array.from(all, (entry, i) => (entry.kept >= 0 ? entry.kept : sockets[i]!.fd));
    const notAccepted = this.#dumpAll(all, fds, this.#watch?.changed() ?? true);
    for (const entry of lingering) this.#end(entry);
    return {
      states: entries.map((entry) => entry.state!),
      lingering: new Map(lingering.map((entry) => [entry.id, entry.state!])),
      notAccepted,
    };
  }

  #dumpAll(all: Entry[], fds: Int32Array, options: boolean): number {
    const slots = Int32Array.from(all, (entry) => entry.slot);
    const results = new Int32Array(all.length);
    for (let from = 0; from < all.length; ) {
      const rest = results.subarray(from);
      const done = dumpConnections(
        fds.subarray(from),
        slots.subarray(from),
        this.#previous,
        this.#next,
        rest,
        this.#bytes,
        options,
        this.#out,
      );
      let at = 0;
      for (let i = 0; i < done; i++) {
        if (rest[i] === 0) continue;
        checked(rest[i]!, "tcpDump", `socket ${all[from + i]!.id}`);
        at += this.#take(all[from + i]!, fds[from + i]!, at);
      }
      from += done;
      if (from < all.length) this.#grow();
    }
    let notAccepted = 0;
    for (const { state } of all) if (state?.record.state === STATE.listen) notAccepted += state.record.backlog;
    return notAccepted;
  }

  /** Takes what the native call left for one socket; returns how many bytes of queues that was. */
  #take(entry: Entry, fd: number, at: number): number {
    const record = this.#record(this.#next, entry.slot);
    record.copy(this.#previous, entry.slot * RECORD_BYTES);
    const { receiveBytes, sendBytes, state } = new TcpRecord(record);
    const length = receiveBytes + sendBytes;
    const content = Buffer.allocUnsafe(RECORD_BYTES + length);
    record.copy(content);
    this.#bytes.copy(content, RECORD_BYTES, at, at + length);
    entry.state = applyTcpChange(entry.state, content);
    const connected = state !== STATE.listen && state !== STATE.closed && state !== STATE.synSent;
    if (this.#linger && connected && entry.kept < 0) entry.kept = tryCall("fcntl", fd, F_DUPFD_CLOEXEC, 0);
    return length;
  }

  #grow(): void {
    const size = this.#bytes.length * 4;
    if (size > MOST_BYTES) throw new SystemCallError("tcpDump", ENOBUFS);
    this.#bytes = Buffer.alloc(size);
  }

  /** Ends a closed socket as the kernel would have: what is unsent is still sent, then FIN. */
  #end(entry: Entry): void {
    const { record, received } = entry.state!;
    const { state, flags, linger } = record;
    const resets = linger.readInt32LE(0) !== 0 && linger.readInt32LE(4) === 0;
    // Closing with unread bytes, or with a zero linger time, resets the connection: nothing is owed to the peer.
    const over = received.length > 0 || resets || (flags & FLAG.failed) !== 0 || state === STATE.closed;
    const delivered = (flags & FLAG.finSent) !== 0 && (state === STATE.finWait2 || state === STATE.timeWait);
    if (over || delivered) this.#forget(entry);
    else if (!(flags & FLAG.finSent)) shutdown(entry.kept, SHUT_WR);
  }

  #entry(id: string): Entry {
    const known = this.#entries.get(id);
    if (known !== undefined) return known;
    const entry: Entry = { id, slot: this.#takeSlot(), kept: -1, state: undefined };
    this.#entries.set(id, entry);
    return entry;
  }

  #forget(entry: Entry): void {
    closeDescriptor(entry.kept);
    this.#record(this.#previous, entry.slot).fill(0);
    this.#freeSlots.push(entry.slot);
    this.#entries.delete(entry.id);
  }

  #record(pool: Buffer, slot: number): Buffer {
    return pool.subarray(slot * RECORD_BYTES, (slot + 1) * RECORD_BYTES);
  }

  #takeSlot(): number {
    const free = this.#freeSlots.pop();
    if (free !== undefined) return free;
    const capacity = this.#previous.length / RECORD_BYTES;
    if (this.#slots === capacity) {
      const more = Buffer.alloc(Math.max(FIRST_SLOTS, capacity) * RECORD_BYTES);
      this.#previous = Buffer.concat([this.#previous, more]);
      this.#next = Buffer.concat([this.#next, more]);
    }
    return this.#slots++;
  }

  /** Forgets everything; sockets that the application has closed end now. */
  close(): void {
    for (const entry of [...this.#entries.values()]) this.#forget(entry);
  }
}
