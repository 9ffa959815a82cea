/** Which nodes shall hold a clone: wishes, choices, and who is away. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { missingStandbys, wantedStandbys, whyStays } from "../../../src/cluster/standbys.ts";

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
  test("who was chosen and is away makes room for the next, and is waited for until there is one", () => {
    assert.deepEqual(wanted([], ["b"], []), ["b"]);
    assert.equal(missing([], ["b"], ["b"]), 1);
    assert.deepEqual(wanted([], ["b"], ["b"]), ["b"]);
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

suite("a clone that is not wanted", () => {
  const spec = { home: "a", standby: ["b", "c"], minInSync: 0, onTooFew: "continue" as const };
  const stays = (inSync: string[], { without = [] as string[], more = {} }, drained: string[] = []) =>
    whyStays("d", { ...spec, ...more }, { ...view, inSync }, { extra: ["d"], without }, new Set(drained));

  test("stays until those that are wanted can take over", () => {
    assert.match(stays(["d", "b"], {})!, /"c" is not in sync/);
    assert.equal(stays(["d", "b", "c"], {}), undefined);
    assert.equal(stays(["b"], {}), undefined, "Nobody counts on it");
  });
  test("on a node that is being emptied does not wait for who is away, but for somebody", () => {
    assert.match(stays(["d", "b"], { without: ["c"] })!, /"c"/);
    assert.equal(stays(["d", "b"], { without: ["c"] }, ["d"]), undefined);
    assert.match(stays(["d"], { without: ["b", "c"] }, ["d"])!, /"b", "c" are not in sync/);
    assert.match(stays(["d"], { without: ["c"] }, ["d"])!, /"b" is not in sync/);
  });
  test("stays where output would wait without it", () => {
    const more = { minInSync: 2, onTooFew: "hold" as const, standby: ["b"] };
    assert.match(stays(["d", "b"], { more }, ["d"])!, /only 1 of at least 2/);
    assert.equal(stays(["d", "b"], { more: { ...more, onTooFew: "continue" } }, ["d"]), undefined);
    assert.equal(stays(["d", "b", "c"], { more: { ...more, standby: ["b", "c"] } }, ["d"]), undefined);
  });
});
