/**
 * Pages of private file mappings that are the application's own and were sent. When they are the file's again (madvise DONTNEED),
 * the kernel keeps their mark "protected": no scan for written pages reports them, so they are looked for.
 */
import { firstBehind, mergeRegions, subtractRegions } from "./regions.ts";

const NONE = new BigUint64Array(0);

export class OwnPages {
  /** Private file mappings, neighbours joined: [start, end …]. */
  #ranges: BigUint64Array = NONE;
  #pairs: Array<[number, number]> = [];
  /** Regions of all that were there at the last look. */
  #there: BigUint64Array = NONE;
  /** What was sent since, as far as it is not among them. */
  #sent: BigUint64Array[] = [];
  /** Every page that was sent is among those two. */
  #complete = false;

  /** The layout now. @param ranges private file mappings, neighbours joined: [start, end …] */
  follow(ranges: BigUint64Array): void {
    this.#ranges = ranges;
    this.#pairs = [];
    for (let i = 0; i < ranges.length; i += 2) this.#pairs.push([Number(ranges[i]), Number(ranges[i + 1])]);
  }

  /** Pages were sent that nobody notes here. */
  lose(): void {
    this.#complete = false;
  }

  /** Nothing has been sent. */
  reset(): void {
    this.#there = NONE;
    this.#sent = [];
    this.#complete = false;
  }

  /** What of these (sorted) regions is in private file mappings has been sent. */
  note(regions: BigUint64Array): void {
    const words: bigint[] = [];
    for (let f = 0; f < this.#ranges.length; f += 2) {
      const [from, to] = [this.#ranges[f]!, this.#ranges[f + 1]!];
      // A region that reaches beyond: what is outside is cut off when it is compared.
      for (let i = 3 * firstBehind(regions, from); i < regions.length && regions[i]! < to; i += 3)
        if (!this.#has(regions[i]!, regions[i + 1]!)) words.push(regions[i]!, regions[i + 1]!, 0n);
    }
    if (words.length > 0) this.#sent.push(new BigUint64Array(words));
  }

  #has(start: bigint, end: bigint): boolean {
    const i = 3 * firstBehind(this.#there, start);
    return i < this.#there.length && this.#there[i]! <= start && end <= this.#there[i + 1]!;
  }

  /**
   * What is the file's again since the last look.
   * @param scan the regions in these ranges [start, end …] that are the application's own now; valid until the next scan
   */
  reverted(scan: (ranges: BigUint64Array) => BigUint64Array): Array<[number, number]> {
    const before = this.#sent.length === 0 ? this.#there : mergeRegions([this.#there, ...this.#sent]);
    // Only where there were any, if that is known: the rest of the mapped files are many times as much.
    const found = scan(this.#complete ? rangesOf(before) : this.#ranges);
    this.#complete = true;
    this.#sent = [];
    if (samePlaces(found, before)) {
      this.#there = before;
      return [];
    }
    this.#there = mergeRegions([found]);
    const missing = subtractRegions(before, this.#there);
    // What is no file mapping any more is another matter: the layout tells.
    return this.#pairs.flatMap(([from, to]) =>
      missing
        .filter(([start, end]) => start < to && end > from)
        .map(([start, end]): [number, number] => [Math.max(start, from), Math.min(end, to)]),
    );
  }
}

/** Whatever they say of their pages. */
function samePlaces(a: BigUint64Array, b: BigUint64Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i += 3) if (a[i] !== b[i] || a[i + 1] !== b[i + 1]) return false;
  return true;
}

/** Regions without what they say of their pages. */
function rangesOf(regions: BigUint64Array): BigUint64Array {
  const ranges = new BigUint64Array((regions.length / 3) * 2);
  for (let i = 0, at = 0; i < regions.length; i += 3) {
    ranges[at++] = regions[i]!;
    ranges[at++] = regions[i + 1]!;
  }
  return ranges;
}
