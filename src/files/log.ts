/**
 * The file log: which inodes were touched and which of their bytes were written, gathered by the kernel while the application
 * runs, without the data. ext4 only, kernel with BTF; elsewhere the capture compares.
 *
 * Generations tell what belongs to which take: the programs stamp what they gather with the generation of the moment; a take
 * begins the next one and reads what is stamped with those before.
 */
import {
  attachTracing,
  createArrayMap,
  createRecentMap,
  createSparseMap,
  createValueMap,
  loadTracingProgram,
  readArray,
  readMap,
  tryDeleteFromMap,
  tryReadMap,
  tryWriteMap,
  writeMap,
} from "../kernel/bpf.ts";
import { readKernelTypes } from "../kernel/btf.ts";
import { closeDescriptor } from "../kernel/calls.ts";
import { OperatingError } from "../kernel/failure.ts";
import { whyNotTraced } from "../kernel/file-systems.ts";
import { merged, type Range } from "./content.ts";
import {
  CONTROL_BYTES,
  EARLY,
  EVENT_BYTES,
  EVENTS,
  FIELDS,
  INODE_BYTES,
  type LogMaps,
  MAPPED,
  MOST_MAPPED,
  STATE_BYTES,
  TRACEPOINTS,
} from "./log-program.ts";
import type { Follower, Noticed } from "./noticed.ts";

/** Inodes of one application's layer; beyond it, the capture looks at everything again. */
const MOST_INODES = 1 << 20;
/** Minor numbers have twenty bits in the kernel. */
const MINOR_BITS = 20;

const zeroKey = Buffer.alloc(4);

interface Taken {
  generation: number;
  start: number;
  end: number;
}

interface LogEvent extends Taken {
  inode: number;
  /** Told before the operation. */
  isEarly: boolean;
  /** A page of it has become writable in a mapping. */
  isMapped: boolean;
}

export class FileLog implements Follower {
  readonly #maps: LogMaps;
  readonly #programs: number[] = [];
  readonly #links: number[] = [];
  readonly #key = Buffer.alloc(8);
  readonly #value = Buffer.alloc(INODE_BYTES);
  readonly #fresh = Buffer.alloc(INODE_BYTES);
  readonly #control = Buffer.alloc(CONTROL_BYTES);
  readonly #state = Buffer.alloc(STATE_BYTES);
  #events = Buffer.allocUnsafeSlow(EVENT_BYTES * 64);
  #generation = 1;
  /** Events read so far. */
  #tail = 0n;
  /**
   * Told of what may not have happened by the take, or not all of it, for it is told of once a generation and that begins with the take:
   * looked at once more in the next stop. By takes while the application ran, and by the last stop's: that can only be what others do.
   */
  readonly #again = new Set<number>();
  readonly #early = new Map<number, Range[]>();
  #othersAgain = new Set<number>();
  #taken = new Map<number, Taken>();
  /** Events read so far that tell of mappings. */
  #mappedTold = 0n;
  /** Mappings that nobody told of were made since the last stop: what they wrote may come after it was looked at. */
  #mappingLost = false;
  /** An inode could not be followed. */
  #full = false;

  /**
   * @param device of the layer's file system, as statx tells it
   * @throws OperatingError `file-log-unavailable`
   */
  constructor(directory: string, device: { major: number; minor: number }) {
    const reason = whyNotTraced(directory);
    if (reason !== undefined) throw unavailable(reason);
    const maps = { inodes: -1, control: -1, state: -1, events: -1, mapped: -1 };
    this.#maps = maps;
    try {
      const types = readKernelTypes(
        TRACEPOINTS.map(({ name }) => name),
        FIELDS,
      );
      const missing = FIELDS.filter((field) => !types.fields.has(field));
      const absent = TRACEPOINTS.filter(({ name, required }) => required && !types.tracepoints.has(name));
      if (missing.length + absent.length > 0)
        throw new Error(`the kernel has no ${[...missing, ...absent.map(({ name }) => name)].join(", ")}`);
      maps.inodes = createSparseMap(8, INODE_BYTES, MOST_INODES);
      maps.control = createValueMap(CONTROL_BYTES);
      maps.state = createValueMap(STATE_BYTES);
      maps.events = createArrayMap(EVENT_BYTES, EVENTS);
      maps.mapped = createRecentMap(8, 8, MOST_MAPPED);
      this.#control.writeBigUInt64LE((BigInt(device.major) << BigInt(MINOR_BITS)) | BigInt(device.minor), 8);
      this.#setGeneration(1);
      for (const { name, program } of TRACEPOINTS) {
        const id = types.tracepoints.get(name);
        if (id === undefined) continue;
        this.#attach(loadTracingProgram(`us_${name}`, program(maps, types.fields), id));
      }
    } catch (error) {
      this.close();
      throw unavailable((error as Error).message, error);
    }
  }

