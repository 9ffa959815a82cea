/**
 * Writes to shared memory by processes that end before anybody asks: with their address space goes the kernel's note of what
 * they wrote. It is taken on their way out and given to another process that has the same memory mapped.
 */
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

  #note(tracker: MemoryTracker, start: number, end: number): void {
    for (const area of tracker.areas) {
      if (area.backing.type !== "shared" || area.start >= end || area.end <= start) continue;
      const shift = area.backing.offset - area.start;
      const [from, to] = [Math.max(start, area.start) + shift, Math.min(end, area.end) + shift];
      this.#written.push({ id: area.backing.id, from, to });
    }
  }

  /** In the stop, before written pages are asked for: what was noted counts as written by those given. */
  settle(trackers: Iterable<MemoryTracker>): void {
    if (this.#written.length === 0) return;
    const written = this.#written.splice(0);
    for (const tracker of trackers)
      for (const area of tracker.areas) {
        const { backing } = area;
        if (backing.type !== "shared") continue;
        for (const { id, from, to } of written) {
          const start = Math.max(area.start, from - backing.offset + area.start);
          const end = Math.min(area.end, to - backing.offset + area.start);
          if (id === backing.id && start < end) tracker.owe(BigUint64Array.of(BigInt(start), BigInt(end), 0n));
        }
      }
  }
}
