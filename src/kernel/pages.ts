/** An address space's pages: find the written ones, copy, encode, verify and write them (native/memory.cc has the loops). */
import { addon, type HugeSources, type Shadow } from "./addon.ts";
import { checked, SystemCallError } from "./errors.ts";
import { ERRNO } from "./numbers.ts";

export type { Shadow } from "./addon.ts";

/**
 * PAGEMAP_SCAN (kernel 6.7) over `ranges` [start, end …]; regions of three words [start, end, categories] go to `out`.
 * @returns number of regions, or −errno: −EPERM (an area is not watched) and −ENOSPC (`out` is full) are answers
 */
export function scanPages(
  pagemapFd: number,
  ranges: BigUint64Array,
  flags: number,
  inverted: number,
  mask: number,
  anyOf: number,
  returned: number,
  out: BigUint64Array,
): number {
  return addon.scan(pagemapFd, ranges, flags, inverted, mask, anyOf, returned, out);
}

/** Whether one of the first `count` regions is not wholly inside a range [start, end …]; both are sorted. */
export function anyOutside(regions: BigUint64Array, count: number, ranges: BigUint64Array): boolean {
  return addon.anyOutside(regions, count, ranges);
}

/**
 * Reads all pages of `count` regions into `staging`, from page `first` on, and notes their addresses. Pages that vanished
 * meanwhile are left out.
 * @param huge where huge pages among them are read
 * @returns the new number of pages in `staging`, or −ENOSPC when they do not fit
 */
export function copyPages(
  pid: number,
  memoryFd: number,
  regions: BigUint64Array,
  count: number,
  staging: Buffer,
  addresses: BigUint64Array,
  first: number,
  huge: HugeSources | null = null,
): number {
  const n = addon.copyPages(pid, memoryFd, regions, count, staging, addresses, first, huge);
  return n === ERRNO.noSpace ? n : checked(n, "process_vm_readv", pid);
}

/** An empty shadow; pages beyond the limit are sent whole. */
export function makeShadow(limitPages: number): Shadow {
  return addon.shadowNew(limitPages);
}

/** Forgets the pages of a range, because the clone's are gone too. */
export function dropFromShadow(shadow: Shadow, start: number, end: number): void {
  addon.shadowDrop(shadow, start, end);
}

/**
 * Blocks (2 MiB) in which something was sent and that have no page table any more; they are forgotten.
 * @returns how many start addresses are in `out`
 */
export function takeHoles(shadow: Shadow, pagemapFd: number, out: BigUint64Array, pid: number): number {
  return checked(addon.holes(shadow, pagemapFd, out), "ioctl(PAGEMAP_SCAN)", pid);
}

/**
 * Appends the page stream of the staged pages [from, to) to `out`; unchanged pages produce nothing, with `whole` every page goes
 * out as it is.
 * @param shared ranges [start, end …] that other processes write, too
 * @returns the new offset in `out`
 */
export function encodePages(
  staging: Buffer,
  addresses: BigUint64Array,
  from: number,
  to: number,
  shadow: Shadow | null,
  out: Buffer,
  offset: number,
  whole: boolean,
  shared: BigUint64Array,
  huge: HugeSources | null = null,
): number {
  return checked(addon.encode(staging, addresses, from, to, shadow, out, offset, whole, shared, huge), "encode");
}

/**
 * Copies pages of `count` regions and encodes them in one go, from `cursor` on, at most `most` pages; the cursor moves on.
 * @param cursor region, address, then pages that were there, pages that could not be read
 * @returns bytes of the page stream in `out`
 */
export function copyEncode(
  pid: number,
  memoryFd: number,
  regions: BigUint64Array,
  count: number,
  cursor: Float64Array,
  most: number,
  shadow: Shadow | null,
  out: Buffer,
  whole: boolean,
  shared: BigUint64Array,
  huge: HugeSources | null = null,
): number {
  return checked(
    addon.copyEncode(pid, memoryFd, regions, count, cursor, most, shadow, out, whole, shared, huge),
    "process_vm_readv",
    pid,
  );
}

/** What `digestPages` says of a page. */
export const PAGE_CHANGE = { none: 0, content: 1, zeros: 2 } as const;

/**
 * Compares pages with their digests, from page `first` of these on, and replaces those that differ. Digests are two words a page:
 * all bits 0 is a page of zeros, all bits 1 is not known. Different pages have equal digests with a probability of 2^-64.
 * @param changed gets a `PAGE_CHANGE` for each page
 * @returns how many differ
 */
export function digestPages(
  bytes: Buffer,
  pages: number,
  digests: BigUint64Array,
  first: number,
  changed: Uint8Array,
): number {
  return addon.digestPages(bytes, pages, digests, first, changed);
}

/** Number of pages that a page stream touches, or −EBADMSG when it is not well-formed. */
export function verifyPages(stream: Buffer, offset = 0, end = stream.length): number {
  return addon.verify(stream, offset, end);
}

/** Writes a page stream into a process from outside; returns the offset behind it. */
export function applyPages(pid: number, memoryFd: number, stream: Buffer): number {
  return checked(addon.apply(pid, memoryFd, stream, 0, stream.length), "write to the clone", pid);
}

/** A Buffer over shared memory, for as long as this process lives. */
export function mapShared(fd: number, bytes: number): Buffer {
  const mapped = addon.mapShared(fd, bytes);
  if (typeof mapped === "number") throw new SystemCallError("mmap", mapped);
  return mapped;
}

/**
 * Copies as many records of a page stream as fit.
 * @param state [bytes in the window, bytes of the next record that were taken]; the second one is 0 at first
 * @returns the offset behind what was taken
 */
export function fillWindow(stream: Buffer, offset: number, window: Buffer, state: Float64Array): number {
  return addon.fillWindow(stream, offset, window, state);
}
