/** Connections that are just being made or ended when the application moves: none is refused, reset or forgotten. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { exitCode } from "../../../src/lab/command.ts";
import { startWorkload } from "../../../workload/driver.ts";
import { SERVICE } from "../../../workload/site.ts";
import type { ChurnResult } from "./churn.ts";
import { answersCome, assertNothingLost, assertOneCopy, COUNTERS, instancePid, stageRedis } from "./support.ts";

const { lab, site } = stageRedis("chu", { nodes: 2 }, (site) => site.protect());

async function startChurn(): Promise<{ stop: () => Promise<ChurnResult> }> {
  const program = join(import.meta.dirname, "churn.ts");
  const argv = [process.execPath, program, SERVICE.host, String(SERVICE.port), "8"];
  const child = await lab.spawnInClient(argv, { stdio: ["pipe", "pipe", "inherit"] });
  let text = "";
  child.stdout!.setEncoding("utf8").on("data", (part: string) => {
    text += part;
  });
  const ended = new Promise<ChurnResult>((resolve, reject) =>
    child.once("close", (code, signal) =>
      code === 0 ? resolve(JSON.parse(text)) : reject(new Error(`churn ended with ${exitCode(code, signal)}`)),
    ),
  );
  return {
    stop: () => {
      child.stdin!.end();
      return ended;
    },
  };
}

test("clients that come and go while it moves to and fro", { timeout: 180_000 }, async () => {
  const churn = await startChurn();
  for (let round = 0; round < 4; round++) {
    const { standbys } = await site.untilProtected();
    await sleep(300);
    await site.switchTo(standbys.find(({ state }) => state === "in-sync")!.node);
  }
  await site.untilProtected();
  const { done, failures } = await churn.stop();
  assert.deepEqual(failures, []);
  assert.ok(done > 50, String(done));
});

test("clients that come and go while its primary is killed", { timeout: 180_000 }, async () => {
  const churn = await startChurn();
  for (let round = 0; round < 3; round++) {
    const { primary } = await site.untilProtected();
    await sleep(300);
    process.kill(await instancePid(lab, primary!), "SIGKILL");
    await sleep(1000);
  }
  await site.untilProtected();
  const { done, failures } = await churn.stop();
  assert.deepEqual(failures, []);
  assert.ok(done > 50, String(done));
  await assertOneCopy(site);
});

test("connections made the moment before its primary is killed", { timeout: 180_000 }, async () => {
  for (const delayMs of [0, 0, 3, 10]) {
    const { primary } = await site.untilProtected();
    const pid = await instancePid(lab, primary!);
    const counters = await startWorkload("counters", site.spawn, { ...COUNTERS, connections: 30 });
    await sleep(delayMs);
    process.kill(pid, "SIGKILL");
    await answersCome(counters);
    assertNothingLost(await counters.stop());
  }
  await assertOneCopy(site);
});
