/** `understudy apply` on a running Redis: what changes while it runs changes under load, with nothing lost and no new start. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, type TestContext, test } from "node:test";
import { stringify } from "yaml";
import type { ApplyPlan, ApplyResult } from "../../../src/agent/api-types.ts";
import { Lab } from "../../../src/lab/lab.ts";
import { RedisSite } from "../../../workload/site.ts";
import { answersCome, cli, downAndGone, eventually, tellEvents, underLoad } from "../faults/support.ts";

const lab = new Lab({ name: `apply${process.pid}` });
const site = new RedisSite(lab);
const directory = mkdtempSync(join(tmpdir(), "understudy-apply-"));
const file = join(directory, "app.yaml");
const redis = {
  name: "redis",
  command: ["redis-server", "--port", "6379", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""],
  address: "10.77.0.10/24",
  standby: ["node-b"],
};

before(() => lab.up({ nodes: 3 }), { timeout: 60_000 });
afterEach((context) => tellEvents(site, context as TestContext));
after(
  async () => {
    rmSync(directory, { recursive: true, force: true });
    await downAndGone(lab);
  },
  { timeout: 60_000 },
);

async function ask<T>(node: string, ...args: string[]): Promise<T> {
  const { code, stdout, stderr } = await cli(lab, node, [...args, "-f", file, "--json"]);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout).applications[0] as T;
}

async function apply(node: string, changes: object): Promise<ApplyResult> {
  writeFileSync(file, stringify({ ...redis, ...changes }));
  return ask(node, "apply");
}

test("starts from the file, and finds no difference then", { timeout: 120_000 }, async () => {
  const { plan, report } = await apply("node-a", {});
  assert.equal(plan.action, "create");
  assert.deepEqual([report.primary, report.inSync], ["node-a", ["node-b"]]);
  assert.equal((await ask<ApplyPlan>("node-c", "diff")).action, "none");
});

/** Of this start of the program: the same on every node that goes on with it. */
async function runId(): Promise<string> {
  const { stdout } = await lab.client(["redis-cli", "-h", "10.77.0.10", "info", "server"]);
  return /run_id:(\w+)/.exec(stdout)?.[1] ?? assert.fail(stdout);
}

test("standbys, period and kept checkpoints change under load", { timeout: 240_000 }, async () => {
  const started = await runId();
  await underLoad(site, async (counters) => {
    await answersCome(counters);
    await apply("node-b", { period: 1000, keep: 9 });
    await eventually("checkpoints are as seldom as told", async () => {
      const before = (await site.report()).instance!.figures.checkpoints;
      await answersCome(counters);
      return (await site.report()).instance!.figures.checkpoints - before < 5;
    });
    const { report } = await apply("node-c", { standby: ["node-c"], keep: 2 });
    assert.ok([report.primary, ...report.inSync].includes("node-c"));
    await answersCome(counters);
    await apply("node-a", { standby: ["node-b", "node-c"] });
    const { standbys, primary } = await site.untilProtected({ standbys: 2 });
    const to = standbys.find(({ state }) => state === "in-sync")!.node;
    assert.equal((await site.switchTo(to)).from, primary);
    await site.untilProtected({ standbys: 2 });
  });
  assert.equal(await runId(), started);
  const { period, keep } = await site.report();
  assert.deepEqual([period, keep], ["auto", 3]);
});

test("the commit policy changes: output waits for checkpoints, or does not", { timeout: 180_000 }, async () => {
  const pings = 40;
  const checkpointsDuringPings = async (): Promise<number> => {
    const before = await site.untilProtected({ standbys: 2 });
    for (let ping = 0; ping < pings; ping++) {
      const { stdout } = await lab.client(["redis-cli", "-h", "10.77.0.10", "ping"]);
      assert.match(stdout, /PONG/);
    }
    const then = await site.report();
    // A switch that a starved machine made meanwhile began to count anew.
    if (then.term !== before.term) return checkpointsDuringPings();
    return then.instance!.figures.checkpoints - before.instance!.figures.checkpoints;
  };
  const standby = ["node-b", "node-c"];
  await apply("node-a", { standby, commit: "none", period: 60_000 });
  // A machine on which forty pings take ten minutes is none that tests run on.
  assert.ok((await checkpointsDuringPings()) < 10);
  await apply("node-a", { standby });
  assert.ok((await checkpointsDuringPings()) >= pings);
});

test("what takes another start is refused by name, and done when told", { timeout: 120_000 }, async () => {
  writeFileSync(file, stringify({ ...redis, address: "10.77.0.11/24" }));
  const refused = await cli(lab, "node-a", ["apply", "-f", file]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /"redis" must start anew for another value of "address"/);
  const { stdout } = await cli(lab, "node-a", ["diff", "-f", file]);
  assert.match(stdout, /address: 10\.77\.0\.10\/24 → 10\.77\.0\.11\/24 .*--recreate/);
  const { report } = await ask<ApplyResult>("node-a", "apply", "--recreate");
  assert.deepEqual([report.address, report.term, report.primary], ["10.77.0.11/24", 1, "node-a"]);
  const ping = await lab.client(["redis-cli", "-h", "10.77.0.11", "ping"]);
  assert.match(ping.stdout, /PONG/);
});
