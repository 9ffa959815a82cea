/** The workload as its parent sees it, against an unmodified Redis. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fillKeys, type Spawn, startWorkload, type Workload, WorkloadFailed } from "../../../workload/driver.ts";
import { RedisClient } from "../../../workload/redis-client.ts";

const here: Spawn = ([program, ...args]) => spawn(program!, args, { stdio: ["pipe", "pipe", "pipe"] });
const directory = mkdtempSync(join(tmpdir(), "understudy-workload-"));
let address: { host: string; port: number };
let redis: ReturnType<typeof spawn>;

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const bound = server.address();
      server.close(() => resolve(typeof bound === "object" && bound !== null ? bound.port : 0));
    });
  });
}

before(async () => {
  address = { host: "127.0.0.1", port: await freePort() };
  const options = ["--port", String(address.port), "--bind", address.host, "--save", "", "--dir", directory];
  redis = spawn("redis-server", options, { stdio: "ignore" });
  for (let tries = 0; tries < 100; tries++) {
    const client = await RedisClient.connect(address).catch(() => undefined);
    client?.close();
    if (client) return;
    await sleep(50);
  }
  throw new Error("redis-server does not answer");
});

after(() => {
  redis.kill("SIGKILL");
  rmSync(directory, { recursive: true });
});

test("fill sets every key once with a value of the wanted length", async () => {
  const result = await fillKeys(here, { ...address, keys: 1000, valueBytes: 300 });
  assert.equal(result.keys, 1000);
  const client = await RedisClient.connect(address);
  assert.equal(await client.call("DBSIZE"), 1000);
  assert.equal(await client.call("STRLEN", "key:000000000999"), 300);
  client.close();
});

test("load counts its answers", async () => {
  const options = { ...address, connections: 5, pipeline: 4, keys: 1000, valueBytes: 100, seconds: 0.5 };
  const load = await startWorkload("load", here, options);
  const result = await load.result;
  assert.ok(result.answered > 500 && result.perSecond > 500, JSON.stringify(result));
  assert.equal(result.connectionsBroken + result.errorReplies, 0);
});

/** While so many more answers come, however slow the machine is at this moment. */
async function longestSilence(counters: Workload<"counters">, answers: number): Promise<number> {
  let [silenceMs, answered] = [0, 0];
  for (let tries = 0; tries < 1000 && answered < answers; tries++) {
    await sleep(20);
    const window = await counters.mark("next");
    answered += window.answers;
    silenceMs = Math.max(silenceMs, window.silenceMs);
  }
  assert.ok(answered >= answers, "The counters do not go on");
  return silenceMs;
}

test("counters survive a stopped server with nothing lost, and the stop shows", async () => {
  const counters = await startWorkload("counters", here, { ...address, connections: 10, paceMs: 2 });
  await longestSilence(counters, 200);
  redis.kill("SIGSTOP");
  await sleep(300);
  redis.kill("SIGCONT");
  const silenceMs = await longestSilence(counters, 200);
  assert.ok(silenceMs >= 250, String(silenceMs));
  const result = await counters.stop();
  assert.deepEqual([result.connectionsBroken, result.writesMissing, result.valuesUnexpected], [0, 0, 0]);
  assert.ok(result.writesAcknowledged > 100);
});

test("counters see that a server lost its data", async () => {
  const counters = await startWorkload("counters", here, { ...address, connections: 3, slots: 1000, paceMs: 2 });
  await sleep(200);
  const client = await RedisClient.connect(address);
  await client.call("FLUSHALL");
  client.close();
  const result = await counters.stop();
  assert.ok(result.writesMissing > 0, JSON.stringify(result));
});

test("nobody listening is a failure with its reason", async () => {
  const nowhere = { host: "127.0.0.1", port: await freePort() };
  await assert.rejects(startWorkload("counters", here, nowhere), (error: Error) => {
    assert.ok(error instanceof WorkloadFailed);
    assert.match(error.message, /Cannot connect to 127\.0\.0\.1:\d+: .*ECONNREFUSED/);
    return true;
  });
});
