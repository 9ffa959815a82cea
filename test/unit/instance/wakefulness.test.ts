/** What a process that was kept from running tells the view machine, and what it does not. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { STARVED_MS, Wakefulness } from "../../../src/instance/wakefulness.ts";

function watched(sentBefore: number) {
  let now = 1000;
  const told: unknown[] = [];
  const wakefulness = new Wakefulness(
    (event) => told.push(event),
    sentBefore,
    () => now,
  );
  const passes = (ms: number) => {
    now += ms;
  };
  return { wakefulness, told, passes };
}

test("one that looks often is never late", () => {
  const { wakefulness, told, passes } = watched(0);
  for (let epoch = 1; epoch < 10; epoch++) {
    passes(STARVED_MS);
    wakefulness.look();
    passes(STARVED_MS);
    wakefulness.sending(epoch);
  }
  assert.deepEqual(told, []);
  assert.equal(wakefulness.isStale, false);
});

test("it awakes from its own long stops, before what they cut is sent", () => {
  const { wakefulness, told, passes } = watched(6);
  passes(STARVED_MS + 1);
  wakefulness.sending(7);
  assert.deepEqual(told, [{ kind: "awoke", sent: 6 }]);
  assert.equal(wakefulness.isStale, false, "the next acknowledgement is a new one");
  wakefulness.look();
  assert.equal(told.length, 1, "once");
});

test("what was sent before a silence is old after it, until another is sent", () => {
  const { wakefulness, told, passes } = watched(6);
  wakefulness.sending(7);
  passes(STARVED_MS + 1);
  wakefulness.look();
  assert.deepEqual(told, [{ kind: "awoke", sent: 7 }]);
  assert.equal(wakefulness.isStale, true);
  wakefulness.sending(8);
  assert.equal(wakefulness.isStale, false);
  assert.equal(wakefulness.wasSilent, true, "the last one's acknowledgement is waited for");
  wakefulness.sending(9);
  assert.equal(wakefulness.wasSilent, false);
});
