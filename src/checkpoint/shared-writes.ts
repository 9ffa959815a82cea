/**
 * Writes to shared memory by processes that end before anybody asks: with their address space goes the kernel's note of what
 * they wrote. It is taken on their way out and given to another process that has the same memory mapped.
 */
import type { Area } from "../resources/memory/layout.ts";
import { splitRegions } from "../resources/memory/regions.ts";
import { MemoryTracker } from "../resources/memory/tracker.ts";

interface Written {
  /** Of the memory object, see Backing. */
  id: string;
  /** Range in it, bytes. */
  from: number;
  to: number;
}

export class SharedWrites {
  readonly #written: Written[] = [];

  /** With the process's last thread stopped on its way out. `known` is its tracker, when it is watched. */
  noteEnd(pid: number, known: MemoryTracker | undefined): void {
    const tracker = known ?? new MemoryTracker(pid);
    try {
      const regions = tracker.sharedWritten();
      for (let i = 0; i < regions.length; i += 3) this.#note(tracker, Number(regions[i]), Number(regions[i + 1]));
    } finally {
      if (!known) tracker.close();
    }
  }

  /** A process that goes on has mapped these no longer, or elsewhere. */
  noteUnmapped(areas: Area[]): void {
    for (const { start, end, backing } of areas)
      if (backing.type === "shared")
        this.#written.push({ id: backing.id, from: backing.offset, to: backing.offset + end - start });
  }

  #note(tracker: MemoryTracker, start: number, end: number): void {
    for (const area of tracker.areas) {
      if (area.backing.type !== "shared" || area.start >= end || area.end <= start) continue;
      const shift = area.backing.offset - area.start;
      const [from, to] = [Math.max(start, area.start) + shift, Math.min(end, area.end) + shift];
      this.#written.push({ id: area.backing.id, from, to });
    }
  }

  /**
   * In the stop: what was noted counts as written by one of those given. Returns who got something, and the names of memory of
   * which something is mapped by none of them.
   */
  settle(trackers: MemoryTracker[]): { told: Set<MemoryTracker>; unseen: Set<string> } {
    const told = new Set<MemoryTracker>();
    const unseen = new Set<string>();
    for (const written of this.#written.splice(0)) {
      let left: Array<[number, number]> = [[written.from, written.to]];
      for (const tracker of trackers)
        for (const area of tracker.areas) {
          if (left.length === 0 || area.backing.type !== "shared" || area.backing.id !== written.id) continue;
          if (area.readOnly) continue;
          left = left.flatMap((part) => give(tracker, area, area.backing as { offset: number }, part));
          told.add(tracker);
        }
      if (left.length > 0) unseen.add(written.id);
    }
    return { told, unseen };
  }
}

/** So much is looked through for pages that are there at all. */
const LARGE_BYTES = 1 << 20;

/** Gives the part of a range that an area covers to its tracker; returns what is left of it. */
function give(
  tracker: MemoryTracker,
  area: Area,
  { offset }: { offset: number },
  [from, to]: [number, number],
): Array<[number, number]> {
  const shift = area.start - offset;
  const [start, end] = [Math.max(area.start, from + shift), Math.min(area.end, to + shift)];
  if (start >= end) return [[from, to]];
  const whole = BigUint64Array.of(BigInt(start), BigInt(end), 0n);
  // Of huge pages nobody tells which are there, and a look at those that are not costs little.
  const isLarge = end - start > LARGE_BYTES && area.huge === undefined;
  tracker.owe(isLarge ? splitRegions(tracker.populatedShared(area), [[start, end]]).inside : whole);
  const left: Array<[number, number]> = [
    [from, start - shift],
    [end - shift, to],
  ];
  return left.filter(([a, b]) => a < b);
}
