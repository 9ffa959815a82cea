/**
 * Of a process's open files, those that are not as they were at the last look: the kernel itself compares, so that thousands to
 * which nothing happens cost little (BPF, kernel 6.4 with BTF; see changed-program.ts).
 */

import { createMappableMap, linkIterator, loadIteratorProgram } from "../../kernel/bpf.ts";
import { closeDescriptor, readWalk } from "../../kernel/calls.ts";
import { mapShared } from "../../kernel/pages.ts";
import { STAMP_BYTES } from "../tcp/stamp.ts";
import { ChangedProgram, ENTRIES_AT, ENTRY_BYTES, RECORD_BYTES, SHARED } from "./changed-program.ts";
import { HEAD, HEAD_BYTES, openFile, PLAIN_STAMP_BYTES } from "./file-record.ts";
import type { OpenFile, OpenFiles, OpenFileWalk } from "./open-files.ts";
import { Touches } from "./touches.ts";

/** For so many descriptors together there is room at first: 1 MB. */
const FIRST_ENTRIES = 65536;
const NOTHING = Buffer.alloc(0);
/** Of fewer descriptors the memory is soon asked for in the stop itself. */
const WORTH_WARMING = 256;

/** A range of entries, one for each slot of a process's table. */
interface Room {
  pool: Pool;
  first: number;
  slots: number;
}

/** A program, and the memory in which it keeps the numbers of files. */
class Pool {
  readonly shared: Buffer;
  readonly program: number;
  readonly #entries: number;
  #used = 0;
  /** Given back, by their size: tables grow by doubling. */
  readonly #free = new Map<number, number[]>();

  constructor(writer: ChangedProgram, entries: number) {
    this.#entries = entries;
    const bytes = ENTRIES_AT + entries * ENTRY_BYTES;
    const mapFd = createMappableMap(bytes);
    try {
      this.program = loadIteratorProgram("us_changed", writer.write(mapFd, entries), writer.target);
      this.shared = mapShared(mapFd, bytes);
    } finally {
      // The program and the mapping hold it.
      closeDescriptor(mapFd);
    }
  }

