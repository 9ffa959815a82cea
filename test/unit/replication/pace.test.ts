import assert from "node:assert/strict";
import { test } from "node:test";
import { acknowledged, freshPace, judge, type Pace, paceDefaults, SlowPauses } from "../../../src/replication/pace.ts";

const { graceMs, floorBytesPerMs, slowMs } = paceDefaults;
const paceOf = (answerMs: number): Pace => ({ ...freshPace, answerMs });

test("what is not acknowledged has a time of grace, and more the bigger it is", () => {
  const slow = (bytes: number, now: number) => judge(freshPace, { since: 0, bytes }, [], now).slow;
  assert.equal(slow(0, graceMs), undefined);
  assert.equal(slow(0, graceMs + 1), "stuck");
  const bytes = 3000 * floorBytesPerMs;
  assert.equal(slow(bytes, graceMs + 3000), undefined);
  assert.equal(slow(bytes, graceMs + 3001), "stuck");
  assert.equal(judge(freshPace, undefined, [], 1e9).slow, undefined);
});

test("much slower than another for long is slow; slow moments, and slowness that nobody notices, are not", () => {
  const others = [paceOf(5), paceOf(300)];
  let pace = paceOf(200);
  for (const [now, expected] of [
    [0, undefined],
    [slowMs, undefined],
    [slowMs + 1, "slower-than-others"],
  ] as const) {
    const judged = judge(pace, undefined, others, now);
    assert.equal(judged.slow, expected);
    pace = judged.pace;
  }
  // One quick stretch, and the time begins anew.
  pace = judge(paceOf(20), undefined, others, slowMs + 2).pace;
  assert.equal(judge({ ...pace, answerMs: 200 }, undefined, others, 2 * slowMs).slow, undefined);
  assert.equal(judge({ ...paceOf(90), slowerSince: 0 }, undefined, [paceOf(1)], 1e6).slow, undefined);
  assert.equal(judge({ ...paceOf(5000), slowerSince: 0 }, undefined, [], 1e6).slow, undefined);
});

test("the time of an acknowledgement is smoothed", () => {
  let pace = acknowledged(freshPace, 8);
  assert.equal(pace.answerMs, 8);
  pace = acknowledged(pace, 800);
  assert.equal(pace.answerMs, 107);
});

test("pauses double up to a minute", () => {
  const pauses = new SlowPauses();
  const seen: number[] = [];
  for (let i = 0; i < 6; i++) {
    pauses.begin("b", 0);
    seen.push(pauses.left("b", 0));
  }
  assert.deepEqual(seen, [5000, 10_000, 20_000, 40_000, 60_000, 60_000]);
  assert.equal(pauses.left("b", 60_000), 0);
  assert.equal(pauses.left("c", 0), 0);
});
