/** A node with more work than the others gives some of it away: asked by `balance`, or by itself. */
import assert from "node:assert/strict";
import { after, afterEach, before, type TestContext, test } from "node:test";
import type { BalanceResult } from "../../../src/agent/api-types.ts";
import { Lab } from "../../../src/lab/lab.ts";
import { ProtectedApplication } from "../../../workload/application.ts";
import { cli, downAndGone, eventually, tellEvents } from "../faults/support.ts";

const lab = new Lab({ name: `balance${process.pid}` });
/** Busy for a tenth of the time, also where others keep the machine busy; on nodes that have half a core, that is a fifth of one. */
const busy = `import time
while True:
    begun, until = time.monotonic(), time.process_time() + 0.01
    while time.process_time() < until: pass
    time.sleep(max(0, begun + 0.1 - time.monotonic()))
`;
const capacity = { cpu: 0.5 };
const application = (index: number, more: object = {}) =>
  new ProtectedApplication(lab, {
    name: `busy-${index}`,
    command: ["python3", "-c", busy],
    address: `10.77.0.${40 + index}/24`,
    ...more,
  });

before(
  () =>
    lab.up({
      nodes: 3,
      configurations: Object.fromEntries(["node-a", "node-b", "node-c"].map((n) => [n, { capacity }])),
    }),
  { timeout: 60_000 },
);
const applications: ProtectedApplication[] = [];
afterEach(async (context) => {
  for (const one of applications) await tellEvents(one, context as TestContext);
});
after(() => downAndGone(lab), { timeout: 60_000 });

/** Four on node-a, with their clones on the others. */
async function crowd(first: number, more: object = {}): Promise<ProtectedApplication[]> {
  const all = [0, 1, 2, 3].map((index) => application(first + index, more));
  applications.push(...all);
  for (const [index, one] of all.entries())
    await one.protect({ home: "node-a", standby: [index % 2 === 0 ? "node-b" : "node-c"], period: 1000 });
  return all;
}

async function balance(...args: string[]): Promise<BalanceResult> {
  const { code, stdout, stderr } = await cli(lab, "node-b", ["balance", "--json", ...args]);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout);
}

const primaries = async (all: ProtectedApplication[]) =>
  Promise.all(all.map(async (one) => (await one.untilProtected()).primary));

test("balance says what it would do, does it, and then has nothing to do", { timeout: 300_000 }, async () => {
  const all = await crowd(0);
  const { plan } = await eventually("what it measures makes a plan", async () => {
    const found = await balance("--dry-run");
    assert.deepEqual(found.done, []);
    return found.plan.length > 0 ? found : undefined;
  });
  assert.ok(plan.every(({ from, to, before, after }) => from === "node-a" && to !== from && after[0] < before[0]));
  assert.deepEqual(await primaries(all), Array(4).fill("node-a"));
  const { done } = await eventually("moves are made", async () => {
    const result = await balance();
    return result.done.length > 0 ? result : undefined;
  });
  const where = await primaries(all);
  for (const { application: name, to } of done) assert.equal(where[all.findIndex((one) => one.name === name)], to);
  assert.ok(where.includes("node-a"), "It does not move all of it");
  await eventually("it comes to rest", async () => (await balance("--dry-run")).plan.length === 0);
  for (const one of all) await one.stop();
  applications.length = 0;
});

test("balance: auto moves without being asked, and each application once", { timeout: 300_000 }, async () => {
  const all = await crowd(4, { balance: "auto" });
  const moves = async () =>
    (await Promise.all(all.map((one) => one.events()))).flat().filter(({ kind }) => kind === "balancing");
  await eventually("it has moved some", async () => (await primaries(all)).some((node) => node !== "node-a"), 180_000);
  assert.ok((await primaries(all)).includes("node-a"));
  const made = await moves();
  assert.ok(made.length > 0);
  assert.equal(new Set(made.map(({ application: name }) => name)).size, made.length);
  await eventually("it comes to rest", async () => (await balance("--dry-run")).plan.length === 0);
  assert.equal((await moves()).length, made.length);
});
