/** Which nodes shall hold a clone: wishes, choices, and who is away. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { missingStandbys, wantedStandbys } from "../../../src/cluster/standbys.ts";

const view = { primary: "a" };
const nobody: ReadonlySet<string> = new Set();
const wanted = (standby: string[], extra: string[], without: string[]) =>
  wantedStandbys({ home: "a", standby, placement: { standbys: 1 } }, view, { extra, without });
const missing = (standby: string[], extra: string[], without: string[]) =>
  missingStandbys({ home: "a", standby, placement: { standbys: 1 } }, view, { extra, without }, nobody);

suite("wanted standbys", () => {
  test("who is wished for comes before who was chosen", () => {
    assert.deepEqual(wanted(["b"], ["c"], []), ["b"]);
    assert.equal(missing(["b"], ["c"], []), 0);
  });
  test("who is wished for and away is wanted still, beside who stands in", () => {
    assert.deepEqual(wanted(["b"], [], ["b"]), ["b"]);
    assert.equal(missing(["b"], [], ["b"]), 1);
    assert.deepEqual(wanted(["b"], ["c"], ["b"]), ["b", "c"]);
    assert.equal(missing(["b"], ["c"], ["b"]), 0);
  });
  test("who was chosen and is away makes room for the next", () => {
    assert.deepEqual(wanted([], ["b"], []), ["b"]);
    assert.equal(missing([], ["b"], ["b"]), 1);
    assert.deepEqual(wanted([], ["b", "c"], ["b"]), ["c"]);
    assert.equal(missing([], ["b", "c"], ["b"]), 0);
  });
  test("a node that is emptied holds none, and its primary wants one more", () => {
    const spec = { home: "b", standby: ["c"], placement: { standbys: 1 } };
    const drained = new Set(["a"]);
    const placement = { extra: [], without: [] };
    assert.deepEqual(wantedStandbys(spec, view, placement, drained), ["c", "b"]);
    assert.equal(missingStandbys({ ...spec, home: "a" }, view, placement, drained), 1);
    assert.deepEqual(wantedStandbys(spec, view, placement, new Set(["c"])), ["b"]);
  });
});
