/** Nodes that lose their power at the worst moments. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentClient } from "../../../src/agent/client.ts";
import { OperatingError } from "../../../src/kernel/failure.ts";
import { startWorkload } from "../../../workload/driver.ts";
import { APPLICATION } from "../../../workload/site.ts";
import {
  answersCome,
  assertNothingLost,
  assertOneCopy,
  COUNTERS,
  cli,
  eventually,
  stageRedis,
  startCli,
  underLoad,
  untilNothingOfApplications,
} from "./support.ts";

const { lab, site } = stageRedis("pow", { nodes: 3 });

test("the primary loses power the moment it is protected, and comes back as a standby", {
  timeout: 120_000,
}, async () => {
  await site.protect();
  await lab.powerOff("node-a");
  await eventually("node-b has taken over", async () => (await site.report()).primary === "node-b");
  const counters = await startWorkload("counters", site.spawn, COUNTERS);
  await answersCome(counters);
  await lab.powerOn("node-a");
  const then = await site.untilProtected({ term: 2 });
  assert.equal(then.primary, "node-b");
  await assertOneCopy(site);
  assertNothingLost(await counters.stop());
});

test("five times there and back, with a checkpoint asked for before each switch", { timeout: 180_000 }, async () => {
  await underLoad(site, async () => {
    for (let round = 0; round < 10; round++) {
      const { primary, standbys } = await site.untilProtected();
      const before = JSON.parse((await cli(lab, "node-c", ["checkpoint", APPLICATION, "--json"])).stdout);
      assert.ok(before.epoch > 0);
      const to = standbys.find(({ state }) => state === "in-sync")!.node;
      const result = await site.switchTo(to);
      assert.deepEqual([result.from, result.to], [primary, to]);
    }
    await site.untilProtected();
  });
  await assertOneCopy(site);
});

test("the switch's destination loses power in its midst: the application stays where it was", {
  timeout: 180_000,
}, async () => {
  let taken = 0;
  for (const delayMs of [0, 10, 25]) {
    const { from, to } = await ends();
    const counters = await startWorkload("counters", site.spawn, COUNTERS);
    const asked = switchBy(from, to);
    await sleep(delayMs);
    await lab.powerOff(to);
    if ((await asked) === "done") {
      // Too late: it had moved already, and no other node had a clone yet.
      await counters.kill();
      await lab.powerOn(to);
      await site.stop();
      await site.protect();
      continue;
    }
    taken++;
    await answersCome(counters);
    assert.equal((await site.report()).primary, from);
    await lab.powerOn(to);
    await site.untilProtected();
    assertNothingLost(await counters.stop());
  }
  assert.ok(taken > 0, "No power-off came in time");
  await assertOneCopy(site);
});

test("the switch's source loses power in its midst", { timeout: 180_000 }, async () => {
  for (const delayMs of [0, 30, 80]) {
    await underLoad(site, async (counters) => {
      const { from, to } = await ends();
      const asked = switchBy(to, to);
      await sleep(delayMs);
      await lab.powerOff(from);
      await answersCome(counters);
      await asked;
      await eventually(`"${to}" runs it`, async () => (await site.report()).primary === to);
      await lab.powerOn(from);
      await site.untilProtected();
    });
  }
  await assertOneCopy(site);
});

async function ends(): Promise<{ from: string; to: string }> {
  const { primary, standbys } = await site.untilProtected();
  return { from: primary!, to: standbys.find(({ state }) => state === "in-sync")!.node };
}

/** Asks one agent for a switch; how that ended, never a failure. */
async function switchBy(node: string, to: string): Promise<"done" | OperatingError> {
  try {
    await AgentClient.unix(lab.agentSocket(node)).json("POST", `/v1/applications/${APPLICATION}/switch`, {
      body: { to },
      timeoutMs: 30_000,
    });
    return "done";
  } catch (error) {
    assert.ok(error instanceof OperatingError, String(error));
    return error;
  }
}

test("all lose power: nothing pretends to run, and the name is free again after stop", {
  timeout: 120_000,
}, async () => {
  await Promise.all(["node-a", "node-b", "node-c"].map((node) => lab.powerOff(node)));
  for (const node of ["node-a", "node-b", "node-c"]) await lab.powerOn(node);
  const report = await site.report();
  assert.equal(report.state, "lost");
  assert.deepEqual(await site.copiesRunning(), []);
  await site.stop();
  await untilNothingOfApplications(lab);
});

test("the standby loses power during the first synchronisation: all is undone", { timeout: 120_000 }, async () => {
  const { child, ended } = startCli(lab, "node-a", protectArguments("node-b"));
  await eventually("the clone is being made", () =>
    lab.exec("node-b", ["test", "-e", "/run/understudy/redis.sock"]).then(({ code }) => code === 0),
  );
  await lab.powerOff("node-b");
  const { code, stdout } = await ended;
  assert.equal(child.exitCode, code);
  assert.equal(code, 1, stdout);
  assert.match(JSON.parse(stdout).error.code, /^(node-unreachable|standby-lost|clone-unreachable)$/);
  await untilNothingOfApplications(lab);
  await lab.powerOn("node-b");
  await untilNothingOfApplications(lab);
});

test("the primary loses power during the first synchronisation: its agent undoes it when it is back", {
  timeout: 120_000,
}, async () => {
  const { ended } = startCli(lab, "node-a", protectArguments("node-b"));
  await eventually("the clone is being made", () =>
    lab.exec("node-b", ["test", "-e", "/run/understudy/redis.sock"]).then(({ code }) => code === 0),
  );
  await lab.powerOff("node-a");
  assert.notEqual((await ended).code, 0);
  await lab.powerOn("node-a");
  await untilNothingOfApplications(lab);
  const { stdout } = await cli(lab, "node-a", ["ps"]);
  assert.equal(stdout, "No applications.\n");
});

function protectArguments(standby: string): string[] {
  const options = ["--json", "--name", APPLICATION, "--address", "10.77.0.10/24", "--standby", standby];
  return ["protect", ...options, "--", "redis-server", "--save", "", "--appendonly", "no", "--bind", "0.0.0.0"];
}
