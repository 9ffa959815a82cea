/** A standby whose disk is full: it may not become a standby, or lose its clone; the application and its clients do not notice. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ApplicationReport } from "../../../src/agent/api-types.ts";
import {
  answersCome,
  assertOneCopy,
  cli,
  eventually,
  instancePid,
  stageRedis,
  underLoad,
  untilNothingOfApplications,
} from "./support.ts";

const STATE = "/var/lib/understudy";

/** node-b's state stands on a small disk of its own; it must bear what is compiled of Understudy itself. */
const { lab, site } = stageRedis("dsk", { nodes: 2 }, () =>
  onB(`mount -t tmpfs -o size=32m,nr_inodes=2000 tmpfs ${STATE}`),
);

async function onB(script: string): Promise<void> {
  const { code, stderr } = await lab.exec("node-b", ["sh", "-c", script]);
  assert.equal(code, 0, stderr);
}

/** Not a byte more, and not a file. */
const fill = () =>
  onB(
    `mkdir -p ${STATE}/filler; cd ${STATE}/filler; cat /dev/zero >> zeros 2>/dev/null;
     i=0; while touch $i 2>/dev/null; do i=$((i + 1)); done; test -s zeros`,
  );
/** From now on whatever comes free is taken at once; the returned function ends that. */
async function keepFull(): Promise<() => Promise<void>> {
  const script = "while :; do cat /dev/zero >> zeros; i=0; while touch more$i; do i=$((i + 1)); done; sleep 0.01; done";
  const { stdout } = await lab.exec("node-b", [
    "sh",
    "-c",
    `cd ${STATE}/filler; setsid sh -c '${script}' > /dev/null 2>&1 < /dev/null & echo $!`,
  ]);
  return () => onB(`kill ${stdout.trim()}`);
}
const empty = () => onB(`rm -rf ${STATE}/filler`);

test("protect says what is full, and undoes all", { timeout: 120_000 }, async () => {
  await fill();
  const options = ["--json", "--name", "redis", "--address", "10.77.0.10/24", "--standby", "node-b"];
  const { code, stdout } = await cli(lab, "node-a", ["protect", ...options, "--", "sleep", "1000"]);
  assert.equal(code, 1, stdout);
  assert.equal(JSON.parse(stdout).error.code, "disk-full", stdout);
  await empty();
  await untilNothingOfApplications(lab);
});

test("full in the midst: nobody notices, and a new clone comes when there is room", { timeout: 180_000 }, async () => {
  await site.protect();
  await underLoad(site, async (counters) => {
    await fill();
    const { primary, term } = await site.report();
    await answersCome(counters);
    // Whatever the clone still wanted to write: it makes way for one that cannot be made now. What it had there comes free.
    const leaveRoom = await keepFull();
    process.kill(await instancePid(lab, "node-b"), "SIGKILL");
    await eventually("the failure is told", async () => {
      const { problems } = await site.report();
      return problems.some(({ node, failure }) => node === "node-b" && failure.code === "disk-full");
    });
    await answersCome(counters);
    await leaveRoom();
    await empty();
    const then = await site.untilProtected();
    assert.deepEqual([then.primary, then.term], [primary, term]);
  });
});

test("full for what the application writes: the clone is given up, and comes again with room", {
  timeout: 180_000,
}, async () => {
  const options = ["--json", "--name", "writer", "--address", "10.77.0.11/24", "--standby", "node-b"];
  const script = "mkdir -p /srv/w; while :; do head -c 100000 /dev/zero >> /srv/w/file; sleep 0.2; done";
  const { code, stdout } = await cli(lab, "node-a", ["protect", ...options, "--", "sh", "-c", script]);
  assert.equal(code, 0, stdout);
  const report = async () =>
    JSON.parse((await cli(lab, "node-a", ["status", "writer", "--json"])).stdout) as ApplicationReport;
  await fill();
  const without = await eventually("the clone is given up", async () => {
    const now = await report();
    return now.inSync.length === 0 ? now : undefined;
  });
  assert.deepEqual([without.primary, without.term], ["node-a", 1]);
  assert.equal((await cli(lab, "node-a", ["stop", "writer"])).code, 0);
  await empty();
});

test("a standby with a full disk takes over all the same", { timeout: 120_000 }, async () => {
  await site.untilProtected();
  await fill();
  await underLoad(site, async (counters) => {
    await lab.powerOff("node-a");
    await answersCome(counters);
    await eventually("node-b runs it", async () => (await site.report()).primary === "node-b");
    await empty();
    await lab.powerOn("node-a");
    await site.untilProtected();
  });
  await assertOneCopy(site);
  await site.stop();
  await onB(`umount -l ${STATE}`);
  await untilNothingOfApplications(lab);
});
