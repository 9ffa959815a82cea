/** Twenty applications on three nodes: clones are spread by themselves, also when a node is gone. 5 and 9: `npm run bench -- cluster`. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Lab } from "../../../src/lab/lab.ts";
import { Crowd, copiesByNode } from "../../../workload/crowd.ts";
import { downAndGone } from "../faults/support.ts";

const COUNT = 20;
const LIMIT_MS = 240_000;
const NODES = ["node-a", "node-b", "node-c"];
const lab = new Lab({ name: `spread${process.pid}` });
const crowd = new Crowd(lab, COUNT);

before(() => lab.up({ nodes: NODES.length }), { timeout: 60_000 });
after(() => downAndGone(lab), { timeout: 120_000 });

test("each node has its share; without one of them the others have all", {
  timeout: 2 * LIMIT_MS + 240_000,
}, async () => {
  await crowd.start(NODES);
  const copies = copiesByNode(await crowd.untilProtected(LIMIT_MS));
  assert.deepEqual([...copies.keys()].sort(), NODES);
  const all = [...copies.values()].map(({ primaries, clones }) => primaries + clones);
  assert.equal(
    all.reduce((sum, one) => sum + one, 0),
    2 * COUNT,
  );
  // Even would be 13 or 14.
  assert.ok(Math.min(...all) >= COUNT / 2, all.join(", "));
  await lab.powerOff("node-a");
  const then = copiesByNode(await crowd.untilProtected(LIMIT_MS));
  assert.deepEqual([...then.keys()].sort(), ["node-b", "node-c"]);
  for (const { primaries, clones } of then.values()) assert.equal(primaries + clones, COUNT);
});
