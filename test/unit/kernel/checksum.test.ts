/** CRC-32C as the standard has it, however the bytes come. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { crc32c } from "../../../src/kernel/checksum.ts";

/** Bit by bit, from the polynomial. */
function slowly(bytes: Buffer): number {
  let register = 0xffffffff;
  for (const byte of bytes) {
    register ^= byte;
    for (let bit = 0; bit < 8; bit++) register = (register >>> 1) ^ (register & 1 ? 0x82f63b78 : 0);
  }
  return ~register >>> 0;
}

test("the examples of RFC 3720, B.4", () => {
  assert.equal(crc32c(Buffer.from("123456789")), 0xe3069283);
  assert.equal(crc32c(Buffer.alloc(32)), 0x8a9136aa);
  assert.equal(crc32c(Buffer.alloc(32, 0xff)), 0x62a8ab43);
  assert.equal(crc32c(Buffer.from(Uint8Array.from({ length: 32 }, (_, i) => i))), 0x46dd794e);
  assert.equal(crc32c(Buffer.alloc(0)), 0);
});

test("the same as bit by bit, in one piece and in two, at any place in memory", () => {
  const bytes = fc.uint8Array({ minLength: 0, maxLength: 20_000, size: "max" });
  fc.assert(
    fc.property(bytes, fc.nat(20_000), fc.nat(15), (list, cut, shift) => {
      const moved = Buffer.alloc(list.length + shift);
      moved.set(list, shift);
      const all = moved.subarray(shift);
      const expected = slowly(all);
      assert.equal(crc32c(all), expected);
      assert.equal(crc32c(all.subarray(cut), crc32c(all.subarray(0, cut))), expected);
    }),
    { numRuns: 200 },
  );
});
