import assert from "node:assert/strict";
import { test } from "node:test";
import { atOnce, inSlices } from "../../../src/instance/slices.ts";

function* counting(to: number): Generator<void, number> {
  for (let i = 0; i < to; i++) yield;
  return to;
}

test("what is done within the first slice is done when the call returns, and nobody is told of slices", () => {
  assert.equal(atOnce(counting(7)), 7);
  assert.equal(
    inSlices(counting(7), Number.POSITIVE_INFINITY, () => assert.fail("There is no second slice")),
    7,
  );
});

test("between slices others have their turn, and it is told after each", async () => {
  let told = 0;
  let turns = 0;
  const result = inSlices(counting(5), -1, () => {
    told++;
    setImmediate(() => turns++);
  });
  assert.ok(result instanceof Promise);
  assert.equal(await result, 5);
  assert.deepEqual([told, turns], [5, 5]);
});

test("a failure in a later slice is the promise's", async () => {
  function* failing(): Generator<void, void> {
    yield;
    throw new Error("in the second");
  }
  await assert.rejects(async () => inSlices(failing(), -1, () => {}), /in the second/);
});
