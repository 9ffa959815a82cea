/** A node is emptied for maintenance while clients work: nothing is lost, no connection breaks, and it is protected all the time. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { BalanceResult, DrainResult, Health, NodeReport } from "../../../src/agent/api-types.ts";
import { AgentClient } from "../../../src/agent/client.ts";
import { answersCome, assertOneCopy, cli, eventually, health, stageRedis, underLoad } from "../faults/support.ts";

const { lab, site } = stageRedis("drain", { nodes: 3 }, (site) => site.protect());

async function ask<T>(node: string, ...args: string[]): Promise<T> {
  const { code, stdout, stderr } = await cli(lab, node, [...args, "--json"]);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout) as T;
}

test("the primary's node is emptied: it is protected on the others before it moves", { timeout: 240_000 }, async () => {
  await underLoad(site, async (counters) => {
    await answersCome(counters);
    const { primary } = await site.untilProtected();
    const asked = primary === "node-c" ? "node-b" : "node-c";
    const { moved } = await ask<DrainResult>(asked, "drain", primary!);
    assert.deepEqual(
      moved.map(({ application, from }) => [application, from]),
      [["redis", primary]],
    );
    const report = await site.untilProtected();
    assert.notEqual(report.primary, primary);
    assert.ok(!report.inSync.includes(primary!));
    assert.equal((await health(lab, primary!)).instances.length, 0);
    const { nodes } = await ask<{ nodes: NodeReport[] }>(asked, "nodes");
    assert.deepEqual(
      nodes.filter(({ drained }) => drained).map(({ name }) => name),
      [primary],
    );
    await answersCome(counters);
    // It is off, as in maintenance, and nobody misses it.
    await lab.powerOff(primary!);
    await answersCome(counters);
    await lab.powerOn(primary!);
    await ask(asked, "undrain", primary!);
    await eventually("what was wished for is so again", async () => {
      const { inSync, wanted } = await site.report();
      return wanted.length > 0 && wanted.every((node) => inSync.includes(node)) && inSync.length === wanted.length;
    });
    await answersCome(counters);
  });
  await assertOneCopy(site);
});

test("a standby's node is emptied: another holds the clone before it is given up", { timeout: 180_000 }, async () => {
  await underLoad(site, async (counters) => {
    const { primary, inSync, term } = await site.untilProtected();
    const standby = inSync[0]!;
    const { moved } = await ask<DrainResult>(primary!, "drain", standby);
    const report = await site.untilProtected();
    // A switch that a starved machine made by itself is none of drain's.
    if (report.term === term) assert.deepEqual(moved, []);
    assert.ok(!report.inSync.includes(standby) && report.primary !== standby);
    await ask(primary!, "undrain", standby);
    await answersCome(counters);
  });
});

test("applications are measured, and a cluster that is even is left alone", { timeout: 120_000 }, async () => {
  const { primary } = await site.untilProtected();
  await eventually("the primary's node says how much Redis uses", async () => {
    const agent = AgentClient.unix(lab.agentSocket(primary!));
    const { load } = await agent.json<Health>("GET", "/v1/health");
    return load !== undefined && load.capacity.cpu >= 1 && (load.applications.redis?.memory ?? 0) > 1e6;
  });
  const { plan, done } = await ask<BalanceResult>(primary!, "balance", "--dry-run");
  assert.deepEqual([Array.isArray(plan), done], [true, []]);
});

test("what is not drained cannot be undrained, and an unknown node is refused", { timeout: 60_000 }, async () => {
  const wrong = async (...args: string[]) =>
    JSON.parse((await cli(lab, "node-a", [...args, "--json"])).stdout).error.code;
  assert.equal(await wrong("undrain", "node-a"), "node-not-drained");
  assert.equal(await wrong("drain", "node-x"), "node-unknown");
});
