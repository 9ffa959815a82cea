/** What is in an area of shared memory, asked of the memory itself: a process need not have in its page table what others have written. */
import { call, closeDescriptor, openPath, tryCall } from "../../kernel/calls.ts";
import { readAt } from "../../kernel/files.ts";
import { PAGE_BYTES } from "../../kernel/numbers.ts";
import type { Area } from "./layout.ts";
import { splitRegions } from "./regions.ts";

const O_RDONLY = 0;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const NOTHING = new BigUint64Array(0);

/** The parts that have pages, whoever made them, as regions of the process. */
export function populatedParts(pid: number, area: Area): BigUint64Array {
  const { start, end, backing } = area;
  if (backing.type !== "shared") return NOTHING;
  const fd = openArea(pid, area);
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

/** Asked for a region of the area: whether anything is in it but zeros. */
export function contentIn(pid: number, area: Area): (start: number, end: number) => boolean {
  return (start, end) => {
    const { inside } = splitRegions(populatedParts(pid, area), [[start, end]]);
    return inside.length > 0 && isOtherThanZero(pid, area, inside);
  };
}

function isOtherThanZero(pid: number, area: Area, regions: BigUint64Array): boolean {
  const { start, backing } = area;
  if (backing.type !== "shared") return false;
  const fd = openArea(pid, area);
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

function openArea(pid: number, { start, end }: Area): number {
  return openPath(`/proc/${pid}/map_files/${start.toString(16)}-${end.toString(16)}`, O_RDONLY);
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;
}
