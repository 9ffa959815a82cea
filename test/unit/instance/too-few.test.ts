import assert from "node:assert/strict";
import { test } from "node:test";
import { TooFewWatch } from "../../../src/instance/too-few.ts";

const view = (...inSync: string[]) => ({ term: 1, primary: "a", inSync });

test("too few in sync is told once each time, and not while the first ones come", () => {
  const watch = new TooFewWatch();
  const policy = { minInSync: 2, onTooFew: "hold" } as const;
  assert.equal(watch.look(view(), policy), undefined);
  assert.equal(watch.look(view("b"), policy), undefined);
  assert.equal(watch.look(view("b", "c"), policy), undefined);
  assert.equal(watch.look(view("b"), policy)?.kind, "too-few-in-sync");
  assert.equal(watch.look(view(), policy), undefined);
  assert.equal(watch.look(view("c", "b"), policy)?.kind, "enough-in-sync");
  watch.look(undefined, policy);
  assert.equal(watch.look(view(), policy), undefined);
});
