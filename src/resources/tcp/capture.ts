/**
 * Dumps the TCP sockets that a running application has open, in the stop; one native call for all. What it has closed is the
 * matter of orphans.ts.
 */
import { checked, SystemCallError } from "../../kernel/errors.ts";
import { dumpConnections } from "../../kernel/tcp.ts";
import type { OptionWatch } from "./option-watch.ts";
import { RECORD_BYTES, STATE, TcpRecord } from "./record.ts";
import { STAMP_BYTES } from "./stamp.ts";
import { applyTcpChange, type TcpState } from "./state.ts";

export interface TcpSocket {
  /** Unique among open sockets. */
  id: string;
  /** Process that has it, as a pidfd; −1: this one. */
  pidfd: number;
  fd: number;
  /** What the kernel has of it in this stop: see stamp.ts. */
  stamp?: Buffer | undefined;
}

export interface TcpDump {
  /** Of each socket asked for, in order. The same object as in the dump before when nothing changed. */
  states: TcpState[];
  /** Connections that wait in listening sockets and that the application has not accepted. */
  notAccepted: number;
}

interface Entry {
  id: string;
  slot: number;
  state: TcpState | undefined;
  /** As of its last dump; no bytes: unknown. */
  stamp: Buffer;
}

const NO_STAMP = Buffer.alloc(STAMP_BYTES, 255);
const NONE = Buffer.alloc(0);
/** In these states nothing happens to a socket that its stamp does not show; an unconnected one may get another address. */
const TOLD_BY_STAMP = new Set<number>([
  STATE.established,
  STATE.finWait1,
  STATE.finWait2,
  STATE.closeWait,
  STATE.lastAck,
  STATE.closing,
  STATE.listen,
]);

const ENOBUFS = -105;
const FIRST_SLOTS = 64;
const FIRST_BYTES = 1 << 20;
const MOST_BYTES = 1 << 30;

export class TcpCapture {
  readonly #entries = new Map<string, Entry>();
  readonly #freeSlots: number[] = [];
  readonly #out = new Float64Array(1);
  #slots = 0;
  #previous = Buffer.alloc(0);
  #next = Buffer.alloc(0);
  #bytes = Buffer.alloc(FIRST_BYTES);
  #watch: OptionWatch | undefined;

  /** With a watch, options are read only when somebody set one: about thirty system calls less per socket. */
  setWatch(watch: OptionWatch): void {
    this.#watch?.close();
    this.#watch = watch;
  }

  /**
   * Dumps all sockets that the application has. The application is stopped, and the mark in the held output was taken
   * before (`OutputHold.drain`): what the kernel sends between mark and dump then belongs to the next epoch.
   */
  dump(sockets: readonly TcpSocket[]): TcpDump {
    const entries = sockets.map(({ id }) => this.#entry(id));
    if (this.#entries.size > entries.length) {
      const listed = new Set(entries);
      for (const entry of [...this.#entries.values()]) if (!listed.has(entry)) this.#forget(entry);
    }
    const options = this.#watch?.changed() ?? true;
    const due: number[] = [];
    for (let i = 0; i < entries.length; i++) {
      const { state, stamp } = entries[i]!;
      const now = sockets[i]!.stamp;
      if (options || !state || !now?.equals(stamp) || !TOLD_BY_STAMP.has(state.record.state)) due.push(i);
    }
    this.#dumpAll(
      due.map((i) => entries[i]!),
      due.map((i) => sockets[i]!),
      options,
    );
    let notAccepted = 0;
    for (const { state } of entries) if (state?.record.state === STATE.listen) notAccepted += state.record.backlog;
    return { states: entries.map((entry) => entry.state!), notAccepted };
  }

  #dumpAll(entries: Entry[], sockets: TcpSocket[], options: boolean): void {
    const due = {
      pidfds: Int32Array.from(sockets, ({ pidfd }) => pidfd),
      fds: Int32Array.from(sockets, ({ fd }) => fd),
      slots: Int32Array.from(entries, ({ slot }) => slot),
      stamps: Buffer.concat(sockets.map(({ stamp }) => stamp ?? NO_STAMP)),
      options,
    };
    const results = new Int32Array(entries.length);
    for (let from = 0; from < entries.length; ) {
      const done = dumpConnections(due, from, this.#previous, this.#next, results, this.#bytes, this.#out);
      let at = 0;
      for (let i = from; i < from + done; i++) {
        const entry = entries[i]!;
        if (results[i] !== 0) {
          checked(results[i]!, "tcpDump", `socket ${entry.id}`);
          at += this.#take(entry, at);
        }
        entry.stamp = sockets[i]!.stamp ? Buffer.from(sockets[i]!.stamp!) : NONE;
      }
      from += done;
      if (from < entries.length) this.#grow();
    }
  }

  /** Takes what the native call left for one socket; returns how many bytes of queues that was. */
  #take(entry: Entry, at: number): number {
    const record = this.#record(this.#next, entry.slot);
    record.copy(this.#previous, entry.slot * RECORD_BYTES);
    const { receiveBytes, sendBytes } = new TcpRecord(record);
    const length = receiveBytes + sendBytes;
    const content = Buffer.allocUnsafe(RECORD_BYTES + length);
    record.copy(content);
    this.#bytes.copy(content, RECORD_BYTES, at, at + length);
    entry.state = applyTcpChange(entry.state, content);
    return length;
  }

  #grow(): void {
    const size = this.#bytes.length * 4;
    if (size > MOST_BYTES) throw new SystemCallError("tcpDump", ENOBUFS);
    this.#bytes = Buffer.alloc(size);
  }

  #entry(id: string): Entry {
    const known = this.#entries.get(id);
    if (known !== undefined) return known;
    const entry: Entry = { id, slot: this.#takeSlot(), state: undefined, stamp: NONE };
    this.#entries.set(id, entry);
    return entry;
  }

  #forget(entry: Entry): void {
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

  /** Forgets everything. */
  close(): void {
    for (const entry of [...this.#entries.values()]) this.#forget(entry);
  }
}