  /** Undefined: it is full. */
  take(slots: number): Room | undefined {
    const first = this.#free.get(slots)?.pop() ?? this.#used;
    if (first + slots > this.#entries) return undefined;
    if (first === this.#used) this.#used += slots;
    const room = { pool: this, first, slots };
    entriesOf(room).fill(0);
    return room;
  }

  giveBack({ first, slots }: Room): void {
    const alike = this.#free.get(slots) ?? [];
    alike.push(first);
    this.#free.set(slots, alike);
  }
}

function entriesOf({ pool, first, slots }: Room): Buffer {
  return pool.shared.subarray(ENTRIES_AT + first * ENTRY_BYTES, ENTRIES_AT + (first + slots) * ENTRY_BYTES);
}

export class ChangedFiles implements OpenFiles {
  /** Throws when the kernel has not what it takes. */
  readonly #writer = new ChangedProgram();
  readonly #pools = [new Pool(this.#writer, FIRST_ENTRIES)];

  of(pid: number): OpenFileWalk {
    return new ChangedFileWalk(pid, (slots) => this.#room(slots));
  }

  #room(slots: number): Room {
    for (const pool of this.#pools) {
      const room = pool.take(slots);
      if (room !== undefined) return room;
    }
    const pool = new Pool(this.#writer, Math.max(slots, FIRST_ENTRIES * 4 ** this.#pools.length));
    this.#pools.push(pool);
    return pool.take(slots)!;
  }

  close(): void {
    for (const { program } of this.#pools) closeDescriptor(program);
  }
}

const FIRST_SLOTS = 64;
const FIRST_FILES = 64;

class ChangedFileWalk implements OpenFileWalk {
  readonly #pid: number;
  readonly #makeRoom: (slots: number) => Room;
  #room: Room;
  #link: number;
  /** Where of each descriptor head and stamp are. */
  readonly #places = new Map<number, number>();
  readonly #freePlaces: number[] = [];
  /** No descriptor was ever as high. */
  #known = 0;
  #heads = Buffer.alloc(FIRST_FILES * HEAD_BYTES);
  #stamps = Buffer.alloc(FIRST_FILES * STAMP_BYTES);
  readonly #touches = new Touches();

  constructor(pid: number, makeRoom: (slots: number) => Room) {
    this.#pid = pid;
    this.#makeRoom = makeRoom;
    this.#room = makeRoom(FIRST_SLOTS);
    this.#link = this.#linked();
  }

  /** All that the program does in one run, it does for the first thread: the table of descriptors is the process's. */
  #linked(): number {
    return linkIterator(this.#room.pool.program, this.#pid, "thread");
  }

  warm(): void {
    if (this.#known < WORTH_WARMING) return;
    this.#run(0, true);
  }

  /** Returns how many slots the process's table has. */
  #run(begin: number, touchOnly: boolean): number {
    const { first, slots, pool } = this.#room;
    const { shared } = pool;
    shared.writeUInt32LE(first, SHARED.first);
    shared.writeUInt32LE(slots, SHARED.slots);
    shared.writeUInt32LE(begin, SHARED.begin);
    shared.writeUInt32LE(this.#known, SHARED.known);
    shared.writeUInt32LE(touchOnly ? 1 : 0, SHARED.touchOnly);
    for (const at of [SHARED.table, SHARED.count, SHARED.end]) shared.writeUInt32LE(0, at);
    readWalk(this.#link, NOTHING, NOTHING, HEAD_BYTES);
    return shared.readUInt32LE(SHARED.table);
  }

  look(): boolean {
    try {
      return this.#look();
    } catch (error) {
      // What the program has told is lost: the next time it tells of everything.
      entriesOf(this.#room).fill(0);
      throw error;
    }
  }

  #look(): boolean {
    let differs = false;
    for (let begin = 0; ; ) {
      const table = this.#run(begin, false);
      const { slots, pool } = this.#room;
      const { shared } = pool;
      // Its process has ended.
      if (table === 0) return this.#closeAll() || differs;
      if (table > slots) {
        this.#grow(table);
        begin = 0;
        continue;
      }
      const count = shared.readUInt32LE(SHARED.count);
      for (let i = 0; i < count; i++) if (this.#take(shared, SHARED.records + i * RECORD_BYTES)) differs = true;
      const end = shared.readUInt32LE(SHARED.end);
      if (end >= slots) return differs;
      begin = end;
    }
  }

  #grow(slots: number): void {
    const { pool } = this.#room;
    pool.giveBack(this.#room);
    this.#room = this.#makeRoom(slots);
    if (this.#room.pool === pool) return;
    closeDescriptor(this.#link);
    this.#link = this.#linked();
  }

  #closeAll(): boolean {
    entriesOf(this.#room).fill(0);
    if (this.#places.size === 0) return false;
    for (const place of this.#places.values()) this.#freePlaces.push(place);
    this.#places.clear();
    return true;
  }

  /** One record; returns whether it tells of another file, or of the same with other flags. */
  #take(from: Buffer, at: number): boolean {
    const fd = from.readUInt32LE(at + HEAD.fd);
    const known = this.#places.get(fd);
    if (from.readBigUInt64LE(at + HEAD.file) === 0n) {
      if (known === undefined) return false;
      this.#places.delete(fd);
      this.#freePlaces.push(known);
      return true;
    }
    const place = known ?? this.#newPlace(fd);
    const headAt = place * HEAD_BYTES;
    const same =
      known !== undefined && from.compare(this.#heads, headAt, headAt + HEAD_BYTES, at, at + HEAD_BYTES) === 0;
    from.copy(this.#heads, headAt, at, at + HEAD_BYTES);
    from.copy(this.#stamps, place * STAMP_BYTES, at + HEAD_BYTES, at + RECORD_BYTES);
    this.#touches.add(fd);
    return !same;
  }

  #newPlace(fd: number): number {
    const place = this.#freePlaces.pop() ?? this.#places.size;
    if (place * HEAD_BYTES === this.#heads.length) {
      this.#heads = Buffer.concat([this.#heads, Buffer.alloc(this.#heads.length)]);
      this.#stamps = Buffer.concat([this.#stamps, Buffer.alloc(this.#stamps.length)]);
    }
    this.#places.set(fd, place);
    this.#known = Math.max(this.#known, fd + 1);
    return place;
  }

  files(): OpenFile[] {
    const files = [...this.#places.values()].map((place) => openFile(this.#heads, place * HEAD_BYTES));
    return files.sort((a, b) => a.fd - b.fd);
  }

  file(fd: number): bigint | undefined {
    const place = this.#places.get(fd);
    return place === undefined ? undefined : this.#heads.readBigUInt64LE(place * HEAD_BYTES + HEAD.file);
  }

  get bytes(): Buffer {
    return this.#stamps;
  }

  #stampAt(fd: number, bytes: number): number | undefined {
    const place = this.#places.get(fd);
    const isThere = place !== undefined && this.#heads.readUInt32LE(place * HEAD_BYTES + HEAD.stamp) === bytes;
    return isThere ? place * STAMP_BYTES : undefined;
  }

  at(fd: number): number | undefined {
    return this.#stampAt(fd, STAMP_BYTES);
  }

  plain(fd: number): Buffer | undefined {
    const at = this.#stampAt(fd, PLAIN_STAMP_BYTES);
    return at === undefined ? undefined : this.#stamps.subarray(at, at + PLAIN_STAMP_BYTES);
  }

  get now(): number {
    return this.#touches.now;
  }

  touchedSince(then: number): ReadonlySet<number> | undefined {
    return this.#touches.since(then);
  }

  close(): void {
    closeDescriptor(this.#link);
    this.#room.pool.giveBack(this.#room);
  }
}
