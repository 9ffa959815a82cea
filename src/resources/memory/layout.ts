/** The areas of an address space as plain data, and the difference between two layouts. */

import { hugePageBytes } from "../../kernel/huge-pages.ts";
import { USER_SPACE_BEGIN, USER_SPACE_END } from "../../kernel/numbers.ts";
import { type MapsEntry, parseMaps } from "../../kernel/procfs.ts";
import { AREA_FLAG } from "./area-flags.ts";

/** What is behind an area. `kernel`: vdso, vvar: moved as they are, never copied. `shared`: memory without a file of a name. */
export type Backing =
  | { type: "anonymous" }
  | { type: "stack" }
  | { type: "kernel"; name: string }
  | FileBacking
  | SharedBacking;

export interface FileBacking {
  type: "file";
  path: string;
  offset: number;
  shared: boolean;
  /** It has no name any more (deleted, replaced by an upgrade, a memfd), mapped private: what is in it travels by itself. */
  id?: string;
}

/** An area over a file that no name leads to. */
export type NamelessArea = Area & { backing: FileBacking & { id: string } };

export function isNameless(area: Area): area is NamelessArea {
  return area.backing.type === "file" && area.backing.id !== undefined;
}

export interface SharedBacking {
  type: "shared";
  id: string;
  offset: number;
  path: string;
}

/**
 * @kind memory
 * @kept private and shared, anonymous, of files, the heap, stacks that grow, reserved space, protections; only pages that
 *   were written travel. Private mappings of files that were deleted or replaced since (a library after an upgrade), and of
 *   memfd. Advice given with madvise, mlock and mlockall, seals; guards (MADV_GUARD_INSTALL, kernel 6.16);
 *   huge pages of hugetlb of any size, private, shared, memfd and System V.
 * @unkept memory under a protection key (refused); what may be dropped at any time (MAP_DROPPABLE) is; files of a mounted hugetlbfs and
 *   private mappings of a memfd of huge pages (refused); shared memory with content under a guard (refused).
 */
export interface Area {
  start: number;
  end: number;
  /** PROT_* bits */
  protection: number;
  backing: Backing;
  /** The area that brk moves the end of. */
  heap?: true;
  /** Shared memory opened or attached for reading only: no mprotect can make it writable. */
  readOnly?: true;
  /** AREA_FLAG bits, where it has any. */
  flags?: number;
  /** Bytes of a page, where somebody has set huge ones aside (hugetlb). */
  huge?: number;
}

export type HugeArea = Area & { huge: number };

export function hasFlag({ flags = 0 }: Area, flag: bigint): boolean {
  return flags !== 0 && (BigInt(flags) & flag) !== 0n;
}

/** Of hugetlb without a file: to the kernel a file of its own. */
const HUGE_PRIVATE = "/anon_hugepage (deleted)";
const KERNEL_AREAS = new Set(["[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]", "[uprobes]"]);

function backingOf(entry: MapsEntry): Backing {
  const { path, shared, offset, inode, id } = entry;
  if (KERNEL_AREAS.has(path)) return { type: "kernel", name: path };
  if (path === HUGE_PRIVATE && !shared) return { type: "anonymous" };
  if (path === "[stack]") return { type: "stack" };
  // The first System V segment has inode 0, too.
  const fileless = inode === 0 && !path.startsWith("/SYSV");
  if (fileless || path === "[heap]" || (path.startsWith("[anon:") && !shared)) return { type: "anonymous" };
  const nameless =
    path.endsWith(" (deleted)") ||
    path.startsWith("/memfd:") ||
    path.startsWith("/SYSV") ||
    path.startsWith("[anon_shmem:");
  if (!nameless) return { type: "file", path, offset, shared };
  return shared ? { type: "shared", id, offset, path } : { type: "file", path, offset, shared, id };
}

export function parseLayout(text: string): Area[] {
  return parseMaps(text)
    .filter((entry) => entry.start < USER_SPACE_END)
    .map((entry) => {
      const huge = entry.path === "" ? undefined : hugePageBytes(entry.device);
      return {
        start: entry.start,
        end: entry.end,
        protection: entry.protection,
        backing: backingOf(entry),
        ...(entry.path === "[heap]" ? { heap: true as const } : {}),
        ...(huge === undefined ? {} : { huge }),
      };
    });
}

/** Whether the kernel can report writes to the area (userfaultfd registers only what may become writable). */
export function isTrackable(area: Area): boolean {
  const { backing } = area;
  if (backing.type === "kernel" || area.readOnly) return false;
  // The kernel may take it away at any time, and watches it for nobody.
  if (hasFlag(area, AREA_FLAG.droppable)) return false;
  return backing.type !== "file" || !backing.shared;
}

