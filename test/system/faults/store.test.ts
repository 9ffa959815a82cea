/** The cluster store loses members, a majority, or all of its nodes' power: what is in sync goes on, only changes of view wait. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  answersCome,
  assertOneCopy,
  eventually,
  health,
  instancePid,
  moveTo,
  stageRedis,
  underLoad,
} from "./support.ts";

const { lab, site } = stageRedis("sto", { nodes: 3, store: "etcd" }, (site) =>
  site.protect({ standby: ["node-b", "node-c"] }),
);
const nodes = ["node-a", "node-b", "node-c"];

/** Seconds of processor time that a process has used so far. */
function processorSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

test("a member is lost on each node in turn: clients are answered, and a switch is made", {
  timeout: 180_000,
}, async () => {
  await underLoad(site, async (counters) => {
    for (const node of nodes) {
      const { primary, term } = await site.untilProtected({ standbys: 2 });
      await lab.storeOff(node);
      await answersCome(counters);
      const to = nodes.find((other) => other !== primary)!;
      try {
        await moveTo(site, to);
        await answersCome(counters);
        await site.untilProtected({ standbys: 2, term: term + 1 });
      } finally {
        await lab.storeOn(node);
      }
    }
  });
  await assertOneCopy(site);
});

test("a node with its member loses power and gets it back", { timeout: 180_000 }, async () => {
  await underLoad(site, async (counters) => {
    const { primary, term } = await site.untilProtected({ standbys: 2 });
    await lab.powerOff(primary!);
    await answersCome(counters);
    await site.untilProtected({ standbys: 1, term: term + 1 });
    await lab.powerOn(primary!);
    const then = await site.untilProtected({ standbys: 2, term: term + 1 });
    // The member that came back counts again: the two others are not a majority with one of them lost.
    const other = nodes.find((node) => node !== primary)!;
    await lab.storeOff(other);
    const to = then.standbys[0]!.node;
    await moveTo(site, to);
    await answersCome(counters);
    await lab.storeOn(other);
    await site.untilProtected({ standbys: 2 });
  });
  await assertOneCopy(site);
});

test("the majority is lost: who is in sync goes on; a primary that dies meanwhile is replaced when it is back", {
  timeout: 240_000,
}, async () => {
  await underLoad(site, async (counters) => {
    const { primary, term, standbys } = await site.untilProtected({ standbys: 2 });
    for (const node of nodes.filter((other) => other !== primary)) await lab.storeOff(node);
    for (let round = 0; round < 10; round++) {
      await sleep(300);
      await answersCome(counters);
    }
    await lab.powerOff(primary!);
    // Longer than any patience: nobody takes a term that the store has not given.
    await sleep(1500);
    const healths = await Promise.all(standbys.map(({ node }) => health(lab, node)));
    for (const { instances } of healths)
      assert.deepEqual(
        instances.map(({ role, term }) => [role, term]),
        [["standby", term]],
      );
    for (const { node } of standbys) await lab.storeOn(node);
    await answersCome(counters);
    await site.untilProtected({ standbys: 1, term: term + 1 });
    await lab.powerOn(primary!);
    await site.untilProtected({ standbys: 2 });
  });
  await assertOneCopy(site);
});

test("all members are away: nobody runs in circles, and a standby that is lost is waited for", {
  timeout: 180_000,
}, async () => {
  const { primary, term } = await site.untilProtected({ standbys: 2 });
  for (const node of nodes) await lab.storeOff(node);
  const pids = [];
  for (const node of nodes) pids.push((await health(lab, node)).agent.pid, await instancePid(lab, node));
  await sleep(1000);
  const before = pids.map(processorSeconds);
  await sleep(5000);
  const used = pids.map((pid, i) => processorSeconds(pid) - before[i]!);
  assert.ok(Math.max(...used) < 1.5, `Processor seconds of agents and instances in 5 s: ${used}`);
  for (const node of nodes) await lab.storeOn(node);
  await eventually("a change of view is made again", async () => {
    const to = nodes.find((node) => node !== primary)!;
    return (await site.switchTo(to)).term > term;
  });
  await site.untilProtected({ standbys: 2 });
  await assertOneCopy(site);
});

test("an old primary that was cut off from everybody, the store among them, becomes a standby by difference", {
  timeout: 180_000,
}, async () => {
  const { primary, term } = await site.untilProtected({ standbys: 2 });
  const others = nodes.filter((node) => node !== primary);
  await underLoad(site, async (counters) => {
    await Promise.all(others.map((node) => lab.cut(primary!, node)));
    const heir = await eventually("another takes over", async () => {
      for (const node of others)
        for (const { role, term: its } of (await health(lab, node)).instances)
          if (role === "primary" && its > term) return node;
      return undefined;
    });
    await sleep(1000);
    const since = new Date().toISOString();
    await Promise.all(others.map((node) => lab.heal(primary!, node)));
    await answersCome(counters);
    const { details } = await eventually("it has everything", async () =>
      (await site.events()).find(
        ({ kind, at, details }) => kind === "synchronised" && at > since && details?.node === primary,
      ),
    );
    const { bytes, keptBytes } = details as { bytes: number; keptBytes: number };
    assert.ok(keptBytes > 0.1 * bytes, `${keptBytes} of ${bytes} bytes were there`);
    assert.equal((await site.untilProtected({ standbys: 2 })).primary, heir);
  });
  await assertOneCopy(site);
});
