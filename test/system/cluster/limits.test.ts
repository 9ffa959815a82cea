/** Limits on an application's cgroup go where it goes: set on one node, they hold on the other after a switch and a power-off. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Lab } from "../../../src/lab/lab.ts";
import { readLimits } from "../../../src/stage/limits.ts";
import { ProtectedApplication } from "../../../workload/application.ts";
import { eventually } from "../../support/eventually.ts";

const NAME = "limited";
/** A change of limits is seen within a second. */
const SEEN_MS = 2000;

const lab = new Lab({ name: `lim${process.pid}` });
const application = new ProtectedApplication(lab, {
  name: NAME,
  command: ["sleep", "infinity"],
  address: "10.77.0.30/24",
});
const group = (node: string) => join(lab.cgroup(node), "apps", NAME);

before(() => lab.up({ nodes: 2 }), { timeout: 60_000 });
after(() => lab.down(), { timeout: 60_000 });

/** What this machine's cgroups can be told; the first two every one can. */
const WANTED: Record<string, string> = {
  "cgroup.max.depth": "5",
  "cgroup.max.descendants": "7",
  "cpu.max": "150000 100000",
  "cpu.weight": "250",
  "hugetlb.2MB.max": "8388608",
  "memory.max": "1073741824",
  "pids.max": "321",
};

function limit(node: string, wanted: Record<string, string>): Record<string, string> {
  const there = new Set(readdirSync(group(node)));
  const set = Object.entries(wanted).filter(([file]) => there.has(file));
  for (const [file, value] of set) writeFileSync(join(group(node), file), value);
  return Object.fromEntries(set);
}

test("limits of the cgroup hold on every node", { timeout: 240_000 }, async () => {
  await application.protect();
  assert.deepEqual(readLimits(group("node-b")), {}, "A clone that waits has none yet");
  const set = limit("node-a", WANTED);
  assert.ok(Object.keys(set).length >= 2);
  await application.switchTo("node-b");
  assert.deepEqual(readLimits(group("node-b")), set);

  await application.untilProtected({ timeoutMs: 60_000 });
  const changed = { ...set, ...limit("node-b", { "cgroup.max.descendants": "9", "cgroup.max.depth": "max" }) };
  delete changed["cgroup.max.depth"];
  const setMs = Date.now();
  await eventually("a checkpoint with the new limits", async () =>
    (await application.checkpoints()).some(({ at }) => Date.parse(at) > setMs + SEEN_MS),
  );
  await application.untilProtected({ timeoutMs: 60_000 });
  await lab.powerOff("node-b");
  await eventually("it runs on the other node", async () => (await application.report()).primary === "node-a");
  await eventually(
    "its limits are set",
    () => readFileSync(join(group("node-a"), "cgroup.max.descendants"), "utf8") === "9\n",
  );
  assert.deepEqual(readLimits(group("node-a")), changed);
});
