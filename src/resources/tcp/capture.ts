/**
 * Dumps the TCP sockets that a running application has open, in the stop; one native call for all. What it has closed is the
 * matter of orphans.ts.
 */
import { checked, SystemCallError } from "../../kernel/errors.ts";
import { dumpConnections } from "../../kernel/tcp.ts";
import type { OptionWatch } from "./option-watch.ts";
import { RECORD_BYTES, STATE, TcpRecord } from "./record.ts";
import { applyTcpChange, type TcpState } from "./state.ts";

export interface TcpSocket {
  /** Unique among open sockets. */
  id: string;
  /** A descriptor of this process for it. */
  fd: number;
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
}

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
    const listed = new Set(entries);
    for (const entry of [...this.#entries.values()]) if (!listed.has(entry)) this.#forget(entry);
    const fds = Int32Array.from(sockets, ({ fd }) => fd);
    const notAccepted = this.#dumpAll(entries, fds, this.#watch?.changed() ?? true);
    return { states: entries.map((entry) => entry.state!), notAccepted };
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
        at += this.#take(all[from + i]!, at);
      }
      from += done;
      if (from < all.length) this.#grow();
    }
    let notAccepted = 0;
    for (const { state } of all) if (state?.record.state === STATE.listen) notAccepted += state.record.backlog;
    return notAccepted;
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
    const entry: Entry = { id, slot: this.#takeSlot(), state: undefined };
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
