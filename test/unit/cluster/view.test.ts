/** What conversations (golden.test.ts) cannot say: records that were under way for long. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { initialViewState, step, type ViewAction, type ViewEvent } from "../../../src/cluster/view.ts";

/** Tells node "a" one event after the other; the actions of the last. */
function tell(...events: ViewEvent[]): ViewAction[] {
  let state = initialViewState("a");
  let last: ViewAction[] = [];
  for (const event of events) ({ state, actions: last } = step(state, event));
  return last;
}

const mine = (inSync: string[]) => ({ term: 17, primary: "a", inSync });
const attach: ViewEvent = { kind: "begin", as: "attach", term: 17, epoch: 236 };
/** Records of before there was this process; "b" has taken term 18 since. */
const late: ViewEvent[] = [
  { kind: "viewSeen", view: mine(["c"]), revision: 63 },
  { kind: "viewSeen", view: mine([]), revision: 64 },
];

test("who attaches lets nothing out for records that are told late, one after the other", () => {
  assert.deepEqual(tell(attach, ...late.slice(0, 1)), [{ kind: "attached", term: 17 }]);
  assert.deepEqual(tell(attach, ...late), []);
  const read: ViewEvent = { kind: "viewRead", view: { term: 18, primary: "b", inSync: [] }, revision: 67 };
  assert.deepEqual(
    tell(attach, ...late, read).map(({ kind }) => kind),
    ["endInstance", "follow"],
  );
});

test("who attaches speaks once the store has decided on what it asked for itself", () => {
  const read: ViewEvent = { kind: "viewRead", view: mine([]), revision: 64 };
  const wanted = { kind: "compareAndSwap", expectedRevision: 64, view: mine([]) };
  assert.deepEqual(tell(attach, ...late, read), [wanted]);
  const done: ViewEvent = { kind: "swapped", expectedRevision: 64, view: mine([]), revision: 65 };
  assert.deepEqual(tell(attach, ...late, read, done), [{ kind: "passThrough", on: true }]);
  // What the process before this one had asked for came first: that settles it as well.
  const other: ViewEvent = { kind: "swapFailed", expectedRevision: 64, view: mine(["c"]), revision: 65 };
  assert.deepEqual(tell(attach, ...late, read, other), [
    { kind: "compareAndSwap", expectedRevision: 65, view: mine([]) },
  ]);
});