  #attach(programFd: number): void {
    this.#programs.push(programFd);
    this.#links.push(attachTracing(programFd));
  }

  close(): void {
    for (const fd of [...this.#links.splice(0), ...this.#programs.splice(0), ...Object.values(this.#maps)])
      closeDescriptor(fd);
    Object.assign(this.#maps, { inodes: -1, control: -1, state: -1, events: -1, mapped: -1 });
  }

  #setGeneration(generation: number): void {
    this.#generation = generation;
    this.#control.writeBigUInt64LE(BigInt(generation), 0);
    writeMap(this.#maps.control, zeroKey, this.#control);
  }

  follow(inode: number): boolean {
    this.#key.writeBigUInt64LE(BigInt(inode));
    this.#taken.delete(inode);
    // Of who had the number before.
    this.#othersAgain.delete(inode);
    const done = tryWriteMap(this.#maps.inodes, this.#key, this.#fresh) >= 0;
    this.#full ||= !done;
    return done;
  }

  unfollow(inode: number): void {
    this.#key.writeBigUInt64LE(BigInt(inode));
    tryDeleteFromMap(this.#maps.inodes, this.#key);
    this.#taken.delete(inode);
    this.#again.delete(inode);
    this.#early.delete(inode);
    this.#othersAgain.delete(inode);
  }

  /**
   * What has been noticed since the last take; undefined when more has happened than the log could hold.
   * @param running the application runs, so that what is told of may still be going on
   */
  take(running: boolean): Noticed | undefined {
    const before = this.#generation;
    this.#setGeneration(before + 1);
    const events = this.#readEvents();
    if (!events || this.#full || (this.#mappingLost && !running)) {
      this.#mappingLost &&= running;
      this.#forgetRunning();
      this.#full = false;
      return undefined;
    }
    const noticed = new Set<number>();
    const mapped = new Set<number>();
    const ranges = new Map<number, Range[]>();
    const again = running ? this.#again : new Set<number>();
    const note = (into: Map<number, Range[]>, inode: number, range: Range) => {
      const list = into.get(inode);
      if (list) list.push(range);
      else into.set(inode, [range]);
    };
    for (const { inode, start, end, generation, isEarly, isMapped } of events) {
      (isMapped ? mapped : noticed).add(inode);
      if (start >= end) continue;
      const taken = this.#taken.get(inode);
      // The range was read where it was gathered, by an earlier take.
      if (!isEarly && taken && taken.generation === generation && taken.start <= start && end <= taken.end) continue;
      note(ranges, inode, [start, end]);
      if (isEarly && running) note(this.#early, inode, [start, end]);
    }
    for (const inode of noticed) this.#takeGathered(inode, before, (range) => note(ranges, inode, range));
    for (const inode of noticed) again.add(inode);
    if (!running) {
      // A program that began before a take may gather a range after it, without another notice.
      const once = new Set([...this.#again, ...this.#othersAgain]);
      for (const inode of once)
        if (!noticed.has(inode)) this.#takeGathered(inode, before, (range) => note(ranges, inode, range));
      for (const inode of once) noticed.add(inode);
      for (const [inode, list] of this.#early) for (const range of list) note(ranges, inode, range);
      this.#forgetRunning();
      this.#othersAgain = again;
    }
    for (const [inode, list] of ranges) ranges.set(inode, merged(list));
    for (const inode of ranges.keys()) noticed.add(inode);
    return { inodes: noticed, ranges, mapped, running };
  }

  #forgetRunning(): void {
    this.#again.clear();
    this.#early.clear();
    this.#othersAgain.clear();
  }

  /** The range that an inode's entry holds. */
  #takeGathered(inode: number, generation: number, note: (range: Range) => void): void {
    this.#key.writeBigUInt64LE(BigInt(inode));
    if (tryReadMap(this.#maps.inodes, this.#key, this.#value) < 0) return;
    const own = Number(this.#value.readBigUInt64LE(0));
    const start = Number(this.#value.readBigUInt64LE(8));
    const end = Number(this.#value.readBigUInt64LE(16));
    if (own > generation || start >= end) return;
    const taken = this.#taken.get(inode);
    if (taken && taken.generation === own && taken.start <= start && end <= taken.end) return;
    this.#taken.set(inode, { generation: own, start, end });
    note([start, end]);
  }

  /** Undefined when some were overwritten. */
  #readEvents(): LogEvent[] | undefined {
    readMap(this.#maps.state, zeroKey, this.#state);
    const head = this.#state.readBigUInt64LE(0);
    const mappedTold = this.#state.readBigUInt64LE(8);
    const anyMapped = mappedTold !== this.#mappedTold;
    this.#mappedTold = mappedTold;
    const count = Number(head - this.#tail);
    const first = this.#tail;
    this.#tail = head;
    if (count > EVENTS) {
      this.#mappingLost ||= anyMapped;
      return undefined;
    }
    if (count === 0) return [];
    if (this.#events.length < count * EVENT_BYTES) this.#events = Buffer.allocUnsafeSlow(count * EVENT_BYTES);
    const at = Number(first % BigInt(EVENTS));
    const upToEnd = Math.min(count, EVENTS - at);
    for (let attempt = 0; attempt < 100; attempt++) {
      readArray(this.#maps.events, at, upToEnd, this.#events);
      if (count > upToEnd)
        readArray(this.#maps.events, 0, count - upToEnd, this.#events.subarray(upToEnd * EVENT_BYTES));
      const events = this.#parse(first, count);
      if (events) return events;
    }
    this.#mappingLost ||= anyMapped;
    return undefined;
  }

  /** Undefined while one of them is not written out yet. */
  #parse(first: bigint, count: number): LogEvent[] | undefined {
    const words = new Uint32Array(this.#events.buffer, this.#events.byteOffset, (count * EVENT_BYTES) / 4);
    const wide = (at: number) => words[at]! + words[at + 1]! * 2 ** 32;
    const sequence = Number(first) + 1;
    const events: LogEvent[] = [];
    for (let i = 0; i < count; i++) {
      const at = (i * EVENT_BYTES) / 4;
      if (wide(at) !== sequence + i) return undefined;
      const isEarly = (words[at + 9]! & EARLY_BIT) !== 0;
      const isMapped = (words[at + 9]! & MAPPED_BIT) !== 0;
      const generation = words[at + 8]! + (words[at + 9]! & ~(EARLY_BIT | MAPPED_BIT)) * 2 ** 32;
      events.push({ inode: wide(at + 2), start: wide(at + 4), end: wide(at + 6), generation, isEarly, isMapped });
    }
    return events;
  }
}

/** In an event's upper half. */
const EARLY_BIT = Number(EARLY >> 32n);
const MAPPED_BIT = Number(MAPPED >> 32n);

function unavailable(reason: string, cause?: unknown): OperatingError {
  return new OperatingError("file-log-unavailable", `Changes of files cannot be followed by range: ${reason}`, {
    remedy:
      "None is needed: changed files are compared, which takes longer. Keep the state directory on ext4 to avoid it.",
    ...(cause === undefined ? {} : { cause }),
  });
}
