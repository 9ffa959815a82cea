/** System V shared memory as plain data. */
import type { Owned } from "../sysv.ts";

export interface SegmentState extends Owned {
  bytes: number;
  /** Bytes of a page, where somebody has set huge ones aside (SHM_HUGETLB). */
  huge?: number;
}

/** What a clone must know of segments before it can lay out the memory of processes that have them attached. */
export type SegmentOperation =
  /** New, or its owner, mode or key are others than before (removed while attached: SHM_DEST). */
  | { op: "segment"; segment: SegmentState }
  /** Content that no attached process's pages bring. */
  | { op: "segment-bytes"; id: number; offset: number; bytes: Buffer }
  | { op: "segment-end"; id: number };

/** In `mode`: removed, to vanish with the last detach. */
export const SHM_DEST = 0o1000;
export const SHM_LOCKED = 0o2000;

/** Identifier of the segment behind an area, from what /proc/PID/maps says: the inode's number is the segment's. */
export function segmentOf(backing: { id: string; path: string }): number | undefined {
  return backing.path.startsWith("/SYSV") ? Number(backing.id.split(":").at(-1)) : undefined;
}
