/** The demo is the product's promise in one command: it must keep it, and leave nothing behind however it ends. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Outcome } from "../../../demo/outcome.ts";
import { labPlaces } from "../../../src/lab/layout.ts";
import { namespacesOf } from "../../../src/lab/network.ts";

const LAB = "demo";
const program = resolve(import.meta.dirname, "../../../demo/main.ts");

function startDemo(...args: string[]) {
  const child = spawn(process.execPath, [program, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      output[name] += text;
    });
  }
  const ended = once(child, "close").then(([code]) => code as number | null);
  return { child, output, ended };
}

function assertNothingLeft(): void {
  assert.deepEqual(namespacesOf(LAB), []);
  const { directory, runDirectory, cgroup, lock } = labPlaces(LAB);
  for (const path of [directory, runDirectory, cgroup, lock]) assert.ok(!existsSync(path), `${path} is left`);
}

test("the demo loses nothing, and tells its figures in one document", { timeout: 300_000 }, async () => {
  const { output, ended } = startDemo("--json");
  const code = await ended;
  assert.equal(code, 0, output.stderr + output.stdout);
  const outcome = JSON.parse(output.stdout) as Outcome;
  assert.equal(outcome.connections, 50);
  assert.deepEqual([outcome.connectionsBroken, outcome.writesMissing, outcome.findings], [0, 0, []]);
  assert.ok(outcome.writesAcknowledged > 1000);
  assert.ok(outcome.gapMs.planned! > 0 && outcome.gapMs.powerOff! > 0);
  for (const key of ["checkpointsPerSecond", "pagesPerCheckpoint", "bytesPerCheckpoint", "throughputRatio"] as const) {
    assert.ok(outcome[key] > 0, key);
  }
  assert.ok(outcome.stopMs.median > 0 && outcome.stopMs.p99 >= outcome.stopMs.median);
  assert.ok(outcome.stopMs.max >= outcome.stopMs.p99);
  assert.deepEqual(outcome.primaries, ["node-a", "node-b", "node-a"]);
  assert.deepEqual(outcome.copiesRunning, ["node-a"]);
  assertNothingLeft();
});

test("an interrupt while the clients count ends the demo and leaves nothing", { timeout: 120_000 }, async () => {
  const { child, output, ended } = startDemo();
  while (!output.stdout.includes("answers/s") && child.exitCode === null) await sleep(50);
  child.kill("SIGINT");
  assert.equal(await ended, 130, output.stdout);
  assertNothingLeft();
});

test("an unknown option is refused before anything is done", async () => {
  const { output, ended } = startDemo("--fast");
  assert.equal(await ended, 2);
  assert.match(output.stderr, /Unknown option '--fast'[\s\S]*Usage: npm run demo/);
});
