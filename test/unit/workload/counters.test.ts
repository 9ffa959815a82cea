/** The judge judged: each kind of harm that a switch could do must show in the counters' verdict. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Counters } from "../../../workload/counters.ts";
import type { CounterOptions } from "../../../workload/messages.ts";
import { FakeRedis } from "./fake-redis.ts";

const OPTIONS = { connections: 4, slots: 10, valueBytes: 40, paceMs: 1, progressMs: 0, drainMs: 10_000 };

async function begin(t: TestContext, options: Partial<CounterOptions> = {}) {
  const server = new FakeRedis();
  t.after(() => server.close());
  const counters = await Counters.connect({ ...OPTIONS, ...(await server.listen()), ...options });
  counters.start("before");
  await answers(counters, 60);
  return { server, counters };
}

/** Waits for so many more answers, however slow the machine is at this moment. */
async function answers(counters: Counters, more: number): Promise<void> {
  const wanted = counters.progress.answered + more;
  for (let tries = 0; tries < 2000 && counters.progress.answered < wanted; tries++) await sleep(5);
  assert.ok(counters.progress.answered >= wanted, "The counters do not go on");
}

test("an honest server is found without fault", async (t) => {
  const { counters } = await begin(t);
  const result = await counters.stop();
  assert.ok(result.writesAcknowledged > 20, String(result.writesAcknowledged));
  assert.ok(result.readsVerified > 20);
  const { connectionsBroken, writesMissing, writesUnverified, valuesUnexpected, errorReplies, findings } = result;
  assert.deepEqual(
    { connectionsBroken, writesMissing, writesUnverified, valuesUnexpected, errorReplies, findings },
    { connectionsBroken: 0, writesMissing: 0, writesUnverified: 0, valuesUnexpected: 0, errorReplies: 0, findings: [] },
  );
});

test("each acknowledged write that a rollback loses is counted, once", async (t) => {
  const { server, counters } = await begin(t);
  const old = new Map(server.data);
  await answers(counters, 60);
  let lost = 0;
  for (const [key, value] of server.data) if (old.get(key) !== value) lost++;
  server.data.clear();
  for (const [key, value] of old) server.data.set(key, value);
  await answers(counters, 200);
  const result = await counters.stop();
  assert.ok(lost > 4);
  // What was being answered at the instant of the rollback may count on either side.
  assert.ok(Math.abs(result.writesMissing - lost) <= OPTIONS.connections, `${result.writesMissing} of ${lost}`);
});

test("one lost write is found at the end even when its key is never written again", async (t) => {
  const { server, counters } = await begin(t, { slots: 100_000 });
  server.data.delete([...server.data.keys()][3]!);
  const result = await counters.stop();
  assert.equal(result.writesMissing, 1);
  assert.match(result.findings[0]!, /expected write \d+, found null/);
});

test("a write that is acknowledged and not done is found at once", async (t) => {
  const { server, counters } = await begin(t);
  let skipped = 0;
  server.lie = ([name, key]) => {
    if (name !== "SET" || skipped > 0) return undefined;
    skipped++;
    const old = server.data.get(key!);
    return old === undefined ? "$-1\r\n" : `$${old.length}\r\n${old}\r\n`;
  };
  await answers(counters, 60);
  assert.equal((await counters.stop()).writesMissing, 1);
});

test("a write done twice is found", async (t) => {
  const { server, counters } = await begin(t);
  let doubled = 0;
  server.lie = ([name, key, value]) => {
    if (name !== "SET" || doubled > 0) return undefined;
    doubled++;
    server.data.set(key!, value!);
    return undefined;
  };
  await answers(counters, 60);
  const result = await counters.stop();
  assert.equal(result.valuesUnexpected, 1);
  assert.equal(result.writesMissing, 0);
});

test("a broken connection is counted, its acknowledged writes are looked for over another", async (t) => {
  const { server, counters } = await begin(t);
  const broken: number[] = [];
  counters.onBroken = (connection) => broken.push(connection);
  [...server.sockets][2]!.destroy();
  await answers(counters, 60);
  const result = await counters.stop();
  assert.deepEqual(broken, [2]);
  assert.equal(result.connectionsBroken, 1);
  assert.equal(result.writesMissing + result.writesUnverified + result.valuesUnexpected, 0);
});

test("a connection that gets no answer any more counts as broken", async (t) => {
  const { server, counters } = await begin(t, { drainMs: 300 });
  let silenced: string | undefined;
  server.lie = ([, key]) => {
    silenced ??= key!.split(":")[2]!;
    return key!.split(":")[2] === silenced ? "silence" : undefined;
  };
  await answers(counters, 60);
  const result = await counters.stop();
  assert.equal(result.connectionsBroken, 1);
  assert.ok(result.windows[0]!.worstWaitMs >= 250, JSON.stringify(result.windows));
});

test("a server that is gone leaves everything broken and unverified", async (t) => {
  const { server, counters } = await begin(t);
  server.close();
  await sleep(20);
  const result = await counters.stop();
  assert.equal(result.connectionsBroken, OPTIONS.connections);
  assert.ok(result.writesUnverified > 0);
});

test("an error reply is a finding and acknowledges nothing", async (t) => {
  const { server, counters } = await begin(t);
  let refused = 0;
  server.lie = ([name]) => (name === "SET" && refused++ === 0 ? "-OOM no memory\r\n" : undefined);
  await answers(counters, 60);
  const result = await counters.stop();
  assert.equal(result.errorReplies, 1);
  assert.equal(result.writesMissing + result.valuesUnexpected, 0);
});

test("an outage shows as silence in the window in which it ends", async (t) => {
  const { server, counters } = await begin(t);
  counters.mark("outage");
  server.pause(150);
  await sleep(250);
  counters.mark("after");
  await sleep(20);
  const { windows } = await counters.stop();
  const [before, outage, after] = windows;
  assert.deepEqual([before!.name, outage!.name, after!.name], ["before", "outage", "after"]);
  assert.ok(outage!.silenceMs >= 130, String(outage!.silenceMs));
  assert.ok(outage!.medianWaitMs >= 130, String(outage!.medianWaitMs));
  assert.ok(Math.max(before!.silenceMs, after!.silenceMs) < outage!.silenceMs);
});
