/**
 * Follows the memory of one traced process: which pages were written since last asked, and their content.
 *
 * Async write-protect userfaultfd + PAGEMAP_SCAN (kernel 6.7). The kernel reports each written page once. Areas mapped since
 * the last registration are not watched: a scan with CHECK_WPASYNC fails on them (EPERM), then they are found, registered and
 * taken as fresh, all their pages as written.
 */
import { readFileSync } from "node:fs";
import { call, closeDescriptor, openPath, Reader, tryCall } from "../../kernel/calls.ts";
import { checked } from "../../kernel/errors.ts";
import { readAt } from "../../kernel/files.ts";
import { ERRNO, PAGE_BYTES, PAGE_IS, PM_SCAN, PROT } from "../../kernel/numbers.ts";
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
import { AreaFlags, type FlagsNow } from "./area-flags.ts";
import { Guards } from "./guards.ts";
import { type Area, isTrackable, parseLayout, trackableRanges } from "./layout.ts";
import { OwnPages } from "./own-pages.ts";
import { refuseAreas } from "./refused.ts";
import { mergeRegions, splitRegions, sumPages, wordsOf } from "./regions.ts";
import { Userfault } from "./userfault.ts";

const O_RDONLY = 0;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const O_RDWR = 2;

/** Regions one scan may report: more, and everything is taken as written. */
const MAX_REGIONS = 1 << 20;
const regions = new BigUint64Array(3 * MAX_REGIONS);
const NO_RANGES = new BigUint64Array(0);
const probed = new BigUint64Array(3);
/** Leading regions that may be other than zero. */
let reported = 0;

/** Regions that a scan left which then failed. */
function countRegions(): number {
  let n = 0;
  while (n < MAX_REGIONS && regions[3 * n + 1] !== 0n) n++;
  return n;
}

/**
 * Memory reserved without access: from so many bytes on it is asked only for pages that are there. To protect what was never
 * touched, the kernel would have to make page tables for all of it.
 */
const RESERVED_BYTES = 1 << 20;