/** Ranges of consecutive trackable areas with the holes between them, as the kernel's calls take them at low cost. */
export function trackableRanges(areas: Area[], wanted: (area: Area) => boolean = isTrackable): Array<[number, number]> {
  const ranges: Array<[number, number]> = [];
  let begin = USER_SPACE_BEGIN;
  for (const area of areas) {
    if (wanted(area)) continue;
    if (area.start > begin) ranges.push([begin, area.start]);
    begin = area.end;
  }
  if (begin < USER_SPACE_END) ranges.push([begin, USER_SPACE_END]);
  return ranges.filter(([start, end]) => areas.some((a) => wanted(a) && a.start >= start && a.end <= end));
}

function sameFile(a: FileBacking, b: FileBacking): boolean {
  return a.shared === b.shared && a.id === b.id && (a.id !== undefined || a.path === b.path);
}

/** Whether `b` continues or is the same memory as `a` where they overlap. */
function sameBacking(a: Area, b: Area): boolean {
  if (a.huge !== b.huge) return false;
  const x = a.backing;
  const y = b.backing;
  if (x.type === "file" && y.type === "file") return sameFile(x, y) && x.offset - a.start === y.offset - b.start;
  if (x.type === "shared" && y.type === "shared") return x.id === y.id && x.offset - a.start === y.offset - b.start;
  if (x.type === "kernel" || y.type === "kernel") return x.type === y.type;
  return x.type === y.type || (x.type !== "file" && x.type !== "shared" && y.type !== "file" && y.type !== "shared");
}

/** One step from a layout to the next. */
export type LayoutStep =
  | { step: "unmap"; start: number; end: number }
  | { step: "map"; area: Area }
  | { step: "protect"; start: number; end: number; protection: number };

/** The part of an area inside a range, offsets moved along. */
function cut(area: Area, start: number, end: number): Area {
  const { backing } = area;
  if ((backing.type === "file" || backing.type === "shared") && start !== area.start)
    return { ...area, start, end, backing: { ...backing, offset: backing.offset + start - area.start } };
  return { ...area, start, end };
}

/**
 * Steps that turn a clone's areas `from` into `to` without touching the content of what stays. `fresh` ranges were unmapped
 * and mapped anew since (same place, perhaps same look, other content), so they are replaced.
 */
export function layoutSteps(from: Area[], to: Area[], fresh: Array<[number, number]> = []): LayoutStep[] {
  const points = new Set<number>();
  for (const area of [...from, ...to]) points.add(area.start).add(area.end);
  for (const [start, end] of fresh) points.add(start).add(end);
  const edges = [...points].sort((a, b) => a - b);
  const steps: LayoutStep[] = [];
  const unmaps: LayoutStep[] = [];
  let f = 0;
  let t = 0;
  for (let i = 0; i + 1 < edges.length; i++) {
    const start = edges[i]!;
    const end = edges[i + 1]!;
    while (f < from.length && from[f]!.end <= start) f++;
    while (t < to.length && to[t]!.end <= start) t++;
    const old = from[f] && from[f]!.start <= start ? from[f] : undefined;
    const now = to[t] && to[t]!.start <= start ? to[t] : undefined;
    if (!old && !now) continue;
    const isFresh = fresh.some(([s, e]) => s <= start && end <= e);
    const keep = old && now && !isFresh && sameBacking(old, now);
    if (keep) {
      if (old.protection !== now.protection) steps.push({ step: "protect", start, end, protection: now.protection });
      continue;
    }
    if (old) unmaps.push({ step: "unmap", start, end });
    if (now) steps.push({ step: "map", area: cut(now, start, end) });
  }
  return [...joinUnmaps(unmaps), ...joinMaps(steps)];
}

function joinUnmaps(steps: LayoutStep[]): LayoutStep[] {
  const joined: LayoutStep[] = [];
  for (const step of steps) {
    const last = joined.at(-1);
    if (step.step === "unmap" && last?.step === "unmap" && last.end === step.start) last.end = step.end;
    else joined.push({ ...step });
  }
  return joined;
}

/** Elementary intervals of one area become one mapping again. */
function joinMaps(steps: LayoutStep[]): LayoutStep[] {
  const joined: LayoutStep[] = [];
  for (const step of steps) {
    const last = joined.at(-1);
    if (
      step.step === "map" &&
      last?.step === "map" &&
      last.area.end === step.area.start &&
      last.area.protection === step.area.protection &&
      last.area.flags === step.area.flags &&
      last.area.backing.type === step.area.backing.type &&
      step.area.backing.type !== "kernel" &&
      sameBacking(last.area, step.area)
    )
      last.area = { ...last.area, end: step.area.end };
    else joined.push(step.step === "map" ? { step: "map", area: { ...step.area } } : step);
  }
  return joined;
}
