/** Lists of regions: merged, split, against sets of pages. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { mergeRegions, splitRegions, subtractRegions } from "../../../src/resources/memory/regions.ts";

const PAGE = 4096n;

/** Sorted regions without overlaps. */
const regions = fc
  .array(fc.tuple(fc.bigInt({ min: 0n, max: 5n }), fc.bigInt({ min: 1n, max: 9n })), { maxLength: 12 })
  .map((parts) => {
    const words: bigint[] = [];
    let at = 1n;
    for (const [gap, length] of parts) {
      const start = at + gap + 1n;
      words.push(start * PAGE, (start + length) * PAGE, 0n);
      at = start + length;
    }
    return new BigUint64Array(words);
  });

function pagesOf(list: BigUint64Array): bigint[] {
  const pages: bigint[] = [];
  for (let i = 0; i < list.length; i += 3) for (let at = list[i]!; at < list[i + 1]!; at += PAGE) pages.push(at);
  return pages;
}

test("mergeRegions is the union, sorted, nothing twice", () => {
  fc.assert(
    fc.property(fc.array(regions, { maxLength: 4 }), (lists) => {
      const merged = mergeRegions(lists);
      const union = [...new Set(lists.flatMap(pagesOf))].sort((a, b) => (a < b ? -1 : 1));
      assert.deepEqual(pagesOf(merged), union);
      for (let i = 3; i < merged.length; i += 3) assert.ok(merged[i]! > merged[i - 2]!, "neighbours are joined");
    }),
  );
});

test("splitRegions puts every page on the right side", () => {
  fc.assert(
    fc.property(regions, regions, (list, among) => {
      const ranges: Array<[number, number]> = [];
      for (let i = 0; i < among.length; i += 3) ranges.push([Number(among[i]), Number(among[i + 1])]);
      const { inside, outside } = splitRegions(list, ranges);
      const known = new Set(pagesOf(among));
      assert.deepEqual(
        pagesOf(inside),
        pagesOf(list).filter((page) => known.has(page)),
      );
      assert.deepEqual(
        pagesOf(outside),
        pagesOf(list).filter((page) => !known.has(page)),
      );
    }),
  );
});

test("subtractRegions leaves exactly the pages that are there no more", () => {
  fc.assert(
    fc.property(regions, regions, (before, now) => {
      const missing = subtractRegions(before, now).flatMap(([start, end]) =>
        pagesOf(BigUint64Array.of(BigInt(start), BigInt(end), 0n)),
      );
      const there = new Set(pagesOf(now));
      assert.deepEqual(
        missing,
        pagesOf(before).filter((page) => !there.has(page)),
      );
    }),
  );
});
