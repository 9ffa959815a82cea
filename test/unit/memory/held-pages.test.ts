/** Pages that a clone to be has from an earlier time: found by digest wherever they were, taken over as they are. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { openSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { divide } from "../../../src/checkpoint/held-pages.ts";
import { EarlierMemory } from "../../../src/clone/earlier-memory.ts";
import { addressOf, call, makeMemory } from "../../../src/kernel/calls.ts";
import { KnownPages, keyedDigests, NOT_FOUND } from "../../../src/kernel/page-digests.ts";
import { applyPages, mapShared } from "../../../src/kernel/pages.ts";
import { piecesOf, sumPages } from "../../../src/resources/memory/regions.ts";

const PAGE = 4096;
const key = randomBytes(16);

/** Pages of numbered content; 0 is zeros. */
function pagesOf(numbers: number[]): Buffer {
  const bytes = Buffer.from(new ArrayBuffer(numbers.length * PAGE));
  numbers.forEach((number, i) => {
    bytes.fill(number, i * PAGE, (i + 1) * PAGE);
  });
  return bytes;
}

test("each page is found by its content, in whatever place; what is not there is not", () => {
  const numbers = fc.array(fc.nat(20), { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(numbers, numbers, fc.nat(3), (there, wanted, parts) => {
      const digests = keyedDigests(pagesOf(there), there.length, key);
      const cut = Math.floor((parts * there.length) / 4) * 16;
      const known = new KnownPages(key, [digests.subarray(0, cut), digests.subarray(cut)]);
      assert.equal(known.count, there.length);
      const found = known.find(pagesOf(wanted), wanted.length);
      wanted.forEach((number, i) => {
        if (there.includes(number)) assert.equal(there[found[i]!], number);
        else assert.equal(found[i], NOT_FOUND);
      });
    }),
  );
});

test("one bit makes another page, and so does another key", () => {
  const bytes = randomBytes(PAGE);
  const digest = keyedDigests(bytes, 1, key);
  for (let bit = 0; bit < 8 * PAGE; bit += 97) {
    const other = Buffer.from(bytes);
    other[bit >> 3]! ^= 1 << (bit & 7);
    assert.notDeepEqual(keyedDigests(other, 1, key), digest);
  }
  assert.notDeepEqual(keyedDigests(bytes, 1, randomBytes(16)), digest);
  const swapped = Buffer.concat([bytes.subarray(PAGE / 2), bytes.subarray(0, PAGE / 2)]);
  assert.notDeepEqual(keyedDigests(swapped, 1, key), digest);
});

test("many pages of one content are indexed in no time", () => {
  const zeros = keyedDigests(pagesOf(new Array(64).fill(0)), 64, key);
  const known = new KnownPages(key, new Array(8192).fill(zeros));
  assert.equal(known.find(pagesOf([0]), 1)[0], 0);
});

test("what is held and what is not, with neighbours joined", () => {
  const addresses = new BigUint64Array([1, 2, 3, 9, 10, 11].map((page) => BigInt(page * PAGE)));
  const { kept, held, lacking } = divide(new Uint32Array([5, 6, NOT_FOUND, 7, 8, 20]), addresses);
  assert.deepEqual(kept, [
    { address: PAGE, place: 5, pages: 2 },
    { address: 9 * PAGE, place: 7, pages: 2 },
    { address: 11 * PAGE, place: 20, pages: 1 },
  ]);
  assert.deepEqual(held, [
    [0, 2],
    [3, 6],
  ]);
  assert.deepEqual(lacking, [[2, 3]]);
});

test("pieces of regions have all of them, none too large", () => {
  const regions = new BigUint64Array([1, 4, 0, 6, 7, 0, 10, 20, 0].map((n, i) => BigInt(i % 3 === 2 ? n : n * PAGE)));
  const pieces = [...piecesOf(regions, 4)];
  assert.deepEqual(pieces.map(sumPages), [4, 4, 4, 2]);
  const pages = (list: BigUint64Array[]) =>
    list.flatMap((words) =>
      Array.from({ length: words.length / 3 }, (_, i) => i).flatMap((i) =>
        Array.from(
          { length: Number(words[3 * i + 1]! - words[3 * i]!) / PAGE },
          (_, p) => Number(words[3 * i]) / PAGE + p,
        ),
      ),
    );
  assert.deepEqual(pages(pieces), pages([regions]));
});

test("what a process has is put aside, private and shared, and comes back page by page", () => {
  const fd = makeMemory("held-pages-test");
  call("ftruncate", fd, 64 * PAGE);
  const shared = mapShared(fd, 64 * PAGE);
  for (let page = 0; page < 64; page++) randomBytes(PAGE).copy(shared, page * PAGE);
  const own = Buffer.from(new ArrayBuffer(8 * PAGE));
  randomBytes(own.length).copy(own);
  const memory = new EarlierMemory();
  try {
    for (const _pause of memory.take([process.pid]));
    const known = new KnownPages(key, [...memory.digests(key)]);
    assert.equal(known.count, memory.pages);
    const found = known.find(shared, 64);
    assert.ok(found.every((place) => place !== NOT_FOUND));
    const first = Math.ceil(addressOf(own) / PAGE) * PAGE - addressOf(own);
    assert.ok(known.find(own.subarray(first), 7).every((place) => place !== NOT_FOUND));
    // Into another place, in reverse.
    const target = Buffer.from(new ArrayBuffer(65 * PAGE));
    const at = Math.ceil(addressOf(target) / PAGE) * PAGE;
    const runs = [...found].map((place, i) => ({ address: at + (63 - i) * PAGE, place, pages: 1 }));
    applyPages(process.pid, openSync("/proc/self/mem", "r+"), memory.stream(runs));
    const skipped = at - addressOf(target);
    for (let i = 0; i < 64; i++) {
      const [a, b] = [skipped + (63 - i) * PAGE, i * PAGE];
      assert.ok(target.subarray(a, a + PAGE).equals(shared.subarray(b, b + PAGE)), `page ${i}`);
    }
    assert.throws(() => memory.stream([{ address: at, place: memory.pages, pages: 1 }]), /no pages/);
  } finally {
    memory.close();
  }
});

test("a process that is gone has nothing", () => {
  const memory = new EarlierMemory();
  for (const _pause of memory.take([2 ** 22 - 1]));
  assert.equal(memory.pages, 0);
  memory.close();
});
