/**
 * Dumps the TCP sockets that a running application has open. In the stop only the kernel is asked, natively, for all that their
 * stamps call for; what it said is put together when the application runs again. What it has closed is the matter of orphans.ts.
 */
import { checked, SystemCallError } from "../../kernel/errors.ts";
import { type ConnectionsToDump, dumpConnections } from "../../kernel/tcp.ts";
import type { OptionWatch } from "./option-watch.ts";
import { RECORD_BYTES, STATE, TcpRecord } from "./record.ts";
import { refuseFiltered, refuseSigning } from "./refused.ts";
import { STAMP, STAMP_BYTES, type Stamps } from "./stamp.ts";
import { applyTcpChange, type TcpState } from "./state.ts";

export interface TcpSocket {
  /** Unique among open sockets. */
  id: string;
  /** Process that has it, as a pidfd; −1: this one. */
  pidfd: number;
  fd: number;
  /** What the kernel has of that process's sockets in each stop. */
  stamps?: Stamps | undefined;
}

interface Entry {
  id: string;
  slot: number;
  state: TcpState | undefined;
}

/** Sockets of one process, in the form of the native call. */
interface Part extends Omit<ConnectionsToDump, "stamps" | "known" | "options"> {
  source: Stamps | undefined;
  entries: Entry[];
  /** Of the call: 1 changed, 0 as before. */
  results: Int32Array;
}

/** All sockets of one process: the same from stop to stop as long as its table is. */
interface Whole extends Part {
  /** `source.now` of the last dump that was finished; what was not touched since is as it was then. */
  since: number | undefined;
  byFd: ReadonlyMap<number, number>;
  /** Those of which stamps do not tell all. */
  restless: Set<number>;
}

/** What one native call left. */
interface Piece {
  part: Part;
  from: number;
  to: number;
  /** The queues of those that changed, one after the other from `at` on. */
  bytes: Buffer;
  at: number;
}

const NO_STAMPS = Buffer.alloc(0);
const ENOBUFS = -105;
const FIRST_SLOTS = 64;
const FIRST_BYTES = 1 << 20;
const MOST_BYTES = 1 << 30;

export class TcpCapture {
  readonly #entries = new Map<string, Entry>();
  readonly #freeSlots: number[] = [];
  /** Of the native call: how much of the bytes is used. */
  readonly #used = new Float64Array(1);
  #slots = 0;
  #previous = Buffer.alloc(0);
  #next = Buffer.alloc(0);
  /** As of each socket's last dump, by slot. */
  #stamps = Buffer.alloc(0);
  #bytes = Buffer.alloc(FIRST_BYTES);
  #watch: OptionWatch | undefined;
  /** Somebody may have set one since the last dump that was finished. */
  #owesOptions = true;
  #plan: { sockets: readonly TcpSocket[]; parts: Whole[]; states: TcpState[] | undefined } | undefined;

  /** With a watch, options are read only when somebody set one: about thirty system calls less per socket. */
  setWatch(watch: OptionWatch): void {
    this.#watch?.close();
    this.#watch = watch;
  }

  /** At once; see `take`. */
  dump(sockets: readonly TcpSocket[]): TcpState[] {
    return this.take(sockets)();
  }

