/**
 * Memory of huge pages that somebody has set aside (hugetlb): sizes, and how it is told from other memory. What is mapped without a
 * file, memfd and System V segments are in file systems of the kernel's own, one for each size.
 */
import { readdirSync, readFileSync } from "node:fs";
import { addon, type HugeContent, type HugeSources } from "./addon.ts";
import { closeDescriptor, makeMemory } from "./calls.ts";
import { checked, SystemCallError } from "./errors.ts";
import { Status } from "./files.ts";

export type { HugeContent, HugeSources } from "./addon.ts";

const DIRECTORY = "/sys/kernel/mm/hugepages";
const MFD_HUGETLB = 4;
/** Bits of MAP_HUGETLB, MFD_HUGETLB and SHM_HUGETLB that hold the binary logarithm of the size. */
const SIZE_SHIFT = 26;

let sizes: ReadonlyMap<string, number> | undefined;

/** Bytes of a huge page, by the device of the file system as /proc/PID/maps has it. Nothing where the kernel has no such memory. */
function sizesByDevice(): ReadonlyMap<string, number> {
  sizes ??= new Map(sizesHere().flatMap((bytes) => deviceOf(bytes) ?? []));
  return sizes;
}

function sizesHere(): number[] {
  try {
    return readdirSync(DIRECTORY).map((name) => 1024 * Number(/^hugepages-(\d+)kB$/.exec(name)?.[1]));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

function deviceOf(bytes: number): [[device: string, bytes: number]] | undefined {
  try {
    const fd = makeMemory("size", hugeMemoryFlags(bytes));
    const status = new Status();
    const failed = status.read(fd, "") < 0;
    closeDescriptor(fd);
    return failed ? undefined : [[deviceName(status.ownMajor, status.ownMinor), bytes]];
  } catch (error) {
    if (error instanceof SystemCallError) return undefined;
    throw error;
  }
}

function deviceName(major: number, minor: number): string {
  const hex = (n: number) => n.toString(16).padStart(2, "0");
  return `${hex(major)}:${hex(minor)}`;
}

/** Undefined: ordinary pages. @param device as /proc/PID/maps has it */
export function hugePageBytes(device: string): number | undefined {
  return sizesByDevice().get(device);
}

export function hugePageBytesOf(status: Status): number | undefined {
  return hugePageBytes(deviceName(status.ownMajor, status.ownMinor));
}

/** Bytes of a page, of all sizes that this kernel has. */
export function hugePageSizes(): number[] {
  return [...sizesByDevice().values()];
}

/** The size as a part of the flags of mmap, memfd_create and shmget. */
export function hugeSizeFlags(bytes: number): number {
  return Math.log2(bytes) * 2 ** SIZE_SHIFT;
}

export function hugeMemoryFlags(bytes: number): number {
  return MFD_HUGETLB + hugeSizeFlags(bytes);
}

/** "2 MiB", "1 GiB" */
export function hugeSizeName(bytes: number): string {
  return bytes >= 2 ** 30 ? `${bytes / 2 ** 30} GiB` : `${bytes / 2 ** 20} MiB`;
}

/** What the clones have of memory of huge pages: nothing yet. */
export function makeHugeContent(limitPages: number): HugeContent {
  return addon.hugeContent(limitPages);
}

/** A range is zeros on every clone. */
export function forgetHuge(content: HugeContent, from: number, to: number): void {
  addon.hugeForget(content, from, to);
}

/** The clones have got whole pages of it another way. */
export function noteHuge(content: HugeContent, from: number, bytes: Buffer): void {
  addon.hugeNote(content, from, bytes, bytes.length);
}

/** @param ranges [start, end, what is added to an address to find it behind the descriptor …] */
export function hugeSourcesOf(ranges: BigUint64Array, fds: Int32Array, contents: readonly HugeContent[]): HugeSources {
  return addon.hugeSources(ranges, fds, contents);
}

export function openHugeSources(sources: HugeSources, fds: Int32Array): void {
  addon.hugeOpen(sources, fds);
}

/** Some clone has these of the staged pages without having been sent them. */
export function seenHuge(
  sources: HugeSources,
  staging: Buffer,
  addresses: BigUint64Array,
  from: number,
  to: number,
): void {
  addon.hugeSeen(sources, staging, addresses, from, to);
}

/** What a piece of the content is looked at by. */
export const HUGE_BLOCK_BYTES = 2 << 20;
const found = new BigUint64Array(1024);

/**
 * Of private memory, blocks that are zeros again though no scan reports them written.
 * @param present regions that have pages
 * @param written regions that are copied anyway
 */
export function goneHuge(
  content: HugeContent,
  memoryFd: number,
  present: BigUint64Array,
  written: BigUint64Array,
): number[] {
  return blocksBy((out) => addon.hugeGone(content, memoryFd, present, written, out), content);
}

/** Of a shared object, offsets of blocks that are zeros again. */
export function zeroedHuge(content: HugeContent, fd: number): number[] {
  return blocksBy((out) => addon.hugeZeroed(content, fd, out), content);
}

/** Each is forgotten at once, so that a full answer can be followed by another. */
function blocksBy(look: (out: BigUint64Array) => number, content: HugeContent): number[] {
  const blocks: number[] = [];
  for (let n = found.length; n === found.length; ) {
    n = checked(look(found), "look at huge pages");
    for (const start of found.subarray(0, n)) {
      blocks.push(Number(start));
      forgetHuge(content, Number(start), Number(start) + HUGE_BLOCK_BYTES);
    }
  }
  return blocks;
}

/** Writes to a file of huge pages, which write(2) does not. Errors: ENOMEM (there are not enough huge pages) */
export function writeHuge(fd: number, bytes: Buffer, offset: number, unit: number): void {
  checked(addon.writeMapped(fd, offset, bytes, bytes.length, unit), "mmap of huge pages");
}

/** Huge pages of a size that nobody has been promised, all there are, and how many may be made beyond when they are needed. */
export function freeHugePages(bytes: number): { free: number; all: number; more: number } {
  const read = (name: string) => readNumber(`${DIRECTORY}/hugepages-${bytes / 1024}kB/${name}`);
  const more = read("nr_overcommit_hugepages") - read("surplus_hugepages");
  const all = read("nr_hugepages");
  return { free: read("free_hugepages") - read("resv_hugepages") + more, all, more };
}

function readNumber(path: string): number {
  try {
    return Number(readFileSync(path, "latin1"));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return 0;
    throw error;
  }
}
