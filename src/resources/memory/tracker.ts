/**
 * Follows the memory of one traced process: which pages were written since last asked, and their content.
 *
 * Async write-protect userfaultfd + PAGEMAP_SCAN (kernel 6.7). The kernel reports each written page once. Areas mapped since
 * the last registration are not watched: a scan with CHECK_WPASYNC fails on them (EPERM), then they are found, registered and
 * taken as fresh, all their pages as written.
 */
import { readFileSync } from "node:fs";
import { closeDescriptor, openPath } from "../../kernel/calls.ts";
import { checked } from "../../kernel/errors.ts";
import { ERRNO, PAGE_BYTES, PAGE_IS, PM_SCAN } from "../../kernel/numbers.ts";
import {
  anyOutside,
  copyEncode,
  copyPages,
  dropFromShadow,
  type Shadow,
  scanPages,
  takeHoles,
} from "../../kernel/pages.ts";
import type { Remote } from "../../kernel/remote.ts";
import { Guards } from "./guards.ts";
import { HugeMemory } from "./huge-memory.ts";
import type { HugeObjects } from "./huge-objects.ts";
import { type Area, isTrackable } from "./layout.ts";
import { type FileNames, LayoutReader } from "./layout-reader.ts";
import { OwnPages } from "./own-pages.ts";
import { PageWatch } from "./page-watch.ts";
import { isReserved, noRanges, rangesOf } from "./ranges.ts";
import { mergeRegions, splitRegions, sumPages, wordsOf } from "./regions.ts";
import { contentIn, populatedParts } from "./shared-memory.ts";

const O_RDONLY = 0;
const O_RDWR = 2;

/** Regions one scan may report: more, and everything is taken as written. */
const MAX_REGIONS = 1 << 20;
const regions = new BigUint64Array(3 * MAX_REGIONS);
const NO_RANGES = new BigUint64Array(0);
/** Leading regions that may be other than zero. */
let reported = 0;

/** Regions that a scan left which then failed. */
function countRegions(): number {
  let n = 0;
  while (n < MAX_REGIONS && regions[3 * n + 1] !== 0n) n++;
  return n;
}

/** What one page table covers. */
const BLOCK_BYTES = 2 << 20;
const holeStarts = new BigUint64Array(1024);

/** A swapped-out page and the kernel's own marker "protected, never touched" look alike; with swap off, only pages count. */
const PRESENT = readFileSync("/proc/swaps", "latin1").trim().includes("\n")
  ? PAGE_IS.present | PAGE_IS.swapped
  : PAGE_IS.present;

/** Pages copied together before they are encoded. */
export const STAGING_PAGES = 16384;

/** Memory for raw copies, shared by all trackers of this process: it is used within one turn of the event loop. */
export class Staging {
  readonly bytes = Buffer.from(new ArrayBuffer(STAGING_PAGES * PAGE_BYTES));
  readonly addresses = new BigUint64Array(STAGING_PAGES);
  pages = 0;
}

/** What changed in the layout since the last look. */
export interface LayoutChange {
  areas: Area[];
  fresh: Array<[number, number]>;
  changed: boolean;
}

export class MemoryTracker {
  readonly pid: number;
  readonly memoryFd: number;
  readonly #pagemapFd: number;
  readonly #layout: LayoutReader;
  readonly #watch: PageWatch;
  #ranges = noRanges;
  /** Regions that a scan reported (and protected again) but that nobody could take then: part of the next scan's result. */
  #owed: BigUint64Array[] = [];
  readonly #own = new OwnPages();
  readonly #guards: Guards;
  readonly huge: HugeMemory;
  areas: Area[] = [];
  shadow: Shadow | null = null;

  /**
   * @param names of the files that the application may map; without, each look reads the text of the layout
   * @param objects shared memory of huge pages, of all processes
   */
  constructor(pid: number, names?: FileNames, objects?: HugeObjects) {
    this.pid = pid;
    this.memoryFd = openPath(`/proc/${pid}/mem`, O_RDWR);
    this.#pagemapFd = openPath(`/proc/${pid}/pagemap`, O_RDONLY);
    this.#layout = new LayoutReader(pid, names);
    this.#watch = new PageWatch(pid, this.#pagemapFd);
    this.#guards = new Guards(pid, this.#pagemapFd);
    this.huge = new HugeMemory(pid, this.memoryFd, objects);
  }