  /**
   * Dumps all sockets that the application has. The application is stopped, and the mark in the held output was taken
   * before (`OutputHold.drain`): what the kernel sends between mark and dump then belongs to the next epoch.
   * @param sockets the same array as before when they are the same: then nothing is done for those whose stamps are the same
   * @returns to be called before the next stop, or never, when this one failed: states in the order of the sockets, each the same
   *   object as in the dump before when nothing changed; the same array when nothing changed of any
   */
  take(sockets: readonly TcpSocket[]): () => TcpState[] {
    if (this.#plan?.sockets !== sockets) this.#makePlan(sockets);
    if (this.#watch?.changed() ?? true) this.#owesOptions = true;
    const options = this.#owesOptions;
    this.#used[0] = 0;
    const plan = this.#plan!;
    const looks = plan.parts.map((whole) => {
      const part = options ? whole : restOf(whole);
      return { whole, part, now: whole.source?.now, pieces: this.#takePart(part, options) };
    });
    return () => {
      let changed = false;
      for (const { whole, part, now, pieces } of looks) {
        for (const piece of pieces) if (this.#finish(piece)) changed = true;
        this.#noteRestless(whole, part);
        whole.since = now;
      }
      this.#owesOptions = false;
      if (changed || plan.states === undefined) plan.states = sockets.map(({ id }) => this.#entries.get(id)!.state!);
      return plan.states;
    };
  }

  /** After a dump of these of them. */
  #noteRestless({ byFd, restless }: Whole, { entries, fds, stampsAt, source }: Part): void {
    entries.forEach(({ state }, i) => {
      const at = stampsAt[i]!;
      const told =
        at >= 0 && isToldByStamp(state!.record.state) && source!.bytes.readUInt32LE(at + STAMP.unsettled) === 0;
      if (told) restless.delete(byFd.get(fds[i]!)!);
      else restless.add(byFd.get(fds[i]!)!);
    });
  }

  #takePart(part: Part, options: boolean): Piece[] {
    const pieces: Piece[] = [];
    const call = { ...part, stamps: part.source?.bytes ?? NO_STAMPS, known: this.#stamps, options };
    for (let from = 0; from < part.entries.length; ) {
      const at = this.#used[0]!;
      const done = dumpConnections(call, from, this.#previous, this.#next, part.results, this.#bytes, this.#used);
      pieces.push({ part, from, to: from + done, bytes: this.#bytes, at });
      from += done;
      if (from < part.entries.length) this.#grow();
    }
    part.results.forEach((result, i) => {
      if (result < 0) checked(result, "tcpDump", `socket ${part.entries[i]!.id}`);
      if (result > 0) this.#refuse(part, i, options);
    });
    return pieces;
  }

  /** Keys are given to sockets that listen, or before they have a connection. */
  #refuse({ entries, pidfds, fds }: Part, i: number, options: boolean): void {
    const { id, slot, state } = entries[i]!;
    if (state !== undefined && !options) return;
    const place = { id, pidfd: pidfds[i]!, fd: fds[i]! };
    const record = new TcpRecord(recordIn(this.#next, slot));
    refuseFiltered(place, record);
    if (state === undefined || record.state === STATE.listen) refuseSigning(place);
  }

  /** Returns whether any changed. */
  #finish({ part, from, to, bytes, at }: Piece): boolean {
    const { entries, results, stampsAt, source } = part;
    let used = at;
    let changed = false;
    for (let i = from; i < to; i++) {
      if (results[i] === 0) continue;
      changed = true;
      const entry = entries[i]!;
      used += this.#takeRecord(entry, bytes, used);
      const stamp = this.#stamps.subarray(entry.slot * STAMP_BYTES, (entry.slot + 1) * STAMP_BYTES);
      if (stampsAt[i]! < 0) stamp.fill(0);
      else source!.bytes.copy(stamp, 0, stampsAt[i]!, stampsAt[i]! + STAMP_BYTES);
    }
    return changed;
  }

  /** Takes what the native call left for one socket; returns how many bytes of queues that was. */
  #takeRecord(entry: Entry, bytes: Buffer, at: number): number {
    const record = recordIn(this.#next, entry.slot);
    record.copy(this.#previous, entry.slot * RECORD_BYTES);
    const { receiveBytes, sendBytes } = new TcpRecord(record);
    const length = receiveBytes + sendBytes;
    const content = Buffer.allocUnsafe(RECORD_BYTES + length);
    record.copy(content);
    bytes.copy(content, RECORD_BYTES, at, at + length);
    entry.state = applyTcpChange(entry.state, content);
    return length;
  }

  /** What was taken so far stays where it is. */
  #grow(): void {
    const size = this.#bytes.length * 4;
    if (size > MOST_BYTES) throw new SystemCallError("tcpDump", ENOBUFS);
    this.#bytes = Buffer.alloc(size);
    this.#used[0] = 0;
  }

  #makePlan(sockets: readonly TcpSocket[]): void {
    const entries = sockets.map(({ id }) => this.#entry(id));
    if (this.#entries.size > entries.length) {
      const listed = new Set(entries);
      for (const entry of [...this.#entries.values()]) if (!listed.has(entry)) this.#forget(entry);
    }
    const bySource = Map.groupBy(
      sockets.map((socket, i) => ({ socket, entry: entries[i]! })),
      ({ socket }) => socket.stamps,
    );
    const parts = [...bySource].map(([source, members]): Whole => {
      return {
        source,
        entries: members.map(({ entry }) => entry),
        pidfds: Int32Array.from(members, ({ socket }) => socket.pidfd),
        fds: Int32Array.from(members, ({ socket }) => socket.fd),
        slots: Int32Array.from(members, ({ entry }) => entry.slot),
        stampsAt: Int32Array.from(members, ({ socket }) => source?.at(socket.fd) ?? -1),
        results: new Int32Array(members.length),
        since: undefined,
        byFd: new Map(members.map(({ socket }, i) => [socket.fd, i])),
        restless: new Set(),
      };
    });
    this.#plan = { sockets, parts, states: undefined };
  }

  #entry(id: string): Entry {
    const known = this.#entries.get(id);
    if (known !== undefined) return known;
    const entry: Entry = { id, slot: this.#takeSlot(), state: undefined };
    this.#entries.set(id, entry);
    return entry;
  }

  #forget(entry: Entry): void {
    recordIn(this.#previous, entry.slot).fill(0);
    this.#freeSlots.push(entry.slot);
    this.#entries.delete(entry.id);
  }

  #takeSlot(): number {
    const free = this.#freeSlots.pop();
    if (free !== undefined) return free;
    const capacity = this.#previous.length / RECORD_BYTES;
    if (this.#slots === capacity) {
      const more = Math.max(FIRST_SLOTS, capacity);
      this.#previous = Buffer.concat([this.#previous, Buffer.alloc(more * RECORD_BYTES)]);
      this.#next = Buffer.concat([this.#next, Buffer.alloc(more * RECORD_BYTES)]);
      this.#stamps = Buffer.concat([this.#stamps, Buffer.alloc(more * STAMP_BYTES)]);
    }
    return this.#slots++;
  }

  /** Forgets everything. */
  close(): void {
    for (const entry of [...this.#entries.values()]) this.#forget(entry);
    this.#plan = undefined;
  }
}

/** As native/tcp.cc has it. */
function isToldByStamp(state: number): boolean {
  return ![STATE.synSent, STATE.synReceived, STATE.timeWait, STATE.closed].some((other) => other === state);
}

/** Those of a process's sockets that something may have happened to since the last dump. */
function restOf(whole: Whole): Part {
  const { source, since, byFd, restless } = whole;
  const touched = since === undefined ? undefined : source?.touchedSince(since);
  if (touched === undefined) return whole;
  const chosen = new Set(restless);
  for (const fd of touched) {
    const i = byFd.get(fd);
    if (i !== undefined) chosen.add(i);
  }
  const indexes = [...chosen];
  const some = (all: Int32Array) => Int32Array.from(indexes, (i) => all[i]!);
  return {
    source,
    entries: indexes.map((i) => whole.entries[i]!),
    pidfds: some(whole.pidfds),
    fds: some(whole.fds),
    slots: some(whole.slots),
    stampsAt: some(whole.stampsAt),
    results: new Int32Array(indexes.length),
  };
}

function recordIn(pool: Buffer, slot: number): Buffer {
  return pool.subarray(slot * RECORD_BYTES, (slot + 1) * RECORD_BYTES);
}
