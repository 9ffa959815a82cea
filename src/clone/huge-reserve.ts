/**
 * Huge pages that checkpoints which are held, but not applied yet, will need: set aside before they count, so that no clone that
 * is in sync turns out to have too few.
 */
import type { Operation } from "../checkpoint/operations.ts";
import { call, tryCall } from "../kernel/calls.ts";
import { checked } from "../kernel/errors.ts";
import { hugeSizeFlags } from "../kernel/huge-pages.ts";
import { MAP, PROT } from "../kernel/numbers.ts";
import { AREA_FLAG } from "../resources/memory/area-flags.ts";
import { isLackOfHugePages, lackingHugePages } from "../resources/memory/lacking.ts";
import { type Area, type HugeArea, hasFlag } from "../resources/memory/layout.ts";
import { type SegmentState, segmentOf } from "../resources/shm/state.ts";
import { wholePages } from "./page-stream.ts";

/** Bytes by bytes of a page. */
type Demand = Map<number, number>;

/** What a clone consists of at some checkpoint, as far as it has huge pages. */
export interface HugeParts {
  layouts: Iterable<readonly Area[]>;
  segments: Iterable<SegmentState>;
}

export class HugeReserve {
  readonly #layouts = new Map<number, HugeArea[]>();
  readonly #segments = new Map<number, SegmentState>();
  readonly #held = new Map<number, { address: number; bytes: number }>();
  readonly #touched = new Touched();
  #changed = false;

