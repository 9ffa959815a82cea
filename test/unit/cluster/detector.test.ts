import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type DetectorState,
  heartbeat,
  patienceMs,
  startDetector,
  tick,
  wasStarved,
} from "../../../src/cluster/detector.ts";

/** Runs ticks and arrivals by their times; returns the time of the first suspicion. */
function run(
  state: DetectorState,
  arrivals: number[],
  ticks: number[],
): { state: DetectorState; suspectedAt?: number } {
  const events = [
    ...arrivals.map((at) => ({ at, kind: "arrival" })),
    ...ticks.map((at) => ({ at, kind: "tick" })),
  ].sort((a, b) => a.at - b.at || (a.kind === "arrival" ? -1 : 1));
  for (const { at, kind } of events) {
    if (kind === "arrival") state = heartbeat(state, at);
    else {
      const told = tick(state, at);
      state = told.state;
      if (told.suspected) return { state, suspectedAt: at };
    }
  }
  return { state };
}

const every = (step: number, from: number, to: number): number[] =>
  Array.from({ length: Math.floor((to - from) / step) }, (_, index) => from + (index + 1) * step);

test("a peer that falls silent is suspected soon after the floor", () => {
  const { suspectedAt } = run(startDetector(0), every(15, 0, 1000), every(15, 0, 3000));
  assert.ok(suspectedAt! > 1140 && suspectedAt! <= 1160, `at ${suspectedAt}`);
});

test("a peer that never came is given the first patience", () => {
  const { suspectedAt } = run(startDetector(0, { startMs: 500 }), [], every(15, 0, 3000));
  assert.ok(suspectedAt! > 500 && suspectedAt! < 550);
});

test("a link with jitter gets more patience, up to the ceiling", () => {
  const jitter = Array.from({ length: 100 }, (_, index) => 30 * index + (index % 4 === 0 ? 85 : 0));
  const { state, suspectedAt } = run(startDetector(0), jitter, every(15, 0, 2950));
  assert.equal(suspectedAt, undefined);
  assert.ok(patienceMs(state) > 150, `${patienceMs(state)}`);
  const wild = Array.from({ length: 100 }, (_, index) => 500 * index + (index % 2) * 400);
  assert.equal(patienceMs(run(startDetector(0), wild, []).state), 1000);
});

test("a starved detector accuses nobody, and says that it starved", () => {
  // The machine is busy: own ticks come every 400 ms, and arrivals are read only then, after the tick.
  const ticks = every(400, 0, 8000);
  const { state, suspectedAt } = run(
    startDetector(0),
    ticks.map((at) => at + 1),
    ticks,
  );
  assert.equal(suspectedAt, undefined);
  assert.equal(wasStarved(state, 8400), true);
  assert.equal(wasStarved(state, state.lastTick + 20), false);
});

test("a clock that jumps accuses nobody", () => {
  let { state } = run(startDetector(0), every(15, 0, 300), every(15, 0, 300));
  for (const now of [1e9, 1e9 + 15, 5, 20]) {
    const told = tick(state, now);
    assert.equal(told.suspected, false);
    state = heartbeat(told.state, now);
  }
});

test("even starved, a peer that is dead is found in the end", () => {
  const { suspectedAt } = run(startDetector(0), every(15, 0, 300), every(400, 0, 20_000));
  assert.ok(suspectedAt! < 20_000);
});
