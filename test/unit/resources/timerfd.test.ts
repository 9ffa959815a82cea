/** What a timer has come to after its clock went on: never early, no tick lost, none twice. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type TimerfdState, timerAt } from "../../../src/resources/timerfd/index.ts";

const SECOND = 1_000_000_000n;
const state = (ticks: bigint, leftNs: bigint, intervalNs: bigint): TimerfdState => ({
  ...{ flags: 0, clock: 1, settime: 0, ticks: String(ticks), at: "5000" },
  left: [Number(leftNs / SECOND), Number(leftNs % SECOND)],
  interval: [Number(intervalNs / SECOND), Number(intervalNs % SECOND)],
});
const at = (leftNs: bigint, intervalNs: bigint, goneNs: bigint, ticks = 3n) =>
  timerAt(state(ticks, leftNs, intervalNs), 5000n + goneNs);

test("before it is due less is left; at that moment it fires", () => {
  assert.deepEqual(at(100n, 0n, 99n), { ticks: 3n, left: 1n });
  assert.deepEqual(at(100n, 0n, 100n), { ticks: 4n, left: 0n });
  assert.deepEqual(at(100n, 10n, 100n), { ticks: 4n, left: 10n });
});

test("one that is off stays off", () => {
  assert.deepEqual(at(0n, 0n, 10n ** 12n), { ticks: 3n, left: 0n });
});

test("a clock that is behind what was written down makes nothing fire later than that", () => {
  assert.deepEqual(at(100n, 10n, -50n), { ticks: 3n, left: 100n });
});

test("one that repeats has fired as often as its clock says, and is next due in its own rhythm", () => {
  const some = fc.bigInt({ min: 1n, max: 3n * SECOND });
  fc.assert(
    fc.property(some, some, fc.bigInt({ min: 0n, max: 50n * SECOND }), (left, interval, gone) => {
      const now = at(left, interval, gone, 0n);
      assert.ok(now.left > 0n && (now.ticks === 0n || now.left <= interval));
      assert.equal(gone + now.left, left + now.ticks * interval);
    }),
  );
});
