/** Whether memory is copied ahead of a stop. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type AheadState, afterDump, isWorthAhead, nothingKnown } from "../../../src/checkpoint/copy-ahead.ts";

/** Checkpoints 50 ms apart; each finds so many pages by its pass, if it is tried, and so many in its stop. */
function run(times: number, ahead: number, inStop: (tried: boolean) => number, from: AheadState = nothingKnown) {
  let state = from;
  let tried = 0;
  let now = Number.isFinite(state.at) ? state.at : 0;
  for (let i = 0; i < times; i++) {
    now += 50;
    const isTried = isWorthAhead(state, now);
    if (isTried) tried++;
    state = afterDump(state, now, isTried ? ahead : 0, inStop(isTried));
  }
  return { tried, state };
}

test("where the stop finds little afterwards it is done each time", () => {
  assert.equal(run(50, 4000, (tried) => (tried ? 300 : 4000)).tried, 50);
});

test("where all of it is written again at once it is tried seldom", () => {
  assert.equal(run(63, 1200, () => 1100).tried, 3);
});

test("what comes to more than a stop should copy is copied ahead all the same", () => {
  const { state } = run(5, 1200, () => 1100);
  const burst = afterDump(state, state.at + 50, 0, 20_000);
  assert.ok(isWorthAhead(burst, burst.at + 50));
});

test("little is copied in the stop, unless a long time has passed", () => {
  const { state } = run(2, 100, () => 100);
  assert.ok(!isWorthAhead(state, state.at + 50));
  assert.ok(isWorthAhead(state, state.at + 1000));
  assert.ok(isWorthAhead(nothingKnown, 0));
});
