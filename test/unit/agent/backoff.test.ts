/** Pacing of attempts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff } from "../../../src/agent/backoff.ts";

test("what was seen before an attempt succeeded cannot know of it", () => {
  const backoff = new Backoff();
  assert.equal(backoff.isOld("a", 0), false);
  backoff.begin("a");
  assert.equal(backoff.isOld("a", 5), false);
  backoff.succeeded("a", 10);
  assert.deepEqual(
    [9, 10, 11].map((seenMs) => backoff.isOld("a", seenMs)),
    [true, true, false],
  );
  backoff.begin("a");
  backoff.failed("a", 20);
  assert.deepEqual(
    [10, 15].map((seenMs) => backoff.isOld("a", seenMs)),
    [true, false],
    "a later failure changes nothing",
  );
});
