/** A clone that takes longer to come to life than anybody without a sign of life is waited for, but gets on. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Place } from "../../../src/checkpoint/phases.ts";
import { detectorDefaults } from "../../../src/cluster/detector.ts";
import { ControlClient } from "../../../src/instance/client.ts";
import type { Lab } from "../../../src/lab/lab.ts";
import { labPlaces } from "../../../src/lab/layout.ts";
import type { ProtectedApplication } from "../../../workload/application.ts";
import { MANY_PORT, manyCommand } from "../../../workload/many.ts";
import { Clients } from "../../apps/clients.ts";
import { HOST, stage } from "../../apps/support.ts";
import { isStopped } from "../../faults/actions.ts";
import { eventually, instancePid } from "./support.ts";

const NAME = "rising";
/** Their restore is work for some hundred milliseconds, in steps of a few. */
const DESCRIPTORS = 12_000;
/** Again and again it stands still for a time that is far from a failure, together longer than anybody is waited for. */
const STANDS_MS = 300;
const TURNS = Math.ceil(detectorDefaults.startMs / STANDS_MS) + 1;
/** Processor time of its own between two of them, however busy the machine is. */
const RUNS_NS = 30_000_000;

/** What the process's main thread has run: proc_pid_schedstat(5), nanoseconds. */
const ranNs = (pid: number) => Number(readFileSync(`/proc/${pid}/schedstat`, "latin1").split(" ")[0]);

/** The process has stopped itself; it gets on slowly, then as ever. */
async function slow(pid: number): Promise<void> {
  for (let turn = 0; turn < TURNS; turn++) {
    await sleep(STANDS_MS);
    const before = ranNs(pid);
    process.kill(pid, "SIGCONT");
    while (ranNs(pid) < before + RUNS_NS) await sleep(1);
    process.kill(pid, "SIGSTOP");
  }
  process.kill(pid, "SIGCONT");
}

/** The instance there stops itself when it comes to that place. */
async function haltAt(lab: Lab, node: string, place: Place): Promise<void> {
  const control = await ControlClient.connect(`${labPlaces(lab.name).runDirectory}/${node}/${NAME}.sock`);
  try {
    await control.call("halt", { place });
  } finally {
    control.close();
  }
}

/** Milliseconds that the clone took to come to life. */
async function switchSlowly(application: ProtectedApplication): Promise<number> {
  const { lab } = application;
  const { primary, term } = await application.untilProtected();
  const to = primary === "node-a" ? "node-b" : "node-a";
  const pid = await instancePid(lab, to, NAME);
  await haltAt(lab, to, "preRestore");
  const switched = application.switchTo(to);
  await eventually("the clone is about to come to life", () => isStopped(pid) || undefined);
  const [done] = await Promise.all([switched, slow(pid)]);
  assert.deepEqual([done.to, done.term], [to, term + 1]);
  const lived = (await application.events()).findLast(({ kind }) => kind === "went-live");
  return (lived?.details as { ms?: number } | undefined)?.ms ?? 0;
}

test("it is waited for, and the planned switch comes about", { timeout: 240_000 }, async () => {
  await using application = await stage(NAME, { command: manyCommand({ descriptors: DESCRIPTORS }) });
  const { lab } = application;
  const clients = await Clients.start(lab, "many", { host: HOST, port: MANY_PORT }, 2);
  try {
    await clients.goOn();
    // On a busy machine it may have got further in each turn than it was to, and be there before anybody's patience is tried.
    let longestMs = 0;
    for (let tries = 0; tries < 5 && longestMs <= detectorDefaults.startMs; tries++)
      longestMs = Math.max(longestMs, await switchSlowly(application));
    assert.ok(longestMs > detectorDefaults.startMs, `It took ${longestMs} ms: no test of patience`);
    await clients.goOn();
    assert.deepEqual((await clients.stop()).findings, []);
  } finally {
    clients.kill();
  }
});
