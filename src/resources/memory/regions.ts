/** Arithmetic of regions: [start, end, categories …] as PAGEMAP_SCAN reports them, sorted. */
import { PAGE_BYTES } from "../../kernel/numbers.ts";

export function sumPages(regions: BigUint64Array): number {
  let bytes = 0n;
  for (let i = 0; i < regions.length; i += 3) bytes += regions[i + 1]! - regions[i]!;
  return Number(bytes) / PAGE_BYTES;
}

/** Regions in pieces of at most `most` pages. */
export function* piecesOf(regions: BigUint64Array, most: number): Generator<BigUint64Array> {
  const room = BigInt(most * PAGE_BYTES);
  let piece: bigint[] = [];
  let left = room;
  for (let i = 0; i < regions.length; i += 3) {
    const end = regions[i + 1]!;
    for (let start = regions[i]!; start < end; ) {
      const to = end - start > left ? start + left : end;
      piece.push(start, to, 0n);
      left -= to - start;
      start = to;
      if (left > 0n) continue;
      yield new BigUint64Array(piece);
      piece = [];
      left = room;
    }
  }
  if (piece.length > 0) yield new BigUint64Array(piece);
}

/** Regions of several lists as one, sorted, without overlaps. */
export function mergeRegions(lists: BigUint64Array[]): BigUint64Array {
  const all: Array<[bigint, bigint]> = [];
  for (const list of lists) for (let i = 0; i < list.length; i += 3) all.push([list[i]!, list[i + 1]!]);
  all.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  const words: bigint[] = [];
  for (const [start, end] of all) {
    const last = words.length - 2;
    if (last > 0 && words[last]! >= start) {
      if (words[last]! < end) words[last] = end;
    } else words.push(start, end, 0n);
  }
  return new BigUint64Array(words);
}

/** Parts of `from` inside the given ranges and parts outside; both sorted. */
export function splitRegions(
  from: BigUint64Array,
  ranges: Array<[number, number]>,
): { inside: BigUint64Array; outside: BigUint64Array } {
  const inside: bigint[] = [];
  const outside: bigint[] = [];
  let j = 0;
  for (let i = 0; i < from.length; i += 3) {
    let start = from[i]!;
    const end = from[i + 1]!;
    while (j < ranges.length && ranges[j]![1] <= start) j++;
    for (let k = j; start < end; k++) {
      const range = ranges[k];
      if (!range || range[0] >= end) {
        outside.push(start, end, 0n);
        break;
      }
      const begin = BigInt(range[0]) > start ? BigInt(range[0]) : start;
      const stop = BigInt(range[1]) < end ? BigInt(range[1]) : end;
      if (begin > start) outside.push(start, begin, 0n);
      if (begin < stop) inside.push(begin, stop, 0n);
      start = stop > start ? stop : start;
    }
  }
  return { inside: new BigUint64Array(inside), outside: new BigUint64Array(outside) };
}

/** Parts of `before` that are in no region of `now`; both sorted, three words a region. */
export function subtractRegions(before: BigUint64Array, now: BigUint64Array): Array<[number, number]> {
  const missing: Array<[number, number]> = [];
  let j = 0;
  for (let i = 0; i < before.length; i += 3) {
    let start = before[i]!;
    const end = before[i + 1]!;
    while (j < now.length && now[j + 1]! <= start) j += 3;
    for (let k = j; start < end; k += 3) {
      if (k >= now.length || now[k]! >= end) {
        missing.push([Number(start), Number(end)]);
        break;
      }
      if (now[k]! > start) missing.push([Number(start), Number(now[k]!)]);
      if (now[k + 1]! > start) start = now[k + 1]!;
    }
  }
  return missing;
}

/** Index of the first region that ends behind an address. */
export function firstBehind(list: BigUint64Array, address: bigint): number {
  let low = 0;
  let high = list.length / 3;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[3 * middle + 1]! <= address) low = middle + 1;
    else high = middle;
  }
  return low;
}

export function wordsOf(ranges: Array<[number, number]>): BigUint64Array {
  return new BigUint64Array(ranges.flatMap(([start, end]) => [BigInt(start), BigInt(end)]));
}
