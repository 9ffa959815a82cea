import assert from "node:assert/strict";
import { test } from "node:test";
import { GapRecorder } from "../../../workload/gaps.ts";
import { Histogram } from "../../../workload/histogram.ts";

test("silence is nobody's answer, worst wait is one connection's", () => {
  const gaps = new GapRecorder(2, 0, "quiet");
  for (let now = 10; now <= 100; now += 10) gaps.answered(0, now);
  gaps.answered(1, 100);
  gaps.mark("event", 105);
  gaps.answered(0, 300);
  gaps.answered(1, 310);
  const [quiet, event] = gaps.finish(320, () => false);
  assert.deepEqual(
    { silence: quiet!.silenceMs, worst: quiet!.worstWaitMs, answers: quiet!.answers },
    { silence: 10, worst: 100, answers: 11 },
  );
  // The gap began before the mark and ended after it: it belongs to the event.
  assert.deepEqual(
    { silence: event!.silenceMs, worst: event!.worstWaitMs, began: event!.silenceBeganMs },
    { silence: 200, worst: 210, began: -5 },
  );
});

test("a connection that still waits at the end counts with its wait so far", () => {
  const gaps = new GapRecorder(2, 0, "only");
  gaps.answered(0, 10);
  gaps.answered(1, 20);
  const [only] = gaps.finish(1000, (connection) => connection === 1);
  assert.equal(only!.worstWaitMs, 980);
  assert.equal(only!.silenceMs, 980);
});

test("a pause of the client's own choice is no wait", () => {
  const gaps = new GapRecorder(1, 0, "only");
  gaps.answered(0, 10);
  gaps.asked(0, 500);
  gaps.answered(0, 503);
  assert.equal(gaps.finish(600, () => false)[0]!.worstWaitMs, 10);
});

test("recent silence is taken once, and includes one that still lasts", () => {
  const gaps = new GapRecorder(1, 0, "only");
  gaps.answered(0, 70);
  gaps.answered(0, 75);
  assert.equal(gaps.takeRecentSilence(80), 70);
  assert.equal(gaps.takeRecentSilence(200), 125);
});

test("quantiles are right within the width of a bucket", () => {
  const histogram = new Histogram();
  for (let i = 1; i <= 1000; i++) histogram.add(i / 10);
  const { count, median, p99, max } = histogram.summary();
  assert.equal(count, 1000);
  assert.ok(Math.abs(median - 50) <= 1.1, String(median));
  assert.ok(Math.abs(p99 - 99) <= 2.1, String(p99));
  assert.equal(max, 100);
  assert.equal(new Histogram().quantile(0.5), 0);
});