function isReserved(area: Area): boolean {
  return isTrackable(area) && area.protection === 0 && area.end - area.start >= RESERVED_BYTES;
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

/** Who follows the application's files. */
export interface FileNames {
  /** Another number when any of them may have another name; undefined: nobody follows them yet. */
  readonly version: number | undefined;
  covers(path: string): boolean;
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
  readonly #maps: Reader;
  readonly #names: FileNames | undefined;
  #mapsText = Buffer.alloc(0);
  #userfault: Userfault | undefined;
  #ranges: BigUint64Array = new BigUint64Array(0);
  /** The ranges without and with only what `isReserved`. */
  #openRanges: BigUint64Array = NO_RANGES;
  #reservedRanges: BigUint64Array = NO_RANGES;
  #privateRanges: BigUint64Array = new BigUint64Array(0);
  /** Regions that a scan reported (and protected again) but that nobody could take then: part of the next scan's result. */
  #owed: BigUint64Array[] = [];
  readonly #own = new OwnPages();
  readonly #guards: Guards;
  areas: Area[] = [];
  /** Ranges of memory that other mappings may write too. */
  shared: BigUint64Array = NO_RANGES;
  shadow: Shadow | null = null;

  /** @param names of the files that the application may map; without, each look reads the text of the layout */
  constructor(pid: number, names?: FileNames) {
    this.pid = pid;
    this.#names = names;
    this.memoryFd = openPath(`/proc/${pid}/mem`, O_RDWR);
    this.#pagemapFd = openPath(`/proc/${pid}/pagemap`, O_RDONLY);
    this.#maps = new Reader(openPath(`/proc/${pid}/maps`, O_RDONLY));
    this.#guards = new Guards(pid, this.#pagemapFd);
  }

  /** Begins to watch: needs one stopped thread of the process. Errors: EBUSY (the application watches its own memory). */
  watch(remote: Remote): void {
    if (this.#userfault) return;
    this.#userfault = Userfault.open(this.pid, remote);
    this.#flags = AreaFlags.of(this.pid);
    this.#look();
    this.#register();
    for (const area of this.areas) this.#protectShared(area);
  }

  /**
   * Shared memory as a whole, pages that are not in this process's table included: else a page that it only reads would count
   * as written. Whoever is watched from now on is asked for what is there, not for what was written.
   */
  #protectShared({ start, end, backing, readOnly }: Area): void {
    if (backing.type !== "shared" || readOnly) return;
    this.#userfault?.protect(start, end);
  }

  get watching(): boolean {
    return this.#userfault !== undefined;
  }

  /** Ends watching; the kernel takes all protection off by itself. */
  unwatch(): void {
    this.#userfault?.close();
    this.#userfault = undefined;
    this.shadow = null;
    this.#owed = [];
    this.#own.reset();
  }

  close(): void {
    this.unwatch();
    closeDescriptor(this.memoryFd);
    closeDescriptor(this.#pagemapFd);
    this.#maps.close();
  }

  /** Reads the layout again when the kernel's text of it differs; returns whether it did. */
  #look(): boolean {
    const text = this.#read();
    const flags = this.#flagsChanged();
    if (text.equals(this.#mapsText) && !flags) return false;
    this.#mapsText = Buffer.from(text);
    this.#flagsDiffer = false;
    const before = this.areas;
    this.areas = parseLayout(text.toString("latin1"));
    for (const area of this.areas) {
      const own = this.#flagsNow.areas.get(area.start);
      if (own !== undefined) area.flags = Number(own);
    }
    refuseAreas(this.areas);
    if (this.shared.length > 0) this.#noteUnmapped(before);
    for (const area of this.areas) if (this.#isReadOnly(area)) area.readOnly = true;
    this.#areNamesTold = this.areas.every(
      ({ backing }) => backing.type !== "file" || this.#names?.covers(backing.path),
    );
    this.#ranges = wordsOf(trackableRanges(this.areas));
    this.#reservedRanges = this.#rangesOf(isReserved);
    this.#openRanges = this.#reservedRanges.length
      ? wordsOf(trackableRanges(this.areas, (area) => isTrackable(area) && !isReserved(area)))
      : this.#ranges;
    this.#own.follow(this.#rangesOf((area) => area.backing.type === "file"));
    // One call over holes and all costs less than one for each area, where no shared memory must be left out.
    const anyShared = this.areas.some((area) => area.backing.type === "shared");
    this.shared = anyShared ? this.#rangesOf((area) => area.backing.type === "shared") : NO_RANGES;
    this.#privateRanges = anyShared ? this.#rangesOf((area) => area.backing.type !== "shared") : this.#ranges;
    return true;
  }

  /** Before the text was read last: what tells that it would be the same; undefined: unknown. */
  #readAt: { sequence: number; version: number } | undefined;
  /** Whoever follows the files would tell of a new name of each that is mapped. */
  #areNamesTold = false;

  #read(): Buffer {
    const sequence = this.#flags?.sequence();
    const version = this.#names?.version;
    const text = this.#maps.read();
    const isSettled = sequence !== undefined && sequence === this.#flags?.sequence();
    this.#readAt = isSettled && version !== undefined ? { sequence, version } : undefined;
    return text;
  }

  /** Without the text, which the kernel writes anew for every question: false where only the text can tell. */
  #isAsRead(): boolean {
    if (!this.#readAt || !this.#areNamesTold) return false;
    return this.#readAt.version === this.#names?.version && this.#readAt.sequence === this.#flags?.sequence();
  }

  #flags: AreaFlags | undefined;
  #flagsNow: FlagsNow = { areas: new Map(), future: 0n };
  #flagsDiffer = false;

  /** AREA_FLAG bits of areas to come. */
  get futureFlags(): number {
    return Number(this.#flagsNow.future);
  }

  /** Whether an area's flags are others than at the last look at the layout. */
  #flagsChanged(): boolean {
    const now = this.#flags?.look();
    if (now) {
      this.#flagsNow = now;
      this.#flagsDiffer = this.areas.some(({ start, flags }) => (flags ?? 0) !== Number(now.areas.get(start) ?? 0n));
    }
    return this.#flagsDiffer;
  }

  /** Asked for a region of an area of shared memory: whether anything is in it but zeros. */
  #hasContent(area: Area): (start: number, end: number) => boolean {
    return (start, end) => {
      const { inside } = splitRegions(this.populatedShared(area), [[start, end]]);
      return inside.length > 0 && this.#isOtherThanZero(area, inside);
    };
  }

  /** Read from the memory itself: in this process it may be out of reach. */
  #isOtherThanZero({ start, end, backing }: Area, regions: BigUint64Array): boolean {
    if (backing.type !== "shared") return false;
    const fd = openPath(`/proc/${this.pid}/map_files/${start.toString(16)}-${end.toString(16)}`, O_RDONLY);
    const page = Buffer.alloc(PAGE_BYTES);
    try {
      for (let i = 0; i < regions.length; i += 3)
        for (let at = Number(regions[i]); at < Number(regions[i + 1]); at += PAGE_BYTES)
          if (readAt(fd, page, backing.offset + at - start) > 0 && page.some((byte) => byte !== 0)) return true;
      return false;
    } finally {
      closeDescriptor(fd);
    }
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
  populatedShared({ start, end, backing }: Area): BigUint64Array {
    if (backing.type !== "shared") return NO_RANGES;
    const path = `/proc/${this.pid}/map_files/${start.toString(16)}-${end.toString(16)}`;
    const fd = openPath(path, O_RDONLY);
    const words: bigint[] = [];
    const last = backing.offset + end - start;
    try {
      for (let at = backing.offset; at < last; ) {
        const from = tryCall("lseek", fd, at, SEEK_DATA);
        if (from < 0 || from >= last) break;
        at = Math.min(last, call("lseek", fd, from, SEEK_HOLE));
        const shift = start - backing.offset;
        words.push(BigInt(from + shift), BigInt(roundUp(at) + shift), 0n);
      }
    } finally {
      closeDescriptor(fd);
    }
    return new BigUint64Array(words);
  }

  /** Shared memory that may never be written can be told by trying only: the kernel does not watch it. */
  #isReadOnly({ start, end, protection, backing }: Area): boolean {
    if (!this.#userfault || backing.type !== "shared" || (protection & PROT.write) !== 0) return false;
    if (this.#isWatched(start)) return false;
    if (this.#userfault.register(BigInt(start), BigInt(end)) === ERRNO.perm) return true;
    // It is watched from the next registration on, like everything new.
    this.#userfault.unregister();
    return false;
  }

  #register(again = false): void {
    for (let i = 0; i < this.#ranges.length; i += 2) {
      const start = this.#ranges[i]!;
      const r = this.#userfault!.register(start, this.#ranges[i + 1]!);
      if ((r === ERRNO.perm || r === ERRNO.invalid) && !again) {
        this.#registerAnew();
        return;
      }
      checked(r, "ioctl(UFFDIO_REGISTER)", `pid ${this.pid}, 0x${start.toString(16)}`);
    }
  }

  /**
   * A mapping that cannot be watched has come since the look, or in the place of one that looked the same: a memfd has been
   * sealed between.
   */
  #registerAnew(): void {
    this.#mapsText = Buffer.alloc(0);
    this.#look();
    this.#register(true);
  }

  readonly #probe = new BigUint64Array(2);

  /** Areas that are not watched yet. */
  #unwatched(): Array<[number, number]> {
    const found: Array<[number, number]> = [];
    for (const area of this.areas) {
      if (!isTrackable(area)) continue;
      if (!this.#isWatched(area.start)) found.push([area.start, area.end]);
    }
    return found;
  }

  /** Whether the area that begins there is registered. */
  #isWatched(start: number): boolean {
    const { written } = PAGE_IS;
    this.#probe[0] = BigInt(start);
    this.#probe[1] = BigInt(start + PAGE_BYTES);
    const r = scanPages(this.#pagemapFd, this.#probe, PM_SCAN.checkWpAsync, 0, written, 0, written, probed);
    if (r === ERRNO.perm) return false;
    checked(r, "ioctl(PAGEMAP_SCAN)", `pid ${this.pid}`);
    return true;
  }

  /** With all threads stopped: the layout now, what of it is new; new areas are watched from here on. */
  refresh(): LayoutChange {
    const changed = this.#look();
    if (changed) this.#guards.noteLayout();
    const fresh = this.#unwatched();
    if (fresh.length) {
      this.#register();
      this.#protectFresh(fresh);
    }
    if (this.shadow) for (const [start, end] of fresh) dropFromShadow(this.shadow, start, end);
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
  }

  /**
   * A thread is putting a guard over this range and cannot, for the kernel takes the mark of a protected page that is not there
   * for a page (6.18, guard_install_pte_entry): as soon as it runs, it can.
   */
  letGuard(start: number, end: number): void {
    for (const area of this.areas) {
      const [from, to] = [Math.max(start, area.start), Math.min(end, area.end)];
      if (from < to && isTrackable(area)) this.#userfault?.unprotect(from, to);
    }
  }

  /** Guard areas now, [start, end] each; asked for after the copy. With all threads stopped. */
  takeGuards(): ReadonlyArray<[number, number]> {
    return this.#guards.look(this.areas, (area) => this.#hasContent(area));
  }

  /** Forgets the shadow of what an older layout had and this one has not. */
  dropShadow(start: number, end: number): void {
    if (this.shadow) dropFromShadow(this.shadow, start, end);
  }

  layoutChanged(): boolean {
    if (this.#isAsRead()) return false;
    return !this.#read().equals(this.#mapsText) || this.#flagsChanged();
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
    let n = scanPages(this.#pagemapFd, this.#openRanges, flags, 0, written, 0, written, regions);
    if (n >= 0 && this.#reservedRanges.length > 0) {
      const rest = regions.subarray(3 * n);
      const more = scanPages(this.#pagemapFd, this.#reservedRanges, flags, 0, written, PRESENT, written, rest);
      if (more > 0) {
        this.#owed.push(rest.slice(0, 3 * more));
        rest.fill(0n, 0, 3 * more);
      }
      if (more < 0) n = more;
    }
    reported = n >= 0 ? n : countRegions();
    if (n === ERRNO.perm) {
      // What lies before the unwatched area has been reported, and is protected again: no later scan would tell.
      if (reported > 0) this.#owed.push(regions.slice(0, 3 * reported));
      return n;
    }
    return n < 0 || this.#owed.length === 0 ? n : this.#addOwed(n);
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
    if (n < 0) return n;
    const more = scanPages(this.#pagemapFd, this.shared, 0, 0, 0, PRESENT, PAGE_IS.present, regions.subarray(3 * n));
    if (more < 0) return more;
    reported = Math.max(reported, n + more);
    return n + more;
  }

  /** Private pages that are there (or swapped out) and not the mapped file's: the bit for "file" must be clear. */
  #scanPrivate(): number {
    const { file, present } = PAGE_IS;
    const n = scanPages(this.#pagemapFd, this.#privateRanges, 0, file, file, PRESENT, present, regions);
    reported = Math.max(reported, n);
    return n;
  }

  /** Ranges of areas, neighbours joined. */
  #rangesOf(wanted: (area: Area) => boolean): BigUint64Array {
    const words: bigint[] = [];
    for (const area of this.areas) {
      if (!isTrackable(area) || !wanted(area)) continue;
      if (words.length && words.at(-1) === BigInt(area.start)) words[words.length - 1] = BigInt(area.end);
      else words.push(BigInt(area.start), BigInt(area.end));
    }
    return new BigUint64Array(words);
  }

  /** Of shared memory, what the process has written since the last scan; all it has touched, when it is not watched. */
  sharedWritten(): BigUint64Array {
    if (!this.#userfault) this.#look();
    if (this.shared.length === 0) return NO_RANGES;
    const wanted = !this.#userfault ? PRESENT : PAGE_IS.written;
    const n = scanPages(this.#pagemapFd, this.shared, 0, 0, 0, wanted, wanted, regions);
    reported = Math.max(reported, n);
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
    const n = copyPages(
      this.pid,
      this.memoryFd,
      from ?? regions,
      count,
      staging.bytes,
      staging.addresses,
      staging.pages,
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

  /** Copies at most `most` pages from the cursor on straight into a page stream; returns its bytes. */
  copyEncode(regions: BigUint64Array, cursor: Float64Array, most: number, out: Buffer, whole: boolean): number {
    const { pid, memoryFd, shadow, shared } = this;
    this.#own.lose();
    const bytes = copyEncode(pid, memoryFd, regions, regions.length / 3, cursor, most, shadow, out, whole, shared);
    this.#guards.noteCopy(regions, cursor[3]!);
    return bytes;
  }

  /**
   * Ranges whose pages were sent and that were given back together with their page tables, which no scan for written pages
   * reports. With all threads stopped.
   */
  takeDropped(): Array<[number, number]> {
    if (!this.shadow) return [];
    const dropped = this.#own.reverted((ranges) => this.#scanOwn(ranges));
    for (let n = holeStarts.length; n === holeStarts.length; ) {
      n = takeHoles(this.shadow, this.#pagemapFd, holeStarts, this.pid);
      for (const start of holeStarts.subarray(0, n)) dropped.push([Number(start), Number(start) + BLOCK_BYTES]);
    }
    return dropped;
  }
}

function placeOf({ start, end, backing }: Area): string {
  return backing.type === "shared" ? `${start} ${end} ${backing.id} ${backing.offset}` : "";
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;
}
