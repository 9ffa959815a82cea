/** Four nodes in two failure domains: the cluster chooses where clones are, and who stands in when a node is gone. */
import assert from "node:assert/strict";
import { after, afterEach, before, type TestContext, test } from "node:test";
import { Lab } from "../../../src/lab/lab.ts";
import { RedisSite } from "../../../workload/site.ts";
import { answersCome, assertOneCopy, downAndGone, eventually, tellEvents, underLoad } from "../faults/support.ts";

const lab = new Lab({ name: `placement${process.pid}` });
const zones: Record<string, string> = { "node-a": "east", "node-b": "east", "node-c": "west", "node-d": "west" };
const site = new RedisSite(lab, undefined, { placement: { standbys: 1, avoid: ["node-c"], replaceAfter: 2 } });

before(
  async () => {
    const configurations = Object.fromEntries(
      Object.entries(zones).map(([node, zone]) => [node, { labels: { zone } }] as const),
    );
    await lab.up({ nodes: 4, configurations });
    await site.protect({ standby: [] });
  },
  { timeout: 120_000 },
);
afterEach((context) => tellEvents(site, context as TestContext));
after(() => downAndGone(lab), { timeout: 60_000 });

const chosen = async () =>
  (await site.events()).filter(({ kind }) => kind === "standby-chosen").map(({ details }) => details?.node);

test("a clone in the other failure domain, not where its owner does not want one", { timeout: 120_000 }, async () => {
  const { primary, inSync } = await site.untilProtected();
  assert.deepEqual([primary, inSync], ["node-a", ["node-d"]]);
  assert.deepEqual(await chosen(), ["node-d"]);
});

test("a chosen standby loses power: another is chosen, and not again and again", { timeout: 240_000 }, async () => {
  await lab.powerOff("node-d");
  await eventually("another holds a clone", async () => (await site.report()).inSync.includes("node-b"));
  await lab.powerOn("node-d");
  assert.deepEqual((await site.untilProtected()).inSync, ["node-b"]);
  assert.deepEqual(await chosen(), ["node-d", "node-b"]);
});

test("the primary loses power: another node becomes standby without being asked", { timeout: 240_000 }, async () => {
  await underLoad(site, async (counters) => {
    await answersCome(counters);
    const { primary, inSync } = await site.untilProtected();
    const [standby] = inSync;
    await lab.powerOff(primary!);
    await answersCome(counters);
    const report = await site.untilProtected();
    // Only one node is left that may hold a clone, and nobody has named it.
    const rest = Object.keys(zones).filter((node) => ![primary, standby, "node-c"].includes(node));
    assert.deepEqual([report.primary, report.inSync], [standby, rest]);
    assert.equal((await chosen()).at(-1), rest[0]);
    await answersCome(counters);
    // What has stood in can take over as any other.
    await lab.powerOff(standby!);
    await answersCome(counters);
    assert.equal((await site.report()).primary, rest[0]);
    for (const node of [primary!, standby!]) await lab.powerOn(node);
    await eventually("its home holds a clone again", async () => (await site.report()).inSync.includes("node-a"));
    await answersCome(counters);
  });
  await assertOneCopy(site);
});
