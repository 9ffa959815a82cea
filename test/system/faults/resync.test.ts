/**
 * Memory that a node still has of an earlier time is not sent again: to a standby that was lost for a while, to those that are left when
 * the primary is gone, to the old primary after a switch. The program knows what must be in every page of its memory.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, afterEach, before, type TestContext, test } from "node:test";
import { Lab } from "../../../src/lab/lab.ts";
import { ProtectedApplication } from "../../../workload/application.ts";
import { downAndGone, eventually, freeze, instancePid, tellEvents } from "./support.ts";

const ADDRESS = "10.77.0.31";
const PORT = 7000;
const NODES = ["node-a", "node-b", "node-c"];
/** Two processes' own 24 MiB, and 8 MiB that they share. */
const MEMORY_BYTES = 56 * 2 ** 20;

const lab = new Lab({ name: `res${process.pid}` });
const scratch = mkdtempSync(join(tmpdir(), "understudy-resync-"));
const site = new ProtectedApplication(lab, {
  name: "pattern",
  command: ["/usr/local/bin/pattern", String(PORT)],
  address: `${ADDRESS}/24`,
});

before(
  async () => {
    const binary = join(scratch, "pattern");
    const includes = resolve(import.meta.dirname, "../../programs");
    execFileSync("gcc", ["-O2", "-I", includes, "-o", binary, join(import.meta.dirname, "pattern.c")]);
    await lab.up({ nodes: NODES.length });
    for (const node of NODES) await lab.exec(node, ["cp", binary, "/usr/local/bin/pattern"]);
    await site.protect({ standby: ["node-b", "node-c"] });
  },
  { timeout: 120_000 },
);
afterEach((context) => tellEvents(site, context as TestContext));
after(
  async () => {
    rmSync(scratch, { recursive: true, force: true });
    await downAndGone(lab);
  },
  { timeout: 60_000 },
);

/** All of its memory is looked at, now, by the program itself. */
async function assertRight(): Promise<void> {
  const said = await eventually("the program answers", async () => {
    const ask = `exec 3<>/dev/tcp/${ADDRESS}/${PORT} && cat <&3`;
    const { stdout } = await lab.client(["timeout", "20", "bash", "-c", ask]);
    return stdout || undefined;
  });
  assert.match(said, /^right [1-9]/);
}

/** What the first copy to a node came to that ended after `since`. */
async function copied(node: string, since: string): Promise<{ sentBytes: number; keptBytes: number }> {
  return eventually(
    `"${node}" has everything`,
    async () => {
      const told = (await site.events()).filter(
        ({ kind, at, details }) => kind === "synchronised" && at > since && details?.node === node,
      );
      return told.at(-1)?.details as { sentBytes: number; keptBytes: number } | undefined;
    },
    60_000,
  );
}

async function assertKept(node: string, since: string): Promise<void> {
  const { sentBytes, keptBytes } = await copied(node, since);
  assert.ok(keptBytes > 0.6 * MEMORY_BYTES, `kept ${keptBytes}`);
  assert.ok(sentBytes < 0.25 * MEMORY_BYTES, `sent ${sentBytes}`);
}

const now = () => new Date().toISOString();

test("a standby that gave no sign of life for a while gets what differs", { timeout: 180_000 }, async () => {
  const { primary } = await site.untilProtected({ standbys: 2 });
  const slow = NODES.find((node) => node !== primary)!;
  const since = now();
  {
    using _frozen = freeze(await instancePid(lab, slow, site.name));
    await eventually("it is taken off the view", async () => {
      const { standbys } = await site.report();
      return standbys.every(({ node, state }) => node !== slow || state !== "in-sync");
    });
  }
  await assertKept(slow, since);
  await site.untilProtected({ standbys: 2 });
  await assertRight();
});

test("the standby that is left follows a new primary by what differs, and takes over with it", {
  timeout: 240_000,
}, async () => {
  const { primary, term } = await site.untilProtected({ standbys: 2 });
  const since = now();
  await lab.powerOff(primary!);
  const after = await site.untilProtected({ standbys: 1, term: term + 1, timeoutMs: 120_000 });
  const left = NODES.find((node) => node !== primary && node !== after.primary)!;
  await assertKept(left, since);
  await assertRight();
  await lab.powerOff(after.primary!);
  await eventually("the last one takes over", async () => (await site.report()).term > after.term);
  await assertRight();
  await site.allOn();
});

test("an old primary, and another standby, are filled by what differs after a planned switch", {
  timeout: 240_000,
}, async () => {
  const { primary, term } = await site.untilProtected({ standbys: 2, timeoutMs: 120_000 });
  const [to, other] = NODES.filter((node) => node !== primary) as [string, string];
  const since = now();
  await site.switchTo(to);
  await site.untilProtected({ standbys: 2, term: term + 1, timeoutMs: 120_000 });
  await assertKept(primary!, since);
  await assertKept(other, since);
  await assertRight();
  await lab.powerOff(to);
  await site.untilProtected({ standbys: 1, term: term + 2, timeoutMs: 120_000 });
  await assertRight();
});
