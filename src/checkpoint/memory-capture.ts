/** The memory side of a capture: pre-copy while the application runs, what is left in the stop, page streams for the clones. */
import { checked, SystemCallError } from "../kernel/errors.ts";
import { seenHuge } from "../kernel/huge-pages.ts";
import { ERRNO, PAGE_BYTES } from "../kernel/numbers.ts";
import { encodePages } from "../kernel/pages.ts";
import { HugeObjects } from "../resources/memory/huge-objects.ts";
import { type Area, type Backing, isTrackable } from "../resources/memory/layout.ts";
import { mergeRegions, piecesOf, splitRegions, sumPages } from "../resources/memory/regions.ts";
import { type MemoryTracker, Staging } from "../resources/memory/tracker.ts";
import type { ObjectOperation } from "../resources/nameless/state.ts";
import { segmentOf } from "../resources/shm/state.ts";
import { BlockPool } from "./blocks.ts";
import { divide, type HeldByNewcomer, type MemoryNewcomer, MOST_KEPT_PAGES } from "./held-pages.ts";
import type { Operation } from "./operations.ts";
import type { ProcessCapture } from "./process-capture.ts";
import { SharedWrites } from "./shared-writes.ts";

/** Pages encoded into one operation. */
const CHUNK_PAGES = 2048;
const CHUNK_BYTES = CHUNK_PAGES * (PAGE_BYTES + 16) + PAGE_BYTES * 2;

/** What the memory side needs of the capture. */
export interface MemorySurroundings {
  /** Where operations go, in order. */
  emit(operation: Operation): void;
  /** What was put back for the clones to know first. */
  flushFirst(): void;
  /** While the application runs: what a new layout may map (a file made a moment ago, a segment) is told before it. */
  aheadOfLayout(process: ProcessCapture): void;
  /** In the stop: likewise, as far as `flushFirst` does not tell it. */
  announceMapped(process: ProcessCapture): void;
  /** Pages of a process with shared memory go to the clones. */
  sharedSent(process: ProcessCapture, regions: BigUint64Array): void;
  /** Something wrote to shared memory that nobody has mapped any more. */
  writtenUnseen(id: string): void;
  /** The clones know a file without a name as such, not only as what is mapped. */
  isKnownFile(id: string): boolean;
}

export class MemoryCapture {
  readonly #around: MemorySurroundings;
  readonly sharedWrites = new SharedWrites();
  readonly hugeObjects: HugeObjects;
  /** Ranges of shared memory whose whole content the clones have got, from whichever process. */
  readonly #sharedSent = new Set<string>();
  /** Of the last stop, and the shared memory in them. */
  #layouts: ReadonlyArray<readonly Area[]> = [];
  #mapped: ReadonlySet<string> = new Set();
  readonly #ended: ObjectOperation[] = [];
  readonly #staging = new Staging();
  readonly #blocks = new BlockPool();
  readonly #encoded = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  readonly #pending: StagedMemory[] = [];
  /** Taken since the last checkpoint. */
  pages = 0;
  /** A receiver reads along that does not have the shadow's content. */
  whole = false;

  /** @param shadowPages of one process or object, whose content is kept to send differences */
  constructor(around: MemorySurroundings, shadowPages: number) {
    this.#around = around;
    this.hugeObjects = new HugeObjects(shadowPages);
  }

  /** Shared memory is new for the next clone. */
  forgetShared(): void {
    this.#sharedSent.clear();
  }

  /**
   * Whole content of a process while it runs, in pieces. When others follow already, what is known as written stays so, and they
   * get what is sent as well.
   */
  async copyAll(process: ProcessCapture, newcomer: MemoryNewcomer): Promise<void> {
    const { tracker } = process;
    const { alone, held } = newcomer;
    this.#followLayout(process);
    const count = process.needsAll && alone ? tracker.scanAll(false) : tracker.scanPopulated();
    const known = this.#takeKnown(process, count);
    const regions = mergeRegions([known, ...this.#unsentShared(process)]);
    if (alone) process.needsAll = false;
    let left = sumPages(regions);
    for (const piece of piecesOf(regions, held ? MOST_KEPT_PAGES : CHUNK_PAGES)) {
      const kept = held ? this.#encodeLacking(process, piece, held, alone) : this.#encodePiece(process, piece);
      left -= sumPages(piece);
      newcomer.progress(left * PAGE_BYTES, kept * PAGE_BYTES);
      await newcomer.pause();
    }
  }

  #encodePiece(process: ProcessCapture, piece: BigUint64Array): number {
    this.#encodeNext(process, piece, new Float64Array(4));
    return 0;
  }

  /** One piece as far as the newcomer does not hold it; returns the pages that it does. */
  #encodeLacking(process: ProcessCapture, piece: BigUint64Array, newcomer: HeldByNewcomer, alone: boolean): number {
    const { tracker, traced } = process;
    const staging = this.#staging;
    staging.pages = 0;
    tracker.copy(piece, piece.length / 3, staging);
    const { bytes, addresses, pages } = staging;
    const { kept, held, lacking } = divide(newcomer.find(bytes, pages), addresses);
    staging.pages = 0;
    this.#emitStream(process, this.#encodeRanges(process, lacking));
    const sent = lacking.reduce((sum, [from, to]) => sum + to - from, 0);
    this.pages += sent;
    if (kept.length > 0) newcomer.take(traced.virtualPid, kept);
    // The newcomer's memory is the shadow's from now on; while others follow, the shadow says what those have.
    if (alone) this.#encodeRanges(process, held);
    else this.#noteHeld(process, held);
    if (tracker.shared.length > 0) this.#around.sharedSent(process, piece);
    return pages - sent;
  }

