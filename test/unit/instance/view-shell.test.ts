/** The view machine stands still while an action takes its time: as if that had been done in one go. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type ApplicationSpec, applicationDefaults, type View } from "../../../src/cluster/spec.ts";
import type { ClusterStore } from "../../../src/cluster/store.ts";
import type { ViewAction } from "../../../src/cluster/view.ts";
import { ViewShell } from "../../../src/instance/view-shell.ts";

test("events told while a clone comes to life are stepped afterwards, in their order", async () => {
  const done: string[] = [];
  const rising = Promise.withResolvers<void>();
  const store = {} as ClusterStore;
  const application = { ...applicationDefaults, name: "one" } as ConstructorParameters<typeof ViewShell>[1];
  const shell: ViewShell = new ViewShell("b", application, store, (action: ViewAction) => {
    done.push(action.kind);
    if (action.kind === "goLive") return rising.promise;
  });
  const seen = (view: View, revision: number) => shell.tell({ kind: "viewSeen", view, revision });
  shell.tell({ kind: "begin", as: "standby" });
  seen({ term: 1, primary: "a", inSync: [] }, 1);
  shell.tell({ kind: "syncStarted", term: 1, revision: 1, stream: 1 });
  shell.tell({ kind: "checkpointApplied", term: 1, epoch: 5 });
  seen({ term: 1, primary: "a", inSync: ["b"] }, 2);
  seen({ term: 2, primary: "b", inSync: ["a"] }, 3);
  assert.equal(done.at(-1), "goLive");
  assert.equal(shell.state.role.kind, "primary");

  let settled = false;
  const waits = shell.settled().then(() => (settled = true));
  seen({ term: 3, primary: "a", inSync: ["b"] }, 4);
  await new Promise(setImmediate);
  assert.equal(done.at(-1), "goLive", "The machine stands still");
  assert.equal(shell.state.confirmed?.view?.term, 2);
  assert.equal(settled, false);

  rising.resolve();
  await waits;
  assert.equal(shell.state.confirmed?.view?.term, 3);
  assert.ok(done.includes("endInstance"), "It learnt then that another has the term");
  shell.close();
});

test("a change of the record is told also where nothing follows from it", () => {
  const application = { ...applicationDefaults, name: "one", minInSync: 2, onTooFew: "hold" } as ApplicationSpec;
  const store = { compareAndSwap: () => new Promise(() => {}) } as unknown as ClusterStore;
  const actions: string[] = [];
  const seen: string[][] = [];
  const shell: ViewShell = new ViewShell(
    "a",
    application,
    store,
    ({ kind }) => void actions.push(kind),
    () => seen.push(shell.state.confirmed!.view!.inSync),
  );
  shell.tell({ kind: "begin", as: "attach", term: 1, epoch: 1 });
  shell.tell({ kind: "viewSeen", view: { term: 1, primary: "a", inSync: ["b", "c"] }, revision: 1 });
  const before = actions.length;
  // Output waits already: that "c" has left changes nothing in what is held.
  shell.tell({ kind: "viewSeen", view: { term: 1, primary: "a", inSync: ["b"] }, revision: 2 });
  shell.tell({ kind: "viewSeen", view: { term: 1, primary: "a", inSync: ["b"] }, revision: 2 });
  assert.equal(actions.length, before);
  assert.deepEqual(seen, [["b", "c"], ["b"]]);
  shell.close();
});
