/** Answers of an application that is still at work. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Gather } from "../../../src/checkpoint/gather.ts";

const atWork = () => true;
const asleep = () => false;
const first = { since: 100, newest: 100 };

/** One checkpoint whose output waits as long as it is let; `joining`: packets come meanwhile. Milliseconds it waited on. */
function round(gather: Gather, joining: boolean): number {
  let now = first.newest;
  while (gather.waitsOn(first, now, atWork)) now += 0.1;
  gather.cut({ since: first.since, newest: joining ? now : first.newest });
  return now - first.newest;
}

test("an application that has nothing more to do lets its output go at once", () => {
  assert.equal(new Gather().waitsOn(first, 100.5, asleep), false);
});

test("one that is at work is waited for, but not for ever", () => {
  const waited = round(new Gather(), true);
  assert.ok(waited > 1 && waited < 10, `${waited} ms`);
});

test("one that is always at work is waited for no longer than is of use, and again when it is", () => {
  const gather = new Gather();
  const whole = round(gather, false);
  const waits = Array.from({ length: 6 }, () => round(gather, false));
  assert.ok(waits.every((wait, i) => wait <= (waits[i - 1] ?? whole)));
  assert.ok(waits.at(-1)! > 0 && waits.at(-1)! < whole / 4, `${whole} ms, then ${waits} ms`);
  for (let i = 0; i < 6; i++) round(gather, true);
  assert.equal(round(gather, true), whole);
});