  /** Begins to watch: needs one stopped thread of the process. Errors: EBUSY (the application watches its own memory) */
  watch(remote: Remote): void {
    if (this.watching) return;
    this.#watch.open(remote);
    this.#layout.followFlags();
    this.#look();
    this.#register();
    for (const area of this.areas) this.#watch.protectShared(area);
  }

  get watching(): boolean {
    return this.#watch.isOn;
  }

  /** Ranges of memory that other mappings may write too. */
  get shared(): BigUint64Array {
    return this.#ranges.shared;
  }

  /** Ends watching; the kernel takes all protection off by itself. */
  unwatch(): void {
    this.#watch.close();
    this.shadow = null;
    this.#owed = [];
    this.#own.reset();
    this.huge.reset();
  }

  close(): void {
    this.unwatch();
    closeDescriptor(this.memoryFd);
    closeDescriptor(this.#pagemapFd);
    this.#layout.close();
  }

  /** Reads the layout again when it differs; returns whether it did. */
  #look(): boolean {
    const before = this.areas;
    const areas = this.#layout.look(before);
    if (areas === undefined) return false;
    this.areas = areas;
    if (this.shared.length > 0) this.#noteUnmapped(before);
    for (const area of areas) if (this.#watch.isReadOnly(area)) area.readOnly = true;
    this.#ranges = rangesOf(areas);
    this.#own.follow(this.#ranges.mapped);
    this.huge.follow(areas);
    return true;
  }

  /** AREA_FLAG bits of areas to come. */
  get futureFlags(): number {
    return this.#layout.futureFlags;
  }

  #unmapped: Area[] = [];

  /** What it wrote there since the last scan, only the memory itself knows now. */
  #noteUnmapped(before: Area[]): void {
    const now = new Set(this.areas.filter(({ backing }) => backing.type === "shared").map(placeOf));
    for (const area of before) if (area.backing.type === "shared" && !now.has(placeOf(area))) this.#unmapped.push(area);
  }

  /** Areas of shared memory that were mapped at the last look but one and are not, or not as they were, since the last. */
  takeUnmapped(): Area[] {
    return this.#unmapped.splice(0);
  }

  /** The parts of an area of shared memory that have pages, whoever made them. */
  populatedShared(area: Area): BigUint64Array {
    // Which parts of it have pages nobody tells: those without cost nothing but the look.
    if (area.huge !== undefined) return BigUint64Array.of(BigInt(area.start), BigInt(area.end), 0n);
    return populatedParts(this.pid, area);
  }

  /** @param running whoever runs may map something else at any time: the next stop finds what is not watched then */
  #register(running = false): void {
    if (this.#watch.register(this.#ranges.watched)) return;
    // A mapping that cannot be watched has come since the look, or in the place of one that looked the same: a memfd has been
    // sealed between.
    this.#layout.forget();
    this.#look();
    this.#watch.register(this.#ranges.watched, !running);
  }

  /** The layout now, what of it is new; new areas are watched from here on, with all threads stopped for sure. */
  refresh(running = false): LayoutChange {
    const changed = this.#look();
    if (changed) this.#guards.noteLayout();
    const fresh = this.#watch.unwatched(this.areas);
    if (fresh.length) {
      this.#register(running);
      this.#protectFresh(fresh);
    }
    for (const [start, end] of fresh) this.dropShadow(start, end);
    return { areas: this.areas, fresh, changed: changed || fresh.length > 0 };
  }

