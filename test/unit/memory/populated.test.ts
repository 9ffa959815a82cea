/** What a process has: private pages and shared ones, in the order of their addresses, as everybody expects regions to be. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { addressOf, call, makeMemory } from "../../../src/kernel/calls.ts";
import { mapShared } from "../../../src/kernel/pages.ts";
import { mergeRegions, splitRegions, sumPages } from "../../../src/resources/memory/regions.ts";
import { MemoryTracker } from "../../../src/resources/memory/tracker.ts";

const BYTES = 64 * 4096;

test("shared memory is found among the private, each page once", () => {
  const fd = makeMemory("populated-test");
  call("ftruncate", fd, BYTES);
  const shared = mapShared(fd, BYTES).fill(1);
  const tracker = new MemoryTracker(process.pid);
  try {
    tracker.sharedWritten();
    const found = tracker.takeRegions(tracker.scanPopulated());
    assert.deepEqual(found, mergeRegions([found]));
    const start = addressOf(shared);
    const { inside, outside } = splitRegions(found, [[start, start + BYTES]]);
    assert.equal(sumPages(inside), 64);
    // The stack, if nothing else.
    assert.ok(outside.some((word) => word > BigInt(start)));
  } finally {
    tracker.close();
  }
});
