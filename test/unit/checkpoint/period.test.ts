/** When the next checkpoint is due. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { dueAt, noCheckpoint, type PeriodState, periodDefaults, taken } from "../../../src/checkpoint/period.ts";

const empty = { stopUs: 500, pages: 0, bytes: 0, changed: [], gone: [] };
const some = { ...empty, pages: 3, bytes: 4096 };
const atOnce = { firstMs: 0, lastMs: 0 };
const after = (ends: (typeof empty)[]): PeriodState => ends.reduce((state, end) => taken(state, 0, end), noCheckpoint);
const calm = (state: PeriodState, options = periodDefaults) => dueAt(state, undefined, options);

test("where checkpoints find nothing they come ever more seldom, down to a limit", () => {
  const waits = [1, 2, 3, 4, 5, 20].map((times) => calm(after(Array(times).fill(empty))));
  assert.deepEqual(waits, [200, 400, 800, 1000, 1000, 1000]);
});

test("pages with the content that they had are nothing: a stop makes a thread write", () => {
  assert.equal(calm(after([empty, empty, empty, { ...empty, pages: 1 }])), 1000);
});

test("the first that finds something makes them as frequent as before", () => {
  assert.equal(calm(after([empty, empty, empty, some])), 200);
  assert.equal(calm(after([empty, empty, empty, { ...empty, bytes: 36 }])), 200);
  const ended: typeof empty = { ...empty, gone: ["descriptors/7"] as never[] };
  assert.equal(calm(after([empty, empty, empty, ended])), 200);
});

test("output that waits is not put off by it", () => {
  const state = after(Array(20).fill(empty));
  assert.equal(dueAt(state, atOnce, periodDefaults), periodDefaults.gatherMs);
});

test("where output does not wait for checkpoints, or the period is fixed, nothing is put off", () => {
  const state = after(Array(20).fill(empty));
  assert.equal(calm(state, { ...periodDefaults, longestIdleMs: periodDefaults.idleMs }), periodDefaults.idleMs);
  assert.equal(calm(state, { ...periodDefaults, period: 25 }), 25);
});

test("the application stands still for its share of the time at most", () => {
  const state = taken(noCheckpoint, 1000, { ...some, stopUs: 300_000 });
  assert.equal(dueAt(state, atOnce, periodDefaults), 1000 + 600);
});

test("much that is written is taken sooner", () => {
  assert.equal(calm(after([{ ...some, pages: 5000 }])), 50);
});

test("where many packets went together as many are waited for, until no more come", () => {
  const many = taken(noCheckpoint, 0, some, 50);
  assert.equal(dueAt(many, { firstMs: 10, lastMs: 10 }, periodDefaults), 11);
  assert.equal(dueAt(many, { firstMs: 10, lastMs: 12 }, periodDefaults), 13);
  // Whoever sends all the time is not waited for.
  assert.equal(dueAt(many, { firstMs: 10, lastMs: 30 }, periodDefaults), 16);
  // A few are let go as soon as can be.
  assert.equal(dueAt(taken(noCheckpoint, 0, some, 2), { firstMs: 10, lastMs: 10 }, periodDefaults), 4);
});
