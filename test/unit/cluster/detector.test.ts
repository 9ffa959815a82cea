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

/** Runs ticks and arrivals by their times; returns the time of the first suspicion, and when the machine was to be asked. */
function run(
  state: DetectorState,
  arrivals: number[],
  ticks: number[],
  unanswered = (_at: number) => false,
): { state: DetectorState; suspectedAt?: number; askedAt: number[] } {
  const askedAt: number[] = [];
  const events = [
    ...arrivals.map((at) => ({ at, kind: "arrival" })),
    ...ticks.map((at) => ({ at, kind: "tick" })),
  ].sort((a, b) => a.at - b.at || (a.kind === "arrival" ? -1 : 1));
  for (const { at, kind } of events) {
    if (kind === "arrival") state = heartbeat(state, at);
    else {
      const told = tick(state, at, unanswered(at));
      state = told.state;
      if (told.ask) askedAt.push(at);
      if (told.suspected) return { state, suspectedAt: at, askedAt };
    }
  }
  return { state, askedAt };
}

const every = (step: number, from: number, to: number): number[] =>
  Array.from({ length: Math.floor((to - from) / step) }, (_, index) => from + (index + 1) * step);

test("a peer that falls silent is suspected soon after the floor", () => {
  const { suspectedAt } = run(startDetector(0, { floorMs: 150 }), every(15, 0, 1000), every(15, 0, 3000));
  assert.ok(suspectedAt! > 1140 && suspectedAt! <= 1160, `at ${suspectedAt}`);
});

test("one whose machine does not answer either is suspected sooner, after it was asked once", () => {
  const { suspectedAt, askedAt } = run(startDetector(0), every(15, 0, 1000), every(15, 0, 3000), (at) => at > 1050);
  assert.ok(suspectedAt! > 1055 && suspectedAt! <= 1090, `at ${suspectedAt}`);
  assert.equal(askedAt.length, 1);
  assert.ok(askedAt[0]! < suspectedAt!);
});

test("a machine that owes an answer does not make a process suspect that is heard", () => {
  const { suspectedAt, askedAt } = run(startDetector(0), every(30, 0, 3000), every(15, 0, 3000), () => true);
  assert.equal(suspectedAt, undefined);
  assert.deepEqual(askedAt, []);
});

test("a link with jitter gets more patience there, too", () => {
  const jitter = every(30, 0, 3000).map((at, index) => at + (index % 4 === 0 ? 85 : 0));
  const { state } = run(startDetector(0), jitter, every(15, 0, 3000));
  assert.ok(patienceMs(state, true) > 150, `${patienceMs(state, true)}`);
});

test("a long silence that ended makes it patient for a while", () => {
  const pause = [...every(15, 0, 3000), ...every(15, 3200, 4000)];
  const { state } = run(startDetector(0), pause, every(15, 0, 4000));
  assert.ok(patienceMs(state, true) > 200, `${patienceMs(state, true)}`);
  const later = run(state, every(15, 4000, 60_000), every(15, 4000, 60_000));
  assert.equal(patienceMs(later.state, true), later.state.options.unansweredFloorMs);
});

test("a process that is late while its machine answers is given a second", () => {
  const { suspectedAt } = run(startDetector(0), every(15, 0, 1000), every(15, 0, 3000));
  assert.ok(suspectedAt! > 1990 && suspectedAt! <= 2020, `at ${suspectedAt}`);
});

test("starved, it accuses nobody whose machine seems to owe an answer", () => {
  const ticks = every(400, 0, 8000);
  const { suspectedAt } = run(
    startDetector(0),
    ticks.map((at) => at + 1),
    ticks,
    () => true,
  );
  assert.equal(suspectedAt, undefined);
});

test("a peer that never came is given the first patience", () => {
  const { suspectedAt } = run(startDetector(0, { startMs: 500 }), [], every(15, 0, 3000));
  assert.ok(suspectedAt! > 500 && suspectedAt! < 550);
});

test("a link with jitter gets more patience, up to the ceiling", () => {
  const jitter = Array.from({ length: 100 }, (_, index) => 30 * index + (index % 4 === 0 ? 85 : 0));
  const { state, suspectedAt } = run(startDetector(0, { floorMs: 150, ceilingMs: 1000 }), jitter, every(15, 0, 2950));
  assert.equal(suspectedAt, undefined);
  assert.ok(patienceMs(state) > 150, `${patienceMs(state)}`);
  const wild = Array.from({ length: 100 }, (_, index) => 500 * index + (index % 2) * 400);
  assert.equal(patienceMs(run(startDetector(0, { floorMs: 150, ceilingMs: 1000 }), wild, []).state), 1000);
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
