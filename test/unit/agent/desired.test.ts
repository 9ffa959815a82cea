/** The pure core of reconciling: what this node should do, for every situation that it can see. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { desired, type Seen, type SeenInstance } from "../../../src/agent/desired.ts";
import { type ApplicationSpec, applicationDefaults, type View } from "../../../src/cluster/spec.ts";
import { wantedStandbys } from "../../../src/cluster/standbys.ts";
import type { StandbyStatus } from "../../../src/instance/control.ts";

const spec: ApplicationSpec = {
  ...applicationDefaults,
  name: "app",
  command: ["sleep"],
  address: "10.0.0.1/24",
  home: "node-a",
  standby: ["node-b"],
  createdAt: "then",
};
const view: View = { term: 1, primary: "node-a", inSync: ["node-b"] };
const said = { role: "primary", state: "protected", term: 1, standbys: [] } as const;
const instance: SeenInstance = { pid: 7, createdAt: "then", said: { ...said, standbys: [] } };
const calm = { application: "app", initAlive: false, leftovers: false, onlyFiles: false, kept: false, busy: false };

function kinds(node: string, seen: Partial<Seen>): string[] {
  return desired(node, [{ ...calm, ...seen }]).map((action) =>
    action.kind === "clone" ? `clone ${action.node}` : action.kind,
  );
}

describe("desired", () => {
  it("wants clones on the standbys and on the home node, not on the primary", () => {
    assert.deepEqual(wantedStandbys(spec, view), ["node-b"]);
    assert.deepEqual(wantedStandbys(spec, { primary: "node-b" }), ["node-a"]);
    assert.deepEqual(wantedStandbys({ ...spec, standby: ["node-b", "node-c"] }, { primary: "node-c" }), [
      "node-b",
      "node-a",
    ]);
  });

  it("brings the clones that are missing or lost", () => {
    assert.deepEqual(kinds("node-a", { spec, view, instance }), ["clone node-b"]);
    for (const [state, expected] of [
      ["in-sync", []],
      ["synchronising", []],
      ["connecting", []],
      ["lost", ["clone node-b"]],
    ] as const) {
      const held = { ...instance, said: { ...said, standbys: [{ node: "node-b", state }] } };
      assert.deepEqual(kinds("node-a", { spec, view, instance: held }), expected, state);
    }
  });

  it("lets an instance that starts, switches or has not spoken yet alone", () => {
    for (const state of ["starting", "switching"]) {
      const early = { ...instance, said: { ...said, state, standbys: [] } };
      assert.deepEqual(kinds("node-a", { spec, view, instance: early }), []);
    }
    assert.deepEqual(kinds("node-a", { spec, view, instance: { pid: 7, createdAt: "then" } }), []);
    const promoting = { ...instance, said: { ...said, role: "standby" as const, standbys: [] } };
    assert.deepEqual(kinds("node-a", { spec, view, instance: promoting }), []);
  });

  it("attaches to a running application whose instance died, and only to its own", () => {
    assert.deepEqual(kinds("node-a", { spec, view, initAlive: true, leftovers: true }), ["attach"]);
    assert.deepEqual(kinds("node-a", { spec, view, leftovers: true }), []);
    const gone = { ...view, inSync: [] };
    assert.deepEqual(kinds("node-b", { spec, view: gone, initAlive: true, leftovers: true }), ["remove"]);
  });

  it("gives nothing of an old primary up while the view counts on it: the new one may not come to life", () => {
    const rising = { term: 2, primary: "node-b", inSync: ["node-a"] };
    assert.deepEqual(kinds("node-a", { spec, view: rising, instance, initAlive: true, leftovers: true }), []);
    assert.deepEqual(kinds("node-a", { spec, view: rising, initAlive: true, leftovers: true }), ["attach"]);
    assert.deepEqual(kinds("node-a", { spec, view: rising, leftovers: true }), ["remove"]);
  });

  it("removes an old primary, at once unless it may still answer the one who asked for the switch, or is silent", () => {
    const higher = { term: 2, primary: "node-b", inSync: [] };
    const handsOver = (state: string, commit: "checkpoint" | "none") => {
      const seen = { ...calm, spec: { ...spec, commit }, view: higher };
      const [action] = desired("node-a", [
        { ...seen, instance: { ...instance, said: { ...said, state, standbys: [] } } },
      ]);
      return action?.kind === "remove" && action.handsOver;
    };
    assert.equal(handsOver("running", "checkpoint"), false, "Its output is free");
    assert.equal(handsOver("protected", "none"), false);
    assert.equal(handsOver("protected", "checkpoint"), true);
    assert.equal(handsOver("switching", "none"), true);
  });

  it("does not act on a look at the store that is older than what the instance says", () => {
    const ahead = { ...instance, said: { ...said, term: 3, standbys: [] } };
    assert.deepEqual(kinds("node-b", { spec, view, instance: ahead }), []);
  });

  it("removes what is of no application any more, of an earlier one, or not wanted here", () => {
    const clone = { ...instance, said: { ...said, role: "standby" as const, standbys: [] } };
    assert.deepEqual(kinds("node-b", { instance: clone, leftovers: true }), ["remove"]);
    assert.deepEqual(kinds("node-b", { spec, view, instance: { ...clone, createdAt: "before" } }), ["remove"]);
    assert.deepEqual(kinds("node-c", { spec, view, instance: clone }), ["remove"]);
    assert.deepEqual(kinds("node-b", { spec, view, instance: clone }), []);
    assert.deepEqual(kinds("node-b", { spec, view: { ...view, ended: { reason: "", at: "" } }, instance: clone }), [
      "remove",
    ]);
    assert.deepEqual(kinds("node-b", { spec, view: { ...view, ended: { reason: "", at: "" } } }), []);
  });

  it("keeps a clone that may take over and is not wanted any more until all that are wanted can", () => {
    const clone = { ...instance, said: { ...said, role: "standby" as const, standbys: [] } };
    const moved = { ...spec, standby: ["node-c"] };
    const at = (inSync: string[]) => kinds("node-b", { spec: moved, view: { ...view, inSync }, instance: clone });
    assert.deepEqual(at(["node-b"]), []);
    assert.deepEqual(at(["node-b", "node-c"]), ["remove"]);
    assert.deepEqual(at(["node-c"]), ["remove"]);
    // An old primary is not asked to stop, which would end the application for everybody.
    for (const said of [instance.said!, { ...clone.said, state: "switching" }]) {
      const elsewhere = { ...view, term: 2, primary: "node-c", inSync: [] };
      const [action] = desired("node-b", [{ ...calm, spec: moved, view: elsewhere, instance: { ...instance, said } }]);
      assert.deepEqual([action?.kind, action?.kind === "remove" && action.graceful], ["remove", false]);
    }
    // It stands aside until the new primary lives.
    const aside = { ...clone, said: { ...clone.said, state: "switching" } };
    const inSync = ["node-b", "node-c"];
    assert.deepEqual(kinds("node-b", { spec: moved, view: { ...view, inSync }, instance: aside }), []);
    assert.deepEqual(at([]), ["remove"]);
  });

  it("leaves the files of an application that has ended to the user, on its last primary alone", () => {
    const ended = { ...view, ended: { reason: "", at: "" } };
    assert.deepEqual(kinds("node-a", { spec, view: ended, leftovers: true, onlyFiles: true }), []);
    const [rest] = desired("node-a", [{ ...calm, spec, view: ended, leftovers: true }]);
    assert.ok(rest?.kind === "remove" && rest.files === "stay");
    const [clone] = desired("node-b", [{ ...calm, spec, view: ended, leftovers: true, onlyFiles: true }]);
    assert.ok(clone?.kind === "remove" && clone.files === "remove");
    assert.deepEqual(kinds("node-a", { leftovers: true, onlyFiles: true }), ["remove"]);
  });

  it("leaves what a durable application's clone had on the disk, while the clone may count, until there is another", () => {
    const durable = { ...spec, durable: true };
    const lost = { leftovers: true, kept: true };
    const fate = (seen: Partial<Seen>) => {
      const [action] = desired("node-b", [{ ...calm, ...lost, ...seen }]);
      return action?.kind === "remove" ? action.files : action?.kind;
    };
    assert.equal(fate({ spec: durable, view }), "stay");
    assert.equal(fate({ spec: durable, view, onlyFiles: true }), undefined);
    assert.equal(fate({ spec: durable, view: { ...view, inSync: [] }, onlyFiles: true }), "aside");
    assert.equal(fate({ spec, view }), "aside");
    assert.equal(fate({ view }), "remove");
  });

  it("never touches what an operation holds, and never ends the primary of the view's term", () => {
    const instances = fc.option(
      fc.record({
        pid: fc.constant(7),
        createdAt: fc.constantFrom("then", "before"),
        said: fc.record({
          role: fc.constantFrom("primary" as const, "standby" as const),
          state: fc.constantFrom("starting", "running", "protected", "switching", "ready"),
          term: fc.integer({ min: 1, max: 4 }),
          standbys: fc.constant<StandbyStatus[]>([]),
        }),
      }),
      { nil: undefined },
    );
    const situation = fc.record({
      node: fc.constantFrom("node-a", "node-b", "node-c"),
      primary: fc.constantFrom("node-a", "node-b"),
      term: fc.integer({ min: 1, max: 4 }),
      instance: instances,
      initAlive: fc.boolean(),
      leftovers: fc.boolean(),
      onlyFiles: fc.boolean(),
      kept: fc.boolean(),
      busy: fc.boolean(),
    });
    fc.assert(
      fc.property(situation, ({ node, primary, term, instance, ...rest }) => {
        const here: Partial<Seen> = instance === undefined ? {} : { instance };
        const seen: Seen = {
          application: "app",
          spec,
          view: { term, primary, inSync: [] },
          ...rest,
          ...here,
        };
        const actions = desired(node, [seen]);
        if (rest.busy) assert.deepEqual(actions, []);
        const removes = actions.some(({ kind }) => kind === "remove");
        if (primary === node && instance?.createdAt !== "before") assert.equal(removes, false);
        assert.ok(!(removes && actions.length > 1));
      }),
    );
  });
});
