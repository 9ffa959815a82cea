/** SIGINT of the command line at any moment: done or undone, never half. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { APPLICATION } from "../../../workload/site.ts";
import {
  answersCome,
  assertOneCopy,
  cli,
  eventually,
  stageRedis,
  startCli,
  underLoad,
  untilNothingOfApplications,
} from "./support.ts";

const { lab, site } = stageRedis("int", { nodes: 2 });

const redis = ["redis-server", "--save", "", "--appendonly", "no", "--bind", "0.0.0.0", "--protected-mode", "no"];
const options = ["--name", APPLICATION, "--address", "10.77.0.10/24", "--standby", "node-b"];
const protect = () => startCli(lab, "node-a", ["protect", ...options, "--", ...redis]);

/** Moments of a protection, by what is there on the nodes by then. */
const moments: [string, () => Promise<boolean>][] = [
  ["before anything is there", async () => true],
  ["as the name is claimed", () => exists("node-a", "/var/lib/understudy/applications/redis.protecting.json")],
  ["as the application starts", () => exists("node-a", "/run/understudy/redis.pid.json")],
  ["as the clone is being made", () => exists("node-b", "/run/understudy/redis.instance.json")],
  ["as the clone listens", () => exists("node-b", "/run/understudy/redis.sock")],
];

async function exists(node: string, path: string): Promise<boolean> {
  return (await lab.exec(node, ["test", "-e", path])).code === 0;
}

for (const [name, reached] of moments) {
  test(`protect interrupted ${name}`, { timeout: 120_000 }, async () => {
    const { child, ended } = protect();
    await eventually(name, async () => child.exitCode !== null || (await reached()));
    child.kill("SIGINT");
    const { code, stderr } = await ended;
    if (code === 0) {
      // It was quicker than the interrupt.
      await site.stop();
    } else if (code !== null) {
      assert.equal(code, 1, stderr);
      assert.match(stderr, /Interrupted: "redis" is not protected, all is undone/);
    }
    const nothing = async () => (await cli(lab, "node-b", ["ps"])).stdout === "No applications.\n";
    await eventually("it is unknown again", nothing);
    await untilNothingOfApplications(lab);
  });
}

test("switch interrupted: it happens wholly or not at all", { timeout: 180_000 }, async () => {
  await site.protect();
  await underLoad(site, async (counters) => {
    // From before the request is sent until after it is done.
    for (const delayMs of [150, 250, 300, 350, 400, 500]) {
      const { primary, standbys, term } = await site.untilProtected();
      const to = standbys.find(({ state }) => state === "in-sync")!.node;
      const { child, ended } = startCli(lab, primary!, ["switch", APPLICATION, "--to", to]);
      await sleep(delayMs);
      child.kill("SIGINT");
      await ended;
      await answersCome(counters);
      const then = await site.untilProtected();
      const moved = then.primary === to;
      assert.equal(then.term, moved ? term + 1 : term);
      await assertOneCopy(site);
    }
  });
});

test("stop interrupted: the application ends all the same, or goes on", { timeout: 120_000 }, async () => {
  await site.untilProtected();
  const { child, ended } = startCli(lab, "node-a", ["stop", APPLICATION]);
  await sleep(350);
  child.kill("SIGINT");
  await ended;
  const known = async () => (await cli(lab, "node-a", ["ps"])).stdout !== "No applications.\n";
  if (await known()) await cli(lab, "node-a", ["stop", APPLICATION]);
  await eventually("it is unknown", async () => !(await known()));
  await untilNothingOfApplications(lab);
});