  /**
   * Protects areas just registered. The kernel calls what was never touched "written" there: only pages that are there, and
   * not the mapped file's, are owed to the next scan.
   */
  #protectFresh(fresh: Array<[number, number]>): void {
    const { written, present, file, guard } = PAGE_IS;
    const all = written | PRESENT | file | guard;
    for (const area of this.areas) {
      if (isReserved(area) || !fresh.some(([start]) => start === area.start)) continue;
      const n = scanPages(
        this.#pagemapFd,
        wordsOf([[area.start, area.end]]),
        PM_SCAN.wpMatching,
        0,
        written,
        0,
        all,
        regions,
      );
      reported = Math.max(reported, checked(n, "ioctl(PAGEMAP_SCAN)", `pid ${this.pid}`));
      const own = area.backing.type === "shared" ? 0n : BigInt(file);
      const words: bigint[] = [];
      for (let i = 0; i < 3 * n; i += 3) {
        const there = (regions[i + 2]! & BigInt(PRESENT | present)) !== 0n && (regions[i + 2]! & own) === 0n;
        if (there) words.push(regions[i]!, regions[i + 1]!, 0n);
        if ((regions[i + 2]! & BigInt(guard)) !== 0n) this.#guards.mayDiffer();
      }
      this.owe(new BigUint64Array(words));
    }
    if (this.#ranges.hugeShared.length > 0) this.#scanZapped(PM_SCAN.wpMatching, 0);
  }

