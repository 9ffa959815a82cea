/** Redis under load goes on through switches and power failures, again and again, with nothing lost. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Lab } from "../../../src/lab/lab.ts";
import { startWorkload } from "../../../workload/driver.ts";
import type { CounterResult } from "../../../workload/messages.ts";
import { RedisSite, SERVICE } from "../../../workload/site.ts";

const lab = new Lab({ name: `take${process.pid}` });
const site = new RedisSite(lab);
const COUNTERS = { ...SERVICE, connections: 20, progressMs: 0 };

before(() => lab.up({ nodes: 3 }), { timeout: 60_000 });
after(() => lab.down(), { timeout: 60_000 });

function assertNothingLost(result: CounterResult): void {
  const { connectionsBroken, writesMissing, writesUnverified, valuesUnexpected, errorReplies, findings } = result;
  assert.deepEqual(
    { connectionsBroken, writesMissing, writesUnverified, valuesUnexpected, errorReplies, findings },
    { connectionsBroken: 0, writesMissing: 0, writesUnverified: 0, valuesUnexpected: 0, errorReplies: 0, findings: [] },
  );
  assert.ok(result.writesAcknowledged > 100, String(result.writesAcknowledged));
}

test("planned switches to and fro under load", { timeout: 180_000 }, async () => {
  await site.protect();
  await site.fill(10);
  const counters = await startWorkload("counters", site.spawn, COUNTERS);
  for (let round = 0; round < 4; round++) {
    const { primary, term, standbys } = await site.untilProtected();
    await sleep(500);
    const to = standbys.find(({ state }) => state === "in-sync")!.node;
    const result = await site.switchTo(to);
    assert.deepEqual([result.from, result.to], [primary, to]);
    assert.ok(result.term > term);
    await site.untilProtected({ term: result.term });
  }
  await sleep(500);
  assertNothingLost(await counters.stop());
  assert.equal((await site.copiesRunning()).length, 1);
});

test("the primary loses power under load, twice, and comes back as a standby", { timeout: 180_000 }, async () => {
  const counters = await startWorkload("counters", site.spawn, COUNTERS);
  for (let round = 0; round < 2; round++) {
    const { primary, term } = await site.untilProtected();
    await sleep(500);
    await counters.mark(`power-off ${round}`);
    await lab.powerOff(primary!);
    await sleep(2000);
    const gap = await counters.mark("after");
    assert.ok(gap.answers > 100, `Nobody answered any more: ${JSON.stringify(gap)}`);
    await lab.powerOn(primary!);
    const then = await site.untilProtected({ term: term + 1 });
    assert.notEqual(then.primary, primary);
    assert.deepEqual(await site.copiesRunning(), [then.primary]);
  }
  assertNothingLost(await counters.stop());
});

test("the standby loses power: the primary goes on alone, and is protected again when it returns", {
  timeout: 120_000,
}, async () => {
  const counters = await startWorkload("counters", site.spawn, COUNTERS);
  const { primary, term, standbys } = await site.untilProtected();
  const standby = standbys[0]!.node;
  await lab.powerOff(standby);
  await sleep(3000);
  await counters.mark("alone");
  await sleep(1000);
  assert.ok((await counters.mark("after")).answers > 100, "The primary does not go on alone");
  await lab.powerOn(standby);
  const then = await site.untilProtected();
  assert.deepEqual([then.primary, then.term], [primary, term]);
  assertNothingLost(await counters.stop());
});
