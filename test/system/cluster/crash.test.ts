/** The application itself crashes: it goes on from before that, with nothing lost; then from less and less; not for ever. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { after, afterEach, before, type TestContext, test } from "node:test";
import { Lab } from "../../../src/lab/lab.ts";
import { ProtectedApplication } from "../../../workload/application.ts";
import { RedisSite, SERVICE } from "../../../workload/site.ts";
import {
  answersCome,
  assertOneCopy,
  downAndGone,
  eventually,
  freeze,
  health,
  tellEvents,
  underLoad,
} from "../faults/support.ts";

const lab = new Lab({ name: `crash${process.pid}` });
// Without a handler of its own for SIGSEGV: its report would be part of the next checkpoints.
const options = ["--save", "", "--crash-log-enabled", "no"];
const site = new RedisSite(lab, options, {
  restart: { on: "failure", steps: ["newest", "older", "cold"], within: 3600 },
  keep: 20,
});

before(
  async () => {
    await lab.up({ nodes: 2 });
    await site.protect();
    await site.fill(5);
  },
  { timeout: 120_000 },
);
afterEach((context) => tellEvents(site, context as TestContext));
after(() => downAndGone(lab), { timeout: 60_000 });

/** The application's first process, as its node sees it; the lab's nodes share the machine's process ids. */
async function firstProcess(): Promise<number> {
  const init = (await site.untilProtected()).instance!.initPid;
  assert.ok(init > 0);
  return Number(readFileSync(`/proc/${init}/task/${init}/children`, "utf8").trim().split(" ")[0]);
}

const crash = async (signal: NodeJS.Signals) => process.kill(await firstProcess(), signal);
const eventsOf = async (kind: string) => (await site.events()).filter((event) => event.kind === kind);
const steps = async () => (await eventsOf("restarting")).flatMap(({ details }) => details?.step ?? []);
const redis = async (...args: string[]) => (await lab.client(["redis-cli", "-h", SERVICE.host, ...args])).stdout.trim();

test("SIGSEGV under load: a standby goes on from the newest checkpoint", { timeout: 120_000 }, async () => {
  const { primary, term } = await site.untilProtected();
  await underLoad(site, async (counters) => {
    await answersCome(counters);
    await crash("SIGSEGV");
    await answersCome(counters);
  });
  const then = await site.untilProtected({ term: term + 1 });
  assert.deepEqual([then.primary !== primary, then.term], [true, term + 1]);
  assert.deepEqual(await steps(), ["newest"]);
  await assertOneCopy(site);
});

test("SIGKILL, the second crash: it goes on from an older checkpoint, and says so", { timeout: 120_000 }, async () => {
  const { primary, term } = await site.untilProtected();
  const size = await redis("dbsize");
  // More checkpoints than one, that differ.
  for (let i = 0; i < 10; i++) assert.equal(await redis("set", `later-${i}`, "x"), "OK");
  await crash("SIGKILL");
  const then = await site.untilProtected({ term: term + 1 });
  assert.deepEqual([then.primary !== primary, then.term], [true, term + 1]);
  assert.deepEqual(await steps(), ["newest", "older"]);
  const told = (await eventsOf("restarting")).filter(({ node, details }) => node === then.primary && details?.epoch);
  assert.equal(told.at(-1)?.details?.older, true);
  assert.match(told.at(-1)!.message, /clients may have seen more/);
  // The last of what it had said is not there; what was there long before is.
  assert.equal(await redis("exists", "later-9"), "0");
  assert.ok(Number(await redis("dbsize")) >= Number(size));
  await underLoad(site, (counters) => answersCome(counters));
});

test("the third crash: it is started anew where it is, with its files", { timeout: 120_000 }, async () => {
  const { primary, term } = await site.untilProtected();
  assert.equal(await redis("save"), "OK");
  assert.equal(await redis("set", "not-saved", "x"), "OK");
  const before = await firstProcess();
  await crash("SIGABRT");
  const then = await site.untilProtected({ term: term + 1 });
  assert.deepEqual([then.primary, then.term], [primary, term + 1]);
  assert.deepEqual(await steps(), ["newest", "older", "cold"]);
  assert.notEqual(await firstProcess(), before);
  assert.equal(await redis("exists", "not-saved"), "0");
  assert.ok(Number(await redis("dbsize")) > 0, "What it had saved is there");
  await assertOneCopy(site);
  await underLoad(site, (counters) => answersCome(counters));
});

test("the fourth: it has ended, and says why", { timeout: 120_000 }, async () => {
  await crash("SIGSEGV");
  await eventually("it has ended", async () => (await site.report()).state === "ended");
  assert.match((await site.report()).ended!.reason, /signal 11; not restarted: it was restarted 3 times within 3600 s/);
  assert.equal((await eventsOf("not-restarted")).length, 1);
  assert.deepEqual(await site.copiesRunning(), []);
});

test("what ends while neither agent nor instance watch it has ended", { timeout: 120_000 }, async () => {
  const program = { name: "unwatched", command: ["sleep", "infinity"], address: "10.77.0.70/24" };
  const one = new ProtectedApplication(lab, program);
  await one.protect({ standby: [] });
  const { initPid, instancePid } = (await one.report()).instance!;
  const { agent } = await health(lab, "node-a");
  {
    using _frozen = freeze(agent.pid);
    process.kill(instancePid, "SIGKILL");
    const [sleeper] = readFileSync(`/proc/${initPid}/task/${initPid}/children`, "utf8").trim().split(" ").map(Number);
    process.kill(sleeper!, "SIGKILL");
    await eventually("it is gone", () => !existsSync(`/proc/${sleeper}/exe`));
  }
  await eventually("it has ended", async () => (await one.report()).state === "ended");
  assert.match((await one.report()).ended!.reason, /ended while no instance watched it/);
});
