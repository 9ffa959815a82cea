/** Several processes change files all the time; they are stopped for each cut as an application is. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { FileCapture } from "../../../src/files/capture.ts";
import type { FileOperation } from "../../../src/files/change.ts";
import type { FileLog } from "../../../src/files/log.ts";
import { findLog } from "./file-log.ts";
import { TestClone } from "./filling.ts";
import { numbersIn, Overlays, ownMounts } from "./overlays.ts";
import { describe } from "./program.ts";

const WORKER = fileURLToPath(new URL("./worker.ts", import.meta.url));
const PROCESSES = 3;
const CUTS = Number(process.env.FILES_CUTS ?? 25);
/** Few numbers, which come round. */
const DISK_BYTES = 256 << 20;
const SEED = Number(process.env.FILES_SEED ?? Math.floor(Math.random() * 2 ** 30));

async function stop(workers: ChildProcess[]): Promise<void> {
  for (const worker of workers) worker.kill("SIGSTOP");
  for (const { pid } of workers)
    while (readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1]![0] !== "T") await sleep(1);
}

/** @param numbers on disks of their own: the same inode numbers are wanted */
async function check(log: FileLog | false | undefined, numbers = false): Promise<void> {
  ownMounts();
  const overlays = new Overlays();
  const workers: ChildProcess[] = [];
  try {
    const lower = overlays.path("lower");
    const mount = (name: string, standby: boolean) =>
      numbers ? overlays.mountOnDisk(name, lower, standby, DISK_BYTES) : overlays.mount(name, lower);
    const [primary, clone] = [mount("primary", false), mount("clone", true)];
    const capture = new FileCapture({ filesDirectory: primary.directory, lower, log, numbers: primary.numbers });
    const filled = new TestClone(clone.rootFd, undefined, clone.numbers);
    const emit = (operation: FileOperation) => filled.apply.apply(operation);
    for (let i = 0; i < PROCESSES; i++) {
      const worker = spawn(process.execPath, [WORKER, primary.root, String(SEED + i)], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      workers.push(worker);
      await once(worker.stdout!, "data");
    }
    await filled.fill(capture, { pause: () => sleep(1) });
    for (let i = 0; i < CUTS; i++) {
      await sleep(5 + (i % 7) * 5);
      for (let pass = 0; pass <= i % 3; pass++) capture.preDump(emit);
      await stop(workers);
      for (const operation of capture.cut()) emit(operation);
      assert.deepEqual(describe(clone.root), describe(primary.root), `cut ${i}`);
      if (numbers) assert.deepEqual(numbersIn(clone), numbersIn(primary), `cut ${i}`);
      for (const worker of workers) worker.kill("SIGCONT");
    }
    capture.close();
    filled.apply.close();
  } finally {
    for (const worker of workers) worker.kill("SIGKILL");
    await Promise.all(workers.map((worker) => worker.exitCode ?? worker.signalCode ?? once(worker, "exit")));
    overlays.remove();
  }
}

test(`files are the same at each cut while others write, by comparing (seed ${SEED})`, () => check(false));

test(`files are the same at each cut while others write, as the kernel's log tells (seed ${SEED})`, async () => {
  const log = await findLog();
  try {
    await check(log);
  } finally {
    log?.close();
  }
});

test(`inode numbers are the same at each cut while others write, by comparing (seed ${SEED})`, () =>
  check(false, true));

// A log of its own: its disk is another device.
test(`inode numbers are the same at each cut while others write, as the kernel's log tells (seed ${SEED})`, () =>
  check(undefined, true));
