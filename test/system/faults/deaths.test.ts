/** Processes that are killed or frozen: the clients go on, nothing they were told is missing, nobody is left twice. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { APPLICATION } from "../../../workload/site.ts";
import {
  answersCome,
  assertOneCopy,
  eventually,
  freeze,
  health,
  instancePid,
  stageRedis,
  underLoad,
  untilNothingOfApplications,
} from "./support.ts";

const { lab, site } = stageRedis("die", { nodes: 2 }, async (site) => {
  await site.protect();
  await site.fill(5);
});

/** Who plays which role now, once protected. */
async function roles() {
  const { primary, term } = await site.untilProtected();
  return { primary: primary!, standby: primary === "node-a" ? "node-b" : "node-a", term };
}

test("kill -9 of the capture process: the standby takes over, or another attaches", { timeout: 120_000 }, async () => {
  await underLoad(site, async (counters) => {
    const { primary } = await roles();
    const pid = await instancePid(lab, primary);
    process.kill(pid, "SIGKILL");
    await answersCome(counters);
    await site.untilProtected();
    await assertOneCopy(site);
  });
});

test("kill -9 of the clone process: the primary goes on, and gets another clone", { timeout: 120_000 }, async () => {
  await underLoad(site, async (counters) => {
    const { primary, standby, term } = await roles();
    const pid = await instancePid(lab, standby);
    process.kill(pid, "SIGKILL");
    await answersCome(counters);
    await eventually("there is another clone", async () => (await instancePid(lab, standby)) !== pid);
    const then = await site.untilProtected();
    assert.deepEqual([then.primary, then.term], [primary, term]);
  });
});

test("kill -9 of both processes at once", { timeout: 120_000 }, async () => {
  await underLoad(site, async (counters) => {
    const { primary, standby } = await roles();
    const pids = [await instancePid(lab, primary), await instancePid(lab, standby)];
    for (const pid of pids) process.kill(pid, "SIGKILL");
    await answersCome(counters);
    const then = await site.untilProtected();
    assert.equal(then.primary, primary, "Only the node where it still ran could go on");
    await assertOneCopy(site);
  });
});

test("kill -9 of both agents: they take up the instances again, nobody notices", { timeout: 120_000 }, async () => {
  await underLoad(site, async (counters) => {
    const { primary, standby, term } = await roles();
    const instances = [await instancePid(lab, primary), await instancePid(lab, standby)];
    const agents = await Promise.all([primary, standby].map(async (node) => (await health(lab, node)).agent.pid));
    for (const pid of agents) process.kill(pid, "SIGKILL");
    for (const [i, node] of [primary, standby].entries())
      await eventually(`the agent of "${node}" is back`, async () => (await health(lab, node)).agent.pid !== agents[i]);
    await answersCome(counters);
    const then = await site.untilProtected();
    assert.deepEqual([then.primary, then.term], [primary, term]);
    assert.deepEqual([await instancePid(lab, primary), await instancePid(lab, standby)], instances);
  });
});

test("a frozen capture process: the standby takes over; thawed, it ends its copy", { timeout: 120_000 }, async () => {
  await underLoad(site, async (counters) => {
    const { primary, standby } = await roles();
    using _frozen = freeze(await instancePid(lab, primary));
    await eventually("the standby has taken over", async () => (await site.report()).primary === standby);
    await answersCome(counters);
  });
  await site.untilProtected();
  await assertOneCopy(site);
});

test("output commit: with the clone frozen no answer comes until it is dropped or goes on", {
  timeout: 180_000,
}, async () => {
  await underLoad(site, async (counters) => {
    const { standby, primary } = await roles();
    for (let round = 0; round < 3; round++) {
      await site.untilProtected();
      const inSync = async () => (await site.report()).inSync.includes(standby);
      const clone = await instancePid(lab, standby);
      const frozen = freeze(clone);
      // What was acknowledged before may still be on its way.
      await sleep(30);
      await counters.mark("frozen");
      const stillWaited = async () => {
        const during = await counters.mark("still frozen");
        return { answers: during.answers, inSync: await inSync() };
      };
      // An answer while the record, read afterwards, still counts on the frozen clone would be one that is not safe.
      const early: number[] = [];
      const until = performance.now() + 150;
      while (performance.now() < until) {
        const { answers, inSync: waited } = await stillWaited();
        if (waited) early.push(answers);
        else break;
      }
      assert.deepEqual(
        early.filter((answers) => answers > 0),
        [],
        "An answer has left before the clone held its state",
      );
      // Frozen for longer, it is dropped, and the primary goes on alone.
      await eventually("the frozen clone is dropped", async () => !(await inSync()));
      await answersCome(counters);
      frozen[Symbol.dispose]();
      const then = await site.untilProtected();
      assert.equal(then.primary, primary);
    }
  });
});

test("frozen again and again for a moment, both of them", { timeout: 120_000 }, async () => {
  await underLoad(site, async (counters) => {
    for (let round = 0; round < 12; round++) {
      const { nodes } = await lab.status();
      const node = nodes[round % 2]!.name;
      const pid = await instancePid(lab, node).catch(() => 0);
      if (pid === 0) continue;
      const frozen = freeze(pid);
      await sleep(40 + 30 * (round % 5));
      frozen[Symbol.dispose]();
      await sleep(100);
    }
    await answersCome(counters);
    await site.untilProtected();
  });
  await assertOneCopy(site);
});

test("the application itself is killed: that is its end, everywhere", { timeout: 60_000 }, async () => {
  const { primary, term } = await roles();
  const { instance } = await site.report();
  const initPid = instance!.initPid;
  process.kill(initPid, "SIGKILL");
  const ended = await eventually("it has ended", async () => {
    const report = await site.report();
    return report.state === "ended" ? report : undefined;
  });
  assert.deepEqual([ended.primary, ended.term], [primary, term]);
  assert.match(ended.ended!.reason, /ended/);
  // Its files stay, for whoever wants them, until it is removed.
  await untilNothingOfApplications(lab, { node: primary, application: APPLICATION });
  await site.stop();
  await untilNothingOfApplications(lab);
});
