/** Links between the nodes that are cut, both ways or one: one copy speaks, and what clients were told stays true. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openStore } from "../../../src/cluster/open.ts";
import type { View } from "../../../src/cluster/spec.ts";
import { storeKeys } from "../../../src/cluster/store.ts";
import { labPlaces } from "../../../src/lab/layout.ts";
import { answersCome, assertOneCopy, eventually, stageRedis, underLoad } from "./support.ts";

const { lab, site } = stageRedis("cut", { nodes: 2 }, (site) => site.protect());

async function throughCut(cut: (primary: string, standby: string) => Promise<void>): Promise<void> {
  await underLoad(site, async (counters) => {
    const { primary, standbys } = await site.untilProtected();
    const standby = standbys.find(({ state }) => state === "in-sync")!.node;
    await cut(primary!, standby);
    await eventually("the view counts on one node only", async () => (await viewOf()).inSync.length === 0);
    await answersCome(counters);
    // Longer than any patience: who goes on now goes on alone.
    await sleep(1500);
    await assertOneCopy(site);
    await answersCome(counters);
    await lab.heal();
    await site.untilProtected();
  });
  await assertOneCopy(site);
}

/** The record itself: who is asked for it may be cut off from who knows. */
async function viewOf(): Promise<View> {
  const store = await openStore(`sqlite:${labPlaces(lab.name).store}/store.db`);
  try {
    const found = await store.get<View>(storeKeys.view("redis"));
    return found!.value;
  } finally {
    store.close();
  }
}

test("cut both ways", { timeout: 120_000 }, () => throughCut((primary, standby) => lab.cut(primary, standby)));

test("cut from the primary to the standby only", { timeout: 120_000 }, () =>
  throughCut((primary, standby) => lab.cut(primary, standby, { oneWay: true })),
);

test("cut from the standby to the primary only", { timeout: 120_000 }, () =>
  throughCut((primary, standby) => lab.cut(standby, primary, { oneWay: true })),
);

test("cut for moments, again and again", { timeout: 120_000 }, async () => {
  await underLoad(site, async (counters) => {
    await site.untilProtected();
    for (let round = 0; round < 6; round++) {
      const oneWay = round % 3 !== 0;
      await lab.cut("node-a", "node-b", { oneWay });
      await sleep(50 + 60 * round);
      await lab.heal();
      await sleep(150);
    }
    await answersCome(counters);
    await site.untilProtected();
  });
  await assertOneCopy(site);
});

test("the client's link to the primary is cut: no switch, and the connections last", { timeout: 120_000 }, async () => {
  await underLoad(site, async (counters) => {
    const { primary, term } = await site.untilProtected();
    await lab.cut(primary!, "client");
    await sleep(700);
    await lab.heal();
    await answersCome(counters);
    const then = await site.untilProtected();
    assert.deepEqual([then.primary, then.term], [primary, term]);
  });
});
