/** The first copy to a standby: held to its rate, taken up where a broken link left it, next to nothing for one that has it all. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, type TestContext, test } from "node:test";
import { Lab } from "../../../src/lab/lab.ts";
import { ProtectedApplication } from "../../../workload/application.ts";
import { cli, downAndGone, eventually, tellEvents } from "../faults/support.ts";

const lab = new Lab({ name: `cpy${process.pid}` });
const scratch = mkdtempSync(join(tmpdir(), "understudy-copy-"));
const LARGE = 60_000_000;
const SMALL = 300;
const RATE = 12_000_000;
/** Writes on all the time, so that the log has something to tell. */
const PROGRAM = `
mkdir -p /data/small; cd /data
head -c ${LARGE} /dev/urandom >large
for i in $(seq ${SMALL}); do echo "small file $i" >small/$i; done
touch ready
i=0; while :; do i=$((i + 1)); echo $i >>log; printf $i | dd of=large conv=notrunc bs=1 seek=$((i * 4096)) status=none; sleep 0.05; done`;

const site = new ProtectedApplication(lab, {
  name: "writer",
  command: ["/bin/bash", "-c", PROGRAM],
  address: "10.77.0.30/24",
});

before(() => lab.up({ nodes: 2 }), { timeout: 60_000 });
afterEach((context) => tellEvents(site, context as TestContext));
after(
  async () => {
    rmSync(scratch, { recursive: true, force: true });
    await downAndGone(lab);
  },
  { timeout: 60_000 },
);

async function run(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await cli(lab, "node-a", args);
  assert.equal(code, 0, stderr);
  return stdout;
}

const report = () => site.report();

interface Copied {
  seconds: number;
  bytes: number;
  sentBytes: number;
  keptBytes: number;
}

/** What the events say of the first copies that were finished. */
async function copied(): Promise<Copied[]> {
  return (await site.events())
    .filter(({ kind }) => kind === "synchronised")
    .map(({ details }) => details as unknown as Copied);
}

test("a first copy goes at its rate, goes on after a broken link, and an old primary needs next to nothing", {
  timeout: 280_000,
}, async () => {
  const { name, address, command } = site.program;
  const protect = ["protect", "--name", name, "--address", address, "--sync-limit", `${RATE / 1e6}M`];
  await run(...protect, "--", ...command);
  await eventually("the program has made its files", async () =>
    (await run("files", "writer", "ls", "/data")).includes("ready"),
  );
  const file = join(scratch, "writer.yaml");
  const whole = { ...site.program, environment: {}, home: "node-a", standby: ["node-b"], syncLimit: RATE };
  writeFileSync(file, JSON.stringify(whole));
  await run("apply", "-f", file, "--no-wait");

  const copying = await eventually("half of it is copied", async () => {
    const copy = (await report()).standbys[0]?.synchronisation;
    return copy && copy.totalBytes > LARGE && copy.remainingBytes < 0.5 * copy.totalBytes ? copy : undefined;
  });
  assert.ok(copying.bytesPerSecond <= 1.3 * RATE, `${copying.bytesPerSecond} bytes per second`);
  assert.ok(copying.secondsLeft! >= 1);
  await lab.cut("node-a", "node-b");
  await eventually("the standby is lost", async () => !(await report()).standbys[0]?.synchronisation);
  assert.deepEqual(await copied(), []);
  // Why there is no clone stands in the status until there is one.
  const problem = await eventually("the loss is told", async () => (await report()).problems[0]);
  assert.equal(problem.node, "node-b");
  assert.notEqual(problem.failure.code, "internal");
  await lab.heal("node-a", "node-b");
  assert.deepEqual((await site.untilProtected({ timeoutMs: 120_000 })).problems, []);
  const [resumed] = await copied();
  assert.ok(resumed!.keptBytes > 0.3 * LARGE, `kept ${resumed!.keptBytes}`);
  assert.ok(resumed!.sentBytes < 0.8 * LARGE, `sent ${resumed!.sentBytes}`);

  await run("switch", "writer");
  await site.untilProtected({ term: 2, timeoutMs: 120_000 });
  const returned = (await copied()).at(-1)!;
  assert.ok(returned.keptBytes > 0.9 * LARGE, `kept ${returned.keptBytes}`);
  assert.ok(returned.sentBytes < 0.15 * LARGE, `sent ${returned.sentBytes}`);
  await run("stop", "writer");
});