  /**
   * Of shared huge pages, those without even the mark of what is protected: they were written, then given back by this process alone
   * (madvise DONTNEED), and the object has what was written. A scan for written pages passes over them.
   * @returns how many regions there are then behind `n` others, or −errno
   */
  #scanZapped(flags: number, n: number): number {
    const there = PAGE_IS.present | PAGE_IS.swapped;
    const found = scanPages(
      this.#pagemapFd,
      this.#ranges.hugeShared,
      flags,
      there,
      there,
      0,
      0,
      regions.subarray(3 * n),
    );
    if (found >= 0) reported = Math.max(reported, n + found);
    return found < 0 ? found : n + found;
  }

  /**
   * A thread is putting a guard over this range and cannot, for the kernel takes the mark of a protected page that is not there
   * for a page (6.18, guard_install_pte_entry): as soon as it runs, it can.
   */
  letGuard(start: number, end: number): void {
    for (const area of this.areas) {
      const [from, to] = [Math.max(start, area.start), Math.min(end, area.end)];
      if (from < to && isTrackable(area)) this.#watch.unprotect(from, to);
    }
  }

  /** Guard areas now, [start, end] each; asked for after the copy. With all threads stopped. */
  takeGuards(): ReadonlyArray<[number, number]> {
    return this.#guards.look(this.areas, (area) => contentIn(this.pid, area));
  }

  /** Forgets the shadow of what an older layout had and this one has not. */
  dropShadow(start: number, end: number): void {
    if (this.shadow) dropFromShadow(this.shadow, start, end);
    this.huge.forget(start, end);
  }

  layoutChanged(): boolean {
    return this.#layout.changed(this.areas);
  }

  /**
   * Regions written since the last scan, and write-protects them again.
   * @param strict −EPERM when an area is not watched (see refresh); else such areas are passed over
   * @returns number of regions, kept inside until the next scan
   */
  scanWritten(strict: boolean): number {
    regions.fill(0n, 0, 3 * reported);
    const flags = PM_SCAN.wpMatching | (strict ? PM_SCAN.checkWpAsync : 0);
    const { written } = PAGE_IS;
    let n = scanPages(this.#pagemapFd, this.#ranges.open, flags, 0, written, 0, written, regions);
    if (n >= 0 && this.#ranges.reserved.length > 0) {
      const rest = regions.subarray(3 * n);
      const more = scanPages(this.#pagemapFd, this.#ranges.reserved, flags, 0, written, PRESENT, written, rest);
      if (more > 0) {
        this.#owed.push(rest.slice(0, 3 * more));
        rest.fill(0n, 0, 3 * more);
      }
      if (more < 0) n = more;
    }
    if (n >= 0 && strict && this.#ranges.hugeShared.length > 0) n = this.#oweZapped(n);
    reported = n >= 0 ? n : countRegions();
    if (n === ERRNO.perm) {
      // What lies before the unwatched area has been reported, and is protected again: no later scan would tell.
      if (reported > 0) this.#owed.push(regions.slice(0, 3 * reported));
      return n;
    }
    return n < 0 || this.#owed.length === 0 ? n : this.#addOwed(n);
  }

  #oweZapped(n: number): number {
    const all = this.#scanZapped(PM_SCAN.wpMatching | PM_SCAN.checkWpAsync, n);
    if (all > n) {
      this.#owed.push(regions.slice(3 * n, 3 * all));
      regions.fill(0n, 3 * n, 3 * all);
    }
    return all < 0 ? all : n;
  }

  #addOwed(n: number): number {
    const merged = mergeRegions([regions.slice(0, 3 * n), ...this.#owed.splice(0)]);
    if (merged.length > regions.length) return ERRNO.noSpace;
    regions.set(merged);
    reported = Math.max(reported, merged.length / 3);
    return merged.length / 3;
  }

  /** Regions for the next scan to report again, because they could not be taken. */
  owe(part: BigUint64Array): void {
    if (part.length > 0) this.#owed.push(part);
  }

  /** All pages with content of their own (not the file's, never touched ones not). Protects everything first. */
  scanAll(strict: boolean): number {
    const owed = this.#owed.flatMap((part) => this.#insideShared(part));
    const protectedRegions = this.scanWritten(strict);
    if (protectedRegions < 0) return protectedRegions;
    const n = this.scanPopulated();
    // Shared pages that others have written need not be in this process's page table.
    this.#owed = owed;
    return n < 0 || owed.length === 0 ? n : this.#addOwed(n);
  }

  /** Of regions, the parts in shared memory: everything else that is there is found by looking. */
  #insideShared(part: BigUint64Array): BigUint64Array[] {
    if (this.shared.length === 0) return [];
    const ranges: Array<[number, number]> = [];
    for (let i = 0; i < this.shared.length; i += 2) ranges.push([Number(this.shared[i]), Number(this.shared[i + 1])]);
    const { inside } = splitRegions(part, ranges);
    return inside.length > 0 ? [inside] : [];
  }

  /** As `scanAll`, but what is known as written stays so. */
  scanPopulated(): number {
    const n = this.#scanPrivate();
    const { shared, huge } = this.#ranges;
    if (n < 0 || (shared.length === 0 && huge.length === 0)) return n;
    const more = this.#scanBehind(n, shared, PRESENT);
    if (more < 0) return more;
    // Huge pages are never swapped out.
    const all = this.#scanBehind(more, huge, PAGE_IS.present);
    if (all < 0) return all;
    // Scans one after the other: shared memory lies among the private.
    const sorted = mergeRegions([regions.slice(0, 3 * all)]);
    regions.set(sorted);
    return sorted.length / 3;
  }

  /** Adds to `n` regions those in these ranges that are as wanted; returns how many there are then, or −errno. */
  #scanBehind(n: number, ranges: BigUint64Array, wanted: number): number {
    if (ranges.length === 0) return n;
    const more = scanPages(this.#pagemapFd, ranges, 0, 0, 0, wanted, PAGE_IS.present, regions.subarray(3 * n));
    if (more < 0) return more;
    reported = Math.max(reported, n + more);
    return n + more;
  }

  /** Private pages that are there (or swapped out) and not the mapped file's: the bit for "file" must be clear. */
  #scanPrivate(): number {
    const { file, present } = PAGE_IS;
    const n = scanPages(this.#pagemapFd, this.#ranges.private, 0, file, file, PRESENT, present, regions);
    reported = Math.max(reported, n);
    return n;
  }

  /** Of shared memory, what the process has written since the last scan; all it has touched, when it is not watched. */
  sharedWritten(): BigUint64Array {
    if (!this.watching) this.#look();
    if (this.shared.length === 0) return NO_RANGES;
    const wanted = !this.watching ? PRESENT : PAGE_IS.written;
    let n = scanPages(this.#pagemapFd, this.shared, 0, 0, 0, wanted, wanted, regions);
    reported = Math.max(reported, n);
    if (n >= 0 && this.watching && this.#ranges.hugeShared.length > 0) n = this.#scanZapped(0, n);
    return mergeRegions([regions.slice(0, 3 * checked(n, "ioctl(PAGEMAP_SCAN)", this.pid)), ...this.#owed]);
  }

  /** Pages of all regions of the last scan. */
  pagesFound(count: number): number {
    let pages = 0;
    for (let i = 0; i < count; i++) pages += Number(regions[3 * i + 1]! - regions[3 * i]!) / PAGE_BYTES;
    return pages;
  }

  /** Whether the last scan found pages outside of these ranges. */
  foundOutside(count: number, ranges: BigUint64Array): boolean {
    return anyOutside(regions, count, ranges);
  }

  /** The regions of the last scan, kept beyond the next one. */
  takeRegions(count: number): BigUint64Array {
    return regions.slice(0, 3 * count);
  }

  /** Copies regions into the staging memory; returns false when it is full (nothing of these regions is in it then). */
  copy(from: BigUint64Array | undefined, count: number, staging: Staging): boolean {
    const { bytes, addresses, pages } = staging;
    const n = this.huge.reading((huge) =>
      copyPages(this.pid, this.memoryFd, from ?? regions, count, bytes, addresses, pages, huge),
    );
    const asked = from ?? regions.subarray(0, 3 * count);
    if (n === ERRNO.noSpace) {
      this.#guards.mayDiffer();
      return false;
    }
    this.#guards.noteCopy(asked, sumPages(asked) - (n - staging.pages));
    staging.pages = n;
    this.#own.note(asked);
    return true;
  }

  /** Of these ranges, what is the application's own, not the mapped file's. */
  #scanOwn(ranges: BigUint64Array): BigUint64Array {
    const { file, present } = PAGE_IS;
    const n = scanPages(this.#pagemapFd, ranges, 0, file, file, PRESENT, present, regions);
    reported = Math.max(reported, checked(n, "ioctl(PAGEMAP_SCAN)", `pid ${this.pid}`));
    return regions.subarray(0, 3 * n);
  }

  /** The same of private file mappings in these ranges, kept beyond the next scan. */
  ownIn(ranges: Array<[number, number]>): BigUint64Array | undefined {
    return ranges.length > 0 ? this.#scanOwn(wordsOf(ranges)).slice() : undefined;
  }

  /** Copies at most `most` pages from the cursor on straight into a page stream; returns its bytes. */
  copyEncode(regions: BigUint64Array, cursor: Float64Array, most: number, out: Buffer, whole: boolean): number {
    const { pid, memoryFd, shadow, shared } = this;
    this.#own.lose();
    const bytes = this.huge.reading((huge) =>
      copyEncode(pid, memoryFd, regions, regions.length / 3, cursor, most, shadow, out, whole, shared, huge),
    );
    this.#guards.noteCopy(regions, cursor[3]!);
    return bytes;
  }

  /**
   * Ranges whose pages were sent and that were given back together with their page tables, which no scan for written pages
   * reports. With all threads stopped.
   * @param written regions that are copied, where there may be huge pages; undefined: they were looked at in this stop
   */
  takeDropped(written: BigUint64Array | undefined): Array<[number, number]> {
    if (!this.shadow) return [];
    const dropped = this.#own.reverted((ranges) => this.#scanOwn(ranges));
    for (let n = holeStarts.length; n === holeStarts.length; ) {
      n = takeHoles(this.shadow, this.#pagemapFd, holeStarts, this.pid);
      for (const start of holeStarts.subarray(0, n)) dropped.push([Number(start), Number(start) + BLOCK_BYTES]);
    }
    if (written && !this.huge.isEmpty) dropped.push(...this.huge.takeGone(this.#scanHuge(), written));
    return dropped;
  }

  #scanHuge(): BigUint64Array {
    const n = this.#scanBehind(0, this.#ranges.huge, PAGE_IS.present);
    return regions.slice(0, 3 * checked(n, "ioctl(PAGEMAP_SCAN)", this.pid));
  }
}

function placeOf({ start, end, backing }: Area): string {
  return backing.type === "shared" ? `${start} ${end} ${backing.id} ${backing.offset}` : "";
}
