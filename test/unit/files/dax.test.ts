/** Files that are written without the page cache have no tracepoint: they are compared, whatever the log says. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { afterEach, test } from "node:test";
import { isDax } from "../../../src/kernel/file-systems.ts";
import { Status } from "../../../src/kernel/files.ts";
import { logged, type Pair, started } from "./pair.ts";

const MOUNTS = `
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,errors=remount-ro
30 22 259:0 / /var/lib rw,relatime shared:2 master:1 - ext4 /dev/pmem0 rw,dax=always
31 22 259:1 / /srv rw,relatime - ext4 /dev/pmem1 rw,dax
32 22 259:2 / /opt/dax rw,relatime - ext4 /dev/pmem2 rw,dax=inode
33 22 259:3 / /mnt rw,relatime - ext4 /dev/pmem3 rw,dax=never
`;

test("a mount says whether all of it is written so", () => {
  const found = ["254:0", "259:0", "259:1", "259:2", "259:3", "9:9"].map((device) => isDax(MOUNTS, device));
  assert.deepEqual(found, [false, true, true, false, false, false]);
});

const isDaxOf = Object.getOwnPropertyDescriptor(Status.prototype, "isDax")!;
/** No machine here has such a file system: the kernel's answer is made up. */
const say = (dax: boolean) => Object.defineProperty(Status.prototype, "isDax", { get: () => dax, configurable: true });
afterEach(() => Object.defineProperty(Status.prototype, "isDax", isDaxOf));

const BLOCK = 4096;

/** Writes a byte; the log alone would tell of that byte, a comparison finds its block. */
function written(pair: Pair): number[] {
  const fd = fs.openSync(`${pair.primary.root}/file`, "r+");
  fs.writeSync(fd, "x", 3 * BLOCK + 5);
  fs.closeSync(fd);
  return pair.cut().flatMap(({ change }) => (change.type === "write" ? [change.at, change.bytes.length] : []));
}

const begin = async (pair: Pair) => {
  fs.writeFileSync(`${pair.primary.root}/file`, Buffer.alloc(10 * BLOCK, 1));
  await started(pair);
  pair.cut();
};

logged("a file that is written so from the beginning is compared", async (pair) => {
  say(true);
  await begin(pair);
  assert.deepEqual(written(pair), [3 * BLOCK, BLOCK]);
});

logged("a file that is written so from now on is sent whole, then compared", async (pair) => {
  await begin(pair);
  assert.deepEqual(written(pair), [3 * BLOCK + 5, 1]);
  say(true);
  assert.deepEqual(written(pair), [0, 10 * BLOCK]);
  fs.truncateSync(`${pair.primary.root}/file`, 9 * BLOCK);
  assert.deepEqual(written(pair), []);
});