  /** An operation of the newest checkpoint. */
  note(operation: Operation): void {
    switch (operation.op) {
      case "layout":
        this.#noteLayout(operation.pid, operation.areas.filter(isHuge), operation.fresh);
        return;
      case "pages":
        if (this.#touched.note(this.#layouts.get(operation.pid) ?? [], operation)) this.#changed = true;
        return;
      case "process":
      case "process-end":
        this.#noteLayout(operation.pid, []);
        return;
      case "segment":
        if (operation.segment.huge === undefined) return;
        this.#segments.set(operation.segment.id, operation.segment);
        this.#changed = true;
        return;
      case "segment-end":
        if (this.#segments.delete(operation.id)) this.#changed = true;
        return;
    }
  }

  #noteLayout(pid: number, areas: HugeArea[], fresh: Array<[number, number]> = []): void {
    this.#touched.follow(pid, areas, fresh);
    if (areas.length > 0) this.#layouts.set(pid, areas);
    else if (!this.#layouts.delete(pid)) return;
    this.#changed = true;
  }

  /**
   * The newest checkpoint is whole: sets aside what it needs beyond what has been applied.
   * @param first it has been applied itself
   * @throws OperatingError `huge-pages-lacking`
   */
  close(epoch: number, applied: HugeParts, first: boolean): void {
    this.#touched.close(epoch);
    if (first) this.#touched.apply(epoch);
    this.#hold(applied);
  }

  /** Everything up to this checkpoint has been applied. */
  applied(epoch: number, applied: HugeParts): void {
    this.#touched.apply(epoch);
    this.release();
    this.#hold(applied);
  }

  #hold(applied: HugeParts): void {
    if (!this.#changed) return;
    this.release();
    const wanted = demandOf({ layouts: this.#layouts.values(), segments: this.#segments.values() });
    for (const [pageBytes, bytes] of this.#touched.waiting())
      wanted.set(pageBytes, (wanted.get(pageBytes) ?? 0) + bytes);
    const there = demandOf(applied);
    for (const [pageBytes, bytes] of wanted) {
      const more = bytes - (there.get(pageBytes) ?? 0);
      if (more > 0) this.#held.set(pageBytes, { address: setAside(pageBytes, more), bytes: more });
    }
    this.#changed = false;
  }

  /** What was set aside is there for the clone; what comes next is looked at again. */
  release(): void {
    for (const { address, bytes } of this.#held.values()) call("munmap", address, bytes);
    this.#held.clear();
    this.#changed = this.#layouts.size > 0 || this.#segments.size > 0;
  }
}

function isHuge(area: Area): area is HugeArea {
  return area.huge !== undefined;
}

function setAside(pageBytes: number, bytes: number): number {
  const flags = (MAP.private | MAP.anonymous | MAP.huge) + hugeSizeFlags(pageBytes);
  const result = tryCall("mmap", 0, bytes, PROT.read | PROT.write, flags, -1, 0);
  if (isLackOfHugePages(result)) throw lackingHugePages(pageBytes, bytes);
  return checked(result, "mmap");
}

function demandOf({ layouts, segments }: HugeParts): Demand {
  const demand: Demand = new Map();
  const add = (pageBytes: number, bytes: number) => demand.set(pageBytes, (demand.get(pageBytes) ?? 0) + bytes);
  const shared = new Map<string, HugeArea[]>();
  for (const areas of layouts)
    for (const area of areas) {
      if (!isHuge(area) || hasFlag(area, AREA_FLAG.noReserve)) continue;
      const { backing, huge, start, end } = area;
      if (backing.type !== "shared") add(huge, end - start);
      else if (segmentOf(backing) === undefined) shared.set(backing.id, [...(shared.get(backing.id) ?? []), area]);
    }
  for (const areas of shared.values()) add(areas[0]!.huge, bytesOf(areas));
  for (const { huge, bytes } of segments) if (huge !== undefined) add(huge, Math.ceil(bytes / huge) * huge);
  return demand;
}

/** Of an object, what is mapped by any of these areas. */
function bytesOf(areas: readonly HugeArea[]): number {
  const parts = areas.flatMap(({ backing, start, end }) =>
    backing.type === "shared" ? [{ from: backing.offset, to: backing.offset + end - start }] : [],
  );
  let [bytes, behind] = [0, 0];
  for (const { from, to } of parts.sort((a, b) => a.from - b.from)) {
    bytes += Math.max(0, to - Math.max(from, behind));
    behind = Math.max(behind, to);
  }
  return bytes;
}

/** Huge pages that pages came for where nobody sets any aside (MAP_NORESERVE), until they are applied. */
class Touched {
  /** By object or process and place: bytes of a page. */
  readonly #applied = new Set<string>();
  #waiting: Array<{ epoch: number; pages: Map<string, number> }> = [];
  #newest = new Map<string, number>();

  /** Private ones that are not there any more, or anew, do not count as applied. */
  follow(pid: number, areas: readonly HugeArea[], fresh: ReadonlyArray<[number, number]>): void {
    for (const key of this.#applied) {
      const [owner, page] = key.split(" ");
      if (owner !== String(pid)) continue;
      const isThere = areas.some((area) => {
        const address = Number(page) * area.huge;
        return (
          area.start <= address && address < area.end && !fresh.some(([from, to]) => from <= address && address < to)
        );
      });
      if (!isThere) this.#applied.delete(key);
    }
  }

  /** Whether there are any that were not there before. */
  note(areas: readonly HugeArea[], { pid, bytes }: { pid: number; bytes: Buffer }): boolean {
    const free = areas.filter((area) => hasFlag(area, AREA_FLAG.noReserve));
    if (free.length === 0) return false;
    const before = this.#newest.size;
    for (const { address } of wholePages(bytes)) {
      const area = free.find(({ start, end }) => start <= address && address < end);
      if (!area) continue;
      const { backing, huge, start } = area;
      const page = Math.floor((backing.type === "shared" ? address - start + backing.offset : address) / huge);
      const key = `${backing.type === "shared" ? backing.id : pid} ${page}`;
      if (!this.#applied.has(key)) this.#newest.set(key, huge);
    }
    return this.#newest.size > before;
  }

  close(epoch: number): void {
    if (this.#newest.size > 0) this.#waiting.push({ epoch, pages: this.#newest });
    this.#newest = new Map();
  }

  apply(epoch: number): void {
    for (; this.#waiting[0] && this.#waiting[0].epoch <= epoch; this.#waiting.shift())
      for (const key of this.#waiting[0].pages.keys()) this.#applied.add(key);
  }

  /** Bytes by bytes of a page. */
  waiting(): Demand {
    const demand: Demand = new Map();
    const seen = new Set<string>();
    for (const { pages } of this.#waiting)
      for (const [key, pageBytes] of pages) {
        if (!seen.has(key)) demand.set(pageBytes, (demand.get(pageBytes) ?? 0) + pageBytes);
        seen.add(key);
      }
    return demand;
  }
}
