/** A clone that takes longer to come to life than anybody without a sign of life is waited for, but gets on. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { detectorDefaults } from "../../../src/cluster/detector.ts";
import { MANY_PORT, manyCommand } from "../../../workload/many.ts";
import { Clients } from "../../apps/clients.ts";
import { HOST, stage } from "../../apps/support.ts";
import { instancePid } from "./support.ts";

const NAME = "rising";
/** Their restore is work for some hundred milliseconds, in steps of a few. */
const DESCRIPTORS = 12_000;
/** Of each turn the process has this much; then it stands still for a time that is far from a failure. */
const RUNS_MS = 10;
const STANDS_MS = 300;

/** The process gets on slowly until `isOver`; then it goes on as ever. */
async function slow(pid: number, isOver: () => boolean): Promise<void> {
  while (!isOver()) {
    process.kill(pid, "SIGSTOP");
    await sleep(STANDS_MS);
    process.kill(pid, "SIGCONT");
    await sleep(RUNS_MS);
  }
}

test("it is waited for, and the planned switch comes about", { timeout: 240_000 }, async () => {
  await using application = await stage(NAME, { command: manyCommand({ descriptors: DESCRIPTORS }) });
  const { lab } = application;
  const clients = await Clients.start(lab, "many", { host: HOST, port: MANY_PORT }, 2);
  try {
    await clients.goOn();
    const { primary, term } = await application.untilProtected();
    const to = primary === "node-a" ? "node-b" : "node-a";
    const pid = await instancePid(lab, to, NAME);
    let isOver = false;
    const slowed = slow(pid, () => isOver);
    const switched = application.switchTo(to).finally(() => {
      isOver = true;
    });
    const [done] = await Promise.all([switched, slowed]);
    assert.deepEqual([done.to, done.term], [to, term + 1]);
    const events = await application.events();
    const lived = events.find(({ kind }) => kind === "went-live");
    const ms = (lived?.details as { ms?: number } | undefined)?.ms ?? 0;
    assert.ok(ms > detectorDefaults.startMs, `It took ${ms} ms: no test of patience`);
    await clients.goOn();
    assert.deepEqual((await clients.stop()).findings, []);
  } finally {
    clients.kill();
  }
});
