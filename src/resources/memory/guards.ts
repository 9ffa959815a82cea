/**
 * Guard areas (madvise(2), MADV_GUARD_INSTALL, kernel 6.13): pages whose touch is SIGSEGV, marked in the page tables alone, so that no
 * layout shows them. Both to set and to clear one is a write for whoever watches the page, and a page with a guard cannot be
 * read: so they are looked for only when a copy found pages that it could not read, or pages that had a guard.
 */
import { checked } from "../../kernel/errors.ts";
import { OperatingError } from "../../kernel/failure.ts";
import { ERRNO, PAGE_IS } from "../../kernel/numbers.ts";
import { scanPages } from "../../kernel/pages.ts";
import type { Area } from "./layout.ts";
import { splitRegions, wordsOf } from "./regions.ts";

let found = new BigUint64Array(3 * 1024);

export type Range = [start: number, end: number];

export class Guards {
  readonly #pid: number;
  readonly #pagemapFd: number;
  #known: readonly Range[] = [];
  #mayDiffer = true;

  constructor(pid: number, pagemapFd: number) {
    this.#pid = pid;
    this.#pagemapFd = pagemapFd;
  }

  mayDiffer(): void {
    this.#mayDiffer = true;
  }

  /** @param unread pages of these regions that could not be read */
  noteCopy(regions: BigUint64Array, unread: number): void {
    if (this.#mayDiffer) return;
    if (unread > 0) this.#mayDiffer = true;
    else if (this.#known.length > 0) this.#mayDiffer = splitRegions(regions, [...this.#known]).inside.length > 0;
  }

  /** Areas with guards may be gone, or elsewhere. */
  noteLayout(): void {
    if (this.#known.length > 0) this.#mayDiffer = true;
  }

  /**
   * Guard areas as they are; all threads stand still.
   * @param contentOf tells of an area of shared memory whether a part of it holds anything but zeros
   * @throws OperatingError when shared memory under a guard has content: through this process it cannot be read
   */
  look(areas: readonly Area[], contentOf: (area: Area) => (start: number, end: number) => boolean): readonly Range[] {
    if (!this.#mayDiffer) return this.#known;
    const now = this.#scan(areas);
    for (const area of areas) {
      if (area.backing.type !== "shared" || area.readOnly) continue;
      const holds = contentOf(area);
      for (const [start, end] of now)
        if (start < area.end && end > area.start && holds(Math.max(start, area.start), Math.min(end, area.end)))
          throw hidden(start, end);
    }
    const same =
      now.length === this.#known.length && now.every(([start, end], i) => isSame(this.#known[i]!, start, end));
    if (!same) this.#known = now;
    this.#mayDiffer = false;
    return this.#known;
  }

  #scan(areas: readonly Area[]): Range[] {
    const { guard } = PAGE_IS;
    const ranges = wordsOf(
      areas.filter(({ backing }) => backing.type !== "kernel").map(({ start, end }) => [start, end]),
    );
    for (;;) {
      const n = scanPages(this.#pagemapFd, ranges, 0, 0, guard, 0, guard, found);
      // Before kernel 6.16 nobody can be asked.
      if (n === ERRNO.invalid) return [];
      if (n !== ERRNO.noSpace) return rangesOf(found.subarray(0, 3 * checked(n, "ioctl(PAGEMAP_SCAN)", this.#pid)));
      found = new BigUint64Array(2 * found.length);
    }
  }
}

function rangesOf(regions: BigUint64Array): Range[] {
  const ranges: Range[] = [];
  for (let i = 0; i < regions.length; i += 3) ranges.push([Number(regions[i]), Number(regions[i + 1])]);
  return ranges;
}

function isSame(known: Range, start: number, end: number): boolean {
  return known[0] === start && known[1] === end;
}

function hidden(start: number, end: number): OperatingError {
  return new OperatingError(
    "unprotectable-guarded-memory",
    `The application has shared memory with content under a guard (MADV_GUARD_INSTALL, ${(end - start) >> 10} KiB), where it cannot be read`,
    {
      remedy: "Take the guard away, or put it where the shared memory has no content.",
      details: { start: start.toString(16), end: end.toString(16) },
    },
  );
}
