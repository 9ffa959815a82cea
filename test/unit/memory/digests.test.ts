/** What differs from what clones have, told by digests of pages. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Digests, PIECE_BYTES } from "../../../src/resources/memory/digests.ts";

const PAGE = 4096;

/** A file, and a clone's copy of it that is changed by what the digests tell alone. */
class Pair {
  readonly file = Buffer.alloc(2 * PIECE_BYTES);
  readonly copy = Buffer.alloc(2 * PIECE_BYTES);
  readonly digests = new Digests();
  sent = 0;

  compare(): void {
    const differences = {
      content: (offset: number, bytes: Buffer) => {
        bytes.copy(this.copy, offset);
        this.sent += bytes.length;
      },
      zeros: (from: number, to: number) => void this.copy.fill(0, from, to),
    };
    const read = (into: Buffer, at: number) => this.file.copy(into, 0, at, at + into.length);
    for (let at = 0; at < this.file.length; at += PIECE_BYTES)
      this.digests.compare(at, at + PIECE_BYTES, read, differences);
  }
}

test("a copy follows any changes, and unchanged pages are not sent", () => {
  const pages = (2 * PIECE_BYTES) / PAGE;
  const change = fc.record({
    page: fc.nat(pages - 1),
    offset: fc.nat(PAGE - 1),
    value: fc.nat(255),
    kind: fc.constantFrom("byte", "zeros", "elsewhere"),
  });
  fc.assert(
    fc.property(fc.array(fc.array(change, { maxLength: 20 }), { maxLength: 6 }), (rounds) => {
      const pair = new Pair();
      for (const changes of rounds) {
        for (const { page, offset, value, kind } of changes) {
          const at = page * PAGE;
          if (kind === "zeros") pair.file.fill(0, at, at + PAGE);
          else pair.file[at + offset] = value;
          // Another way brought the page to the clone, with other content than the digests know.
          if (kind !== "elsewhere") continue;
          pair.copy.fill(value + 1, at, at + PAGE);
          pair.digests.forget(at, at + PAGE);
        }
        pair.compare();
        assert.ok(pair.copy.equals(pair.file));
        const before = pair.sent;
        pair.compare();
        assert.equal(pair.sent, before);
      }
    }),
    { numRuns: 30 },
  );
});

test("a hole clears what was sent there, and nothing else", () => {
  const pair = new Pair();
  pair.file.fill(7);
  pair.compare();
  assert.equal(pair.sent, pair.file.length);
  const told: Array<[number, number]> = [];
  const differences = { content: assert.fail, zeros: (from: number, to: number) => void told.push([from, to]) };
  pair.digests.clear(3 * PAGE, PIECE_BYTES + 5 * PAGE, differences);
  assert.deepEqual(told, [
    [3 * PAGE, PIECE_BYTES],
    [PIECE_BYTES, PIECE_BYTES + 5 * PAGE],
  ]);
  pair.digests.clear(3 * PAGE, PIECE_BYTES + 5 * PAGE, { ...differences, zeros: assert.fail });
});

test("for somebody who has nothing all is sent again, but what never was anything", () => {
  const pair = new Pair();
  pair.file.fill(7, 0, PAGE);
  pair.compare();
  pair.digests.forgetAll();
  pair.copy.fill(0);
  pair.compare();
  assert.equal(pair.sent, 2 * PAGE);
  assert.ok(pair.copy.equals(pair.file));
});
