/** The page stream: what is encoded against the last sent content and applied to it is the new content; damage is refused. */
import assert from "node:assert/strict";
import { closeSync, openSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { addressOf } from "../../../src/kernel/calls.ts";
import { applyPages, encodePages, makeShadow, type Shadow, verifyPages } from "../../../src/kernel/pages.ts";

const PAGE = 4096;
const PAGES = 6;
const BASE = 0x7000_0000_0000;
const NONE = new BigUint64Array(0);
const EBADMSG = -74;

/** A page by few numbers: zero, or a pattern with some bytes changed. */
const page = fc.oneof(
  fc.constant(Buffer.alloc(PAGE)),
  fc
    .tuple(
      fc.integer({ min: 0, max: 3 }),
      fc.array(fc.tuple(fc.nat(PAGE - 1), fc.nat(255)), { maxLength: 30 }),
      fc.boolean(),
    )
    .map(([pattern, changes, noisy]) => {
      const bytes = Buffer.alloc(PAGE, pattern);
      // Every other block: more changes than patches can describe.
      if (noisy) for (let at = 0; at < PAGE; at += 32) bytes[at] = pattern + 100;
      for (const [at, value] of changes) bytes[at] = value;
      return bytes;
    }),
);
const memory = fc.array(page, { minLength: PAGES, maxLength: PAGES });
const touched = fc.uniqueArray(fc.nat(PAGES - 1)).map((list) => list.sort((a, b) => a - b));

function encode(pages: Buffer[], indices: number[], shadow: Shadow | null, whole: boolean) {
  const staging = Buffer.concat(indices.map((i) => pages[i]!));
  const addresses = BigUint64Array.from(indices, (i) => BigInt(BASE + i * PAGE));
  const out = Buffer.alloc((PAGES + 2) * (PAGE + 300));
  const n = encodePages(staging, addresses, 0, indices.length, shadow, out, 0, whole, NONE);
  assert.ok(n >= 0, `encode: ${n}`);
  return Buffer.from(out.subarray(0, n));
}

/** Applies a stream to a buffer of this very process, whose address stands in for BASE. */
function applyTo(target: Buffer, stream: Buffer): void {
  const at = BigInt(addressOf(target));
  const moved = Buffer.from(stream);
  for (let i = 0; i < moved.length; ) {
    moved.writeBigUInt64LE(moved.readBigUInt64LE(i) - BigInt(BASE) + at, i);
    const kind = moved.readUInt16LE(i + 8);
    const patches = moved.readUInt16LE(i + 10);
    const bytes = moved.readUInt32LE(i + 12);
    i += 16 + (kind < 2 ? 4 * patches + bytes : 0);
  }
  const fd = openSync("/proc/self/mem", "r+");
  try {
    assert.equal(applyPages(process.pid, fd, moved), moved.length);
  } finally {
    closeSync(fd);
  }
}

test("what is applied is what was there, over several epochs, with and without the last content", () => {
  const epochs = fc.array(fc.tuple(memory, touched, fc.boolean()), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(epochs, fc.constantFrom(0, 2, 100), (list, limit) => {
      const shadow = makeShadow(limit);
      const clone = Buffer.alloc(PAGES * PAGE);
      const model = Buffer.alloc(PAGES * PAGE);
      for (const [pages, indices, whole] of list) {
        const stream = encode(pages, indices, shadow, whole);
        assert.ok(verifyPages(stream, 0, stream.length) >= 0);
        applyTo(clone, stream);
        for (const i of indices) pages[i]!.copy(model, i * PAGE);
        assert.ok(clone.equals(model));
      }
    }),
    { numRuns: 60 },
  );
});

test("an unchanged page costs nothing, a changed word little, zero pages share a record", () => {
  const shadow = makeShadow(100);
  const pages = Array.from({ length: PAGES }, (_, i) => Buffer.alloc(PAGE, i + 1));
  const all = pages.map((_, i) => i);
  assert.equal(encode(pages, all, shadow, false).length, 16 + PAGES * PAGE);
  assert.equal(encode(pages, all, shadow, false).length, 0);
  pages[3]!.writeUInt32LE(99, 1000);
  assert.equal(encode(pages, all, shadow, false).length, 16 + 4 + 16);
  const zeros = pages.map(() => Buffer.alloc(PAGE));
  assert.equal(encode(zeros, all, null, false).length, 16);
});

test("a truncated stream is refused, and damage of its structure", () => {
  fc.assert(
    fc.property(memory, memory, (first, second) => {
      const shadow = makeShadow(100);
      const all = first.map((_, i) => i);
      for (const stream of [encode(first, all, shadow, false), encode(second, all, shadow, false)]) {
        const pages = verifyPages(stream, 0, stream.length);
        for (const cut of [1, 7, 15, 17, stream.length - 1].filter((n) => n > 0 && n < stream.length)) {
          const rest = verifyPages(stream, 0, stream.length - cut);
          assert.ok(rest === EBADMSG || rest < pages, `cut by ${cut}`);
        }
        if (stream.length === 0) continue;
        const kind = Buffer.from(stream);
        kind.writeUInt16LE(9, 8);
        assert.equal(verifyPages(kind, 0, kind.length), EBADMSG);
        const odd = Buffer.from(stream);
        odd.writeBigUInt64LE(odd.readBigUInt64LE(0) + 1n, 0);
        assert.equal(verifyPages(odd, 0, odd.length), EBADMSG);
        const kernel = Buffer.from(stream);
        kernel.writeBigUInt64LE(1n << 63n, 0);
        assert.equal(verifyPages(kernel, 0, kernel.length), EBADMSG);
      }
    }),
    { numRuns: 50 },
  );
});

test("random bytes never pass as more than they are", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      const stream = Buffer.from(bytes);
      const pages = verifyPages(stream, 0, stream.length);
      assert.ok(pages === EBADMSG || pages >= 0);
    }),
  );
});
