/** A node that comes to life as primary is waited for anew with each sign that it gets on, and only that one. */
import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { detectorDefaults } from "../../../src/cluster/detector.ts";
import type { ViewEvent } from "../../../src/cluster/view.ts";
import { PrimaryWatch } from "../../../src/instance/primary-watch.ts";
import type { ViewShell } from "../../../src/instance/view-shell.ts";

const { tickMs, startMs } = detectorDefaults;

/** Follows "b" in term 2; `pass` lets time pass, tick by tick. */
function following() {
  let now = 1000;
  mock.method(performance, "now", () => now);
  const told: ViewEvent[] = [];
  const silent: string[] = [];
  const view = { tell: (event: ViewEvent) => told.push(event) } as unknown as ViewShell;
  const watch = new PrimaryWatch(view, (primary) => silent.push(primary));
  watch.follow("b", 2);
  const pass = (ms: number) => {
    for (const end = now + ms; now < end; ) {
      now += tickMs;
      watch.tick(undefined);
    }
  };
  return { watch, told, silent, pass, [Symbol.dispose]: () => mock.restoreAll() };
}

test("who never gives a sign of life is suspected after the patience for the beginning", () => {
  using at = following();
  at.pass(startMs - tickMs);
  assert.deepEqual(at.told, []);
  at.pass(3 * tickMs);
  assert.deepEqual(at.told, [{ kind: "suspected", term: 2 }]);
  assert.deepEqual(at.silent, ["b"]);
});

test("who gets on is not suspected, however long it takes; when it stops getting on it is", () => {
  using at = following();
  for (let i = 0; i < 10; i++) {
    at.pass(startMs - 2 * tickMs);
    at.watch.rising("b", 2);
  }
  assert.deepEqual(at.told, []);
  at.pass(startMs + 3 * tickMs);
  assert.deepEqual(at.told[0], { kind: "suspected", term: 2 });
});

for (const [who, primary, term] of [
  ["another node", "c", 2],
  ["the same node for another term", "b", 1],
] as const)
  test(`${who} says nothing of the one that is followed`, () => {
    using at = following();
    at.pass(startMs - 2 * tickMs);
    at.watch.rising(primary, term);
    at.pass(5 * tickMs);
    assert.deepEqual(at.told[0], { kind: "suspected", term: 2 });
  });

test("once it lives, a late word of its rising prolongs nothing", () => {
  using at = following();
  at.watch.beat();
  at.pass(detectorDefaults.floorMs - 2 * tickMs);
  at.watch.rising("b", 2);
  at.pass(5 * tickMs);
  assert.deepEqual(at.told[0], { kind: "suspected", term: 2 });
});
