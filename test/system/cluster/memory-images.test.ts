/** What an application has only in memory is on no node's disk: neither with the clones, nor where it ran, nor in any log. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { closeSync, type Dirent, openSync, readdirSync, readSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, type TestContext, test } from "node:test";
import { Lab } from "../../../src/lab/lab.ts";
import { labPlaces } from "../../../src/lab/layout.ts";
import { RedisSite, SERVICE } from "../../../workload/site.ts";
import { cli, downAndGone, tellEvents } from "../faults/support.ts";

const lab = new Lab({ name: `images${process.pid}` });
const site = new RedisSite(lab);
const places = labPlaces(lab.name);

before(
  async () => {
    await lab.up({ nodes: 3 });
    await site.protect({ standby: ["node-b", "node-c"] });
  },
  { timeout: 120_000 },
);
afterEach((context) => tellEvents(site, context as TestContext));
after(() => downAndGone(lab), { timeout: 60_000 });

const CHUNK = 1 << 20;

/** Files of the lab's nodes, of its store and of their run directories in which the text stands. */
function filesWith(text: string): string[] {
  const wanted = Buffer.from(text);
  const chunk = Buffer.alloc(CHUNK + wanted.length);
  const found: string[] = [];
  const visit = (directory: string): void => {
    for (const entry of readdirSync(directory, { withFileTypes: true }) as Dirent[]) {
      const path = join(directory, entry.name);
      if (entry.isDirectory()) visit(path);
      else if (entry.isFile() && contains(path, wanted, chunk)) found.push(path);
    }
  };
  for (const directory of [places.directory, places.runDirectory]) visit(directory);
  return found;
}

function contains(path: string, wanted: Buffer, chunk: Buffer): boolean {
  const fd = openSync(path, "r");
  try {
    let kept = 0;
    for (;;) {
      const read = readSync(fd, chunk, kept, CHUNK, null);
      if (read === 0) return false;
      if (chunk.subarray(0, kept + read).includes(wanted)) return true;
      const keep = Math.min(wanted.length, kept + read);
      chunk.copyWithin(0, kept + read - keep, kept + read);
      kept = keep;
    }
  } finally {
    closeSync(fd);
  }
}

const redis = async (...args: string[]) => (await lab.client(["redis-cli", "-h", SERVICE.host, ...args])).stdout.trim();

test("a secret in memory goes through checkpoints, a switch, a power failure, and is nowhere", {
  timeout: 300_000,
}, async () => {
  const secret = randomBytes(24).toString("hex");
  await site.untilProtected({ standbys: 2 });
  assert.equal(await redis("set", "secret", secret), "OK");
  assert.equal((await cli(lab, "node-a", ["checkpoint", "redis"])).code, 0);
  assert.deepEqual(filesWith(secret), []);
  await site.switchTo("node-b");
  await site.untilProtected({ standbys: 2 });
  assert.equal(await redis("get", "secret"), secret);
  await lab.powerOff("node-b");
  await lab.powerOn("node-b");
  await site.untilProtected({ standbys: 2 });
  assert.equal(await redis("get", "secret"), secret);
  assert.deepEqual(filesWith(secret), []);
  // The search finds what the application itself writes to its files, there and where they are replicated.
  assert.equal(await redis("config", "set", "rdbcompression", "no"), "OK");
  assert.equal(await redis("save"), "OK");
  assert.equal((await cli(lab, "node-a", ["checkpoint", "redis"])).code, 0);
  await site.untilProtected({ standbys: 2 });
  assert.ok(filesWith(secret).some((path) => path.endsWith("/dump.rdb")));
});