  /** Zeros are left out of huge pages that are zeros on every clone: these are not on the newcomer. */
  #noteHeld({ tracker }: ProcessCapture, ranges: ReadonlyArray<[number, number]>): void {
    const { sources } = tracker.huge;
    if (sources === null) return;
    const { bytes, addresses } = this.#staging;
    for (const [from, to] of ranges) seenHuge(sources, bytes, addresses, from, to);
  }

  /** Returns the bytes of the page stream. */
  #encodeRanges({ tracker }: ProcessCapture, ranges: ReadonlyArray<[number, number]>): number {
    const { bytes, addresses } = this.#staging;
    const { shadow, shared, huge } = tracker;
    const out = this.#encoded;
    return ranges.reduce(
      (n, [from, to]) => encodePages(bytes, addresses, from, to, shadow, out, n, this.whole, shared, huge.sources),
      0,
    );
  }

  /** While the application runs: what it has mapped since the last look is watched from here on and known to the clones. */
  #followLayout(process: ProcessCapture): void {
    const { tracker } = process;
    if (!tracker.layoutChanged()) return;
    const layout = process.layoutOperation(tracker.refresh(true).fresh);
    for (const regions of [...process.takeReplaced(), ...this.#unsentShared(process)]) tracker.owe(regions);
    this.#around.aheadOfLayout(process);
    if (layout) this.#around.emit(layout);
  }

  /**
   * Regions of the last scan as far as the clones know their areas; others, mapped a moment ago by the running application, are
   * left to the next scan.
   */
  #takeKnown(process: ProcessCapture, count: number): BigUint64Array {
    const { tracker, emitted } = process;
    checked(count, "ioctl(PAGEMAP_SCAN)", process.pid);
    const ranges = emitted.filter(isTrackable).map((area): [number, number] => [area.start, area.end]);
    const { inside, outside } = splitRegions(tracker.takeRegions(count), ranges);
    tracker.owe(outside);
    return inside;
  }

  /** Everything of a process that is new to the clones, else what was written. */
  #scan(process: ProcessCapture, strict: boolean): number {
    if (process.needsAll) for (const regions of this.#unsentShared(process)) process.tracker.owe(regions);
    return process.needsAll ? process.tracker.scanAll(strict) : process.tracker.scanWritten(strict);
  }

  /** Content of shared memory that nobody has sent: pages need not be in the table of a process that has them mapped. */
  #unsentShared({ tracker }: ProcessCapture): BigUint64Array[] {
    if (tracker.shared.length === 0) return [];
    return tracker.areas.flatMap((area) => {
      const { backing, start, end } = area;
      if (backing.type !== "shared" || area.readOnly) return [];
      const range = `${backing.id} ${backing.offset} ${end - start}`;
      if (this.#sharedSent.has(range)) return [];
      this.#sharedSent.add(range);
      return [tracker.populatedShared(area)];
    });
  }

  /** Runs what takes pages: when it fails half-way, what the scan reported is known no longer, and everything goes out again. */
  #taking<T>(process: ProcessCapture, take: () => T): T {
    try {
      const result = take();
      process.needsAll = false;
      return result;
    } catch (error) {
      process.needsAll = true;
      this.#sharedSent.clear();
      throw error;
    }
  }

  /** One pass over all processes while they run; returns the pages it found. Pauses between pieces, see `preDump`. */
  *precopyPass(processes: readonly ProcessCapture[]): Generator<void, number> {
    let pages = 0;
    for (const process of processes) {
      const regions = unlessEnded(() => this.#taking(process, () => this.#writtenNow(process))) ?? NO_REGIONS;
      const cursor = new Float64Array(4);
      try {
        while (cursor[0]! * 3 < regions.length) {
          const done = unlessEnded(() => this.#taking(process, () => this.#encodeNext(process, regions, cursor)));
          if (done === undefined) break;
          pages += done;
          yield;
        }
      } finally {
        // Given up half-way: what was reported and not copied is reported again.
        process.tracker.owe(restOf(regions, cursor));
      }
    }
    return pages;
  }

  /** What a running process has written, as far as the clones know its areas. */
  #writtenNow(process: ProcessCapture): BigUint64Array {
    const { tracker } = process;
    // What was mapped since is not watched yet: left to the stop, all of it would have to be copied there.
    this.#followLayout(process);
    let count = this.#scan(process, false);
    if (count > 0 && tracker.foundOutside(count, process.knownRanges)) {
      tracker.owe(tracker.takeRegions(count));
      this.#followLayout(process);
      count = this.#scan(process, false);
      return this.#takeKnown(process, count);
    }
    return tracker.takeRegions(checked(count, "ioctl(PAGEMAP_SCAN)", process.pid));
  }

  /** In the stop: what every process has written since, copied; it is encoded by `flush`. */
  take(processes: readonly ProcessCapture[]): void {
    this.#settle(processes.map(({ tracker }) => tracker));
    this.#staging.pages = 0;
    for (const process of processes) this.#taking(process, () => this.#takeMemory(process, true));
    this.#takeUnmapped(processes);
    this.#settleHuge(processes);
    this.#endUnmapped(processes.map(({ tracker }) => tracker.areas));
  }

  /** Shared memory that nobody has mapped any more and that the clones know as nothing else: else they would keep it for ever. */
  #endUnmapped(layouts: ReadonlyArray<readonly Area[]>): void {
    const before = this.#layouts;
    if (layouts.length === before.length && layouts.every((areas, i) => areas === before[i])) return;
    this.#layouts = layouts;
    const mapped = new Set<string>();
    for (const areas of layouts) for (const { backing } of areas) if (isObject(backing)) mapped.add(backing.id);
    for (const id of this.#mapped) {
      if (mapped.has(id) || this.#around.isKnownFile(id)) continue;
      this.#ended.push({ op: "object-end", id });
      this.#forgetSent(id);
    }
    this.#mapped = mapped;
  }

  #forgetSent(id: string): void {
    for (const range of this.#sharedSent) if (range.startsWith(`${id} `)) this.#sharedSent.delete(range);
  }

  /** Shared memory of huge pages, when all that was written of it has been read. */
  #settleHuge(processes: readonly ProcessCapture[]): void {
    if (this.hugeObjects.isEmpty) return;
    const mappings = processes.flatMap(({ tracker }) => tracker.huge.mappings);
    this.hugeObjects.settle(mappings);
    for (const id of this.hugeObjects.sweep(mappings, (id) => this.#around.isKnownFile(id))) this.#forgetSent(id);
  }

  #settle(trackers: MemoryTracker[]): Set<MemoryTracker> {
    const { told, unseen } = this.sharedWrites.settle(trackers);
    for (const id of unseen) this.#around.writtenUnseen(id);
    return told;
  }

  /** Shared memory that a process wrote and mapped no longer when it was looked at: others tell what is in it. */
  #takeUnmapped(processes: readonly ProcessCapture[]): void {
    const trackers = processes.map(({ tracker }) => tracker);
    const areas = trackers.flatMap((tracker) => tracker.takeUnmapped());
    if (areas.length === 0) return;
    this.sharedWrites.noteUnmapped(areas);
    const told = this.#settle(trackers);
    for (const process of processes)
      if (told.has(process.tracker)) this.#taking(process, () => this.#takeMemory(process, false));
  }

  /** @param first in this stop */
  #takeMemory(process: ProcessCapture, first: boolean): void {
    const { tracker } = process;
    let count = this.#scan(process, true);
    let fresh: Array<[number, number]> = [];
    let regions: BigUint64Array | undefined;
    if (count === ERRNO.perm) {
      fresh = tracker.refresh().fresh;
      for (const regions of this.#unsentShared(process)) tracker.owe(regions);
      count = checked(this.#scan(process, true), "ioctl(PAGEMAP_SCAN)", process.pid);
    } else {
      checked(count, "ioctl(PAGEMAP_SCAN)", process.pid);
      if (tracker.layoutChanged()) {
        regions = tracker.takeRegions(count);
        fresh = tracker.refresh().fresh;
      }
    }
    // What goes out twice in a stop is not as it was sent in between.
    if (first && !tracker.huge.isEmpty) regions ??= tracker.takeRegions(count);
    this.#stage(process, regions, count, fresh, first);
  }

  #stage(
    process: ProcessCapture,
    regions: BigUint64Array | undefined,
    count: number,
    fresh: Array<[number, number]>,
    first: boolean,
  ): void {
    const { tracker } = process;
    if (tracker.areas !== process.emitted) regions ??= tracker.takeRegions(count);
    const layout = process.layoutOperation(fresh);
    const replaced = process.takeReplaced();
    if (regions && replaced.length > 0) {
      regions = mergeRegions([regions, ...replaced]);
      count = regions.length / 3;
    }
    if (layout) this.#around.announceMapped(process);
    const from = this.#staging.pages;
    const fits = tracker.copy(regions, count, this.#staging);
    if (fits && tracker.shared.length > 0) this.#around.sharedSent(process, regions ?? tracker.takeRegions(count));
    const to = fits ? this.#staging.pages : from;
    const written = fits ? undefined : (regions ?? tracker.takeRegions(count));
    this.#pending.push({ process, from, to, layout, dropped: tracker.takeDropped(first ? regions : undefined) });
    if (!written) return;
    // More than the staging memory holds: rare, then the application waits for the encoding as well.
    this.flush();
    this.#encodeRegions(process, written);
    this.#staging.pages = 0;
  }

  /** Copies and encodes regions piece by piece. */
  #encodeRegions(process: ProcessCapture, regions: BigUint64Array): void {
    const cursor = new Float64Array(4);
    while (cursor[0]! * 3 < regions.length) this.#encodeNext(process, regions, cursor);
  }

  /** One piece of regions, from the cursor on; returns the pages that were there. */
  #encodeNext(process: ProcessCapture, regions: BigUint64Array, cursor: Float64Array): number {
    const before = process.tracker.shared.length > 0 ? restOf(regions, cursor) : undefined;
    const n = process.tracker.copyEncode(regions, cursor, CHUNK_PAGES, this.#encoded, this.whole);
    if (before) this.#around.sharedSent(process, upTo(before, restOf(regions, cursor)));
    this.#emitStream(process, n);
    this.pages += cursor[2]!;
    return cursor[2]!;
  }

  #emitStream(process: ProcessCapture, bytes: number): void {
    if (bytes === 0) return;
    const room = this.#blocks.room(bytes, 0);
    this.#encoded.copy(room.bytes, 0, 0, bytes);
    this.#around.emit({ op: "pages", pid: process.traced.virtualPid, ...room });
  }

  /** Encodes staged pages into operations. */
  #encode(process: ProcessCapture, from: number, to: number): void {
    const { tracker } = process;
    for (let at = from; at < to; at += CHUNK_PAGES) {
      const end = Math.min(to, at + CHUNK_PAGES);
      const { bytes, addresses } = this.#staging;
      const { shadow, shared, huge } = tracker;
      const out = this.#encoded;
      const n = encodePages(bytes, addresses, at, end, shadow, out, 0, this.whole, shared, huge.sources);
      this.pages += end - at;
      this.#emitStream(process, n);
    }
  }

  /** Encodes what is staged; files and segments go ahead of everything that may map them. */
  flush(): void {
    this.#around.flushFirst();
    for (const operation of this.hugeObjects.takeOperations()) this.#around.emit(operation);
    for (const operation of this.#ended.splice(0)) this.#around.emit(operation);
    for (const { process, from, to, layout, dropped } of this.#pending.splice(0)) {
      const pid = process.traced.virtualPid;
      if (layout) this.#around.emit(layout);
      if (dropped.length) {
        for (const [start, end] of dropped) process.tracker.dropShadow(start, end);
        this.#around.emit({ op: "drop", pid, ranges: dropped });
      }
      this.#encode(process, from, to);
    }
  }
}

/** What is done with a running process may find it gone: the next stop takes notice of that. */
export function unlessEnded<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if (error instanceof SystemCallError && error.code === "ESRCH") return undefined;
    throw error;
  }
}

const NO_REGIONS = new BigUint64Array(0);

/** Shared memory that is no System V segment: those have a life of their own. */
function isObject(backing: Backing): backing is Extract<Backing, { type: "shared" }> {
  return backing.type === "shared" && segmentOf(backing) === undefined;
}

/** Regions from the cursor on. */
function restOf(regions: BigUint64Array, cursor: Float64Array): BigUint64Array {
  const rest = regions.slice(3 * cursor[0]!);
  if (rest.length > 0 && cursor[1]! > 0) rest[0] = BigInt(cursor[1]!);
  return rest;
}

/** The leading part of regions, of which `rest` is left. */
function upTo(regions: BigUint64Array, rest: BigUint64Array): BigUint64Array {
  if (rest.length === 0) return regions;
  const done = regions.slice(0, regions.length - rest.length + 3);
  done[done.length - 2] = rest[0]!;
  return done;
}

interface StagedMemory {
  process: ProcessCapture;
  from: number;
  to: number;
  layout: Operation | undefined;
  dropped: Array<[number, number]>;
}
