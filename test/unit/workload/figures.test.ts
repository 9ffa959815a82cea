import assert from "node:assert/strict";
import { test } from "node:test";
import { figure, renderFigures } from "../../../bench/figures.ts";
import { figuresOf } from "../../../bench/redis-figures.ts";
import { isSound, type Outcome, renderOutcome } from "../../../demo/outcome.ts";
import type { CheckpointSummary } from "../../../src/instance/control.ts";
import { summarise } from "../../../workload/checkpoint-samples.ts";

const checkpoint = (epoch: number, ms: number, stopUs: number, term = 1): CheckpointSummary => ({
  epoch,
  term,
  at: new Date(1_700_000_000_000 + ms).toISOString(),
  stopUs,
  pages: 10,
  bytes: 1000,
});

test("checkpoints a second count those that were not seen, and not the time between two terms", () => {
  const first = [checkpoint(1, 0, 500), checkpoint(5, 100, 700), checkpoint(6, 200, 900)];
  const second = [checkpoint(7, 5000, 600, 2), checkpoint(12, 5200, 800, 2)];
  const { count, perSecond, stopMs, pages } = summarise([...second, ...first]);
  assert.deepEqual({ count, perSecond, pages }, { count: 5, perSecond: 25, pages: 10 });
  assert.deepEqual(stopMs, { median: 0.7, p99: 0.9, max: 0.9 });
});

test("no checkpoint gives zeros, not NaN", () => {
  assert.equal(JSON.stringify(summarise([])).includes("null"), false);
});

test("goals are met at least or below; what was not measured misses its goal", () => {
  assert.equal(figure("a", 20, "1/s", { atLeast: 20 }).met, true);
  assert.equal(figure("a", 2, "ms", { below: 2 }).met, false);
  assert.deepEqual(figure("a", null, "ms", { below: 2 }), {
    name: "a",
    value: null,
    unit: "ms",
    goal: "< 2",
    met: false,
  });
  assert.deepEqual(figure("a", 1, "ms"), { name: "a", value: 1, unit: "ms", goal: null, met: null });
});

test("a benchmark that measured nothing tells every figure and no goal as met", () => {
  const figures = figuresOf({ unprotected: [], unprotectedSpread: [] }, () => true);
  assert.equal(figures.filter(({ goal }) => goal !== null).length, 11);
  assert.equal(figures.filter(({ met }) => met).length, 0);
  assert.match(renderFigures(figures, false), /stop median, 100 MB +— +ms +< 2 +missed/);
});

test("ratios compare with the unprotected runs just before and just after", () => {
  const measures = {
    unprotected: [100, 300, 500],
    unprotectedSpread: [],
    none: { rate: 150, before: 0 },
    checkpointed: { rate: 199, before: 1 },
  };
  const figures = figuresOf(measures, (part) => part !== "large");
  const of = (name: string) => figures.find((candidate) => candidate.name === name)!;
  assert.deepEqual([of("throughput ratio, policy none").value, of("throughput ratio, policy none").met], [0.75, true]);
  assert.equal(of("throughput ratio, policy checkpoint").value, 0.4975);
  assert.equal(of("throughput ratio, policy checkpoint").met, false);
  assert.equal(of("writes per second, unprotected").value, 300);
});

const OUTCOME: Outcome = {
  connections: 50,
  connectionsBroken: 0,
  writesAcknowledged: 1000,
  writesMissing: 0,
  writesUnverified: 0,
  valuesUnexpected: 0,
  readsVerified: 1000,
  gapMs: { planned: 50, powerOff: 200 },
  waitMs: { planned: { median: 51, worst: 60 }, powerOff: { median: 201, worst: 230 } },
  checkpointsPerSecond: 50,
  stopMs: { median: 0.5, p99: 3, max: 5 },
  pagesPerCheckpoint: 120,
  bytesPerCheckpoint: 40_000,
  throughputRatio: 0.61,
  writesPerSecond: { unprotected: 100_000, protected: 61_000 },
  primaries: ["node-a", "node-b", "node-a"],
  copiesRunning: ["node-a"],
  findings: [],
};

test("the demo's verdict: nothing broken, nothing missing, one copy", () => {
  assert.ok(isSound(OUTCOME));
  const harms: Partial<Outcome>[] = [
    { connectionsBroken: 1 },
    { writesMissing: 1 },
    { writesUnverified: 1 },
    { valuesUnexpected: 1 },
    { copiesRunning: ["node-a", "node-b"] },
    { copiesRunning: [] },
    { writesAcknowledged: 0 },
    { primaries: ["node-a", "node-a", "node-b"] },
    { primaries: ["node-a", "node-b"] },
  ];
  for (const harm of harms) assert.ok(!isSound({ ...OUTCOME, ...harm }), JSON.stringify(harm));
  assert.match(renderOutcome(OUTCOME, false), /writes missing +0 [\s\S]*No connection broke, no write is missing\./);
});
