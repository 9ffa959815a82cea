/** Ways to change a file that are easily missed: mappings, direct writes, more events than the log holds, a big directory. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { CHUNK_BYTES } from "../../../src/files/change.ts";
import { merged } from "../../../src/files/content.ts";
import { EVENTS } from "../../../src/files/log-program.ts";
import { addressOf, call } from "../../../src/kernel/calls.ts";
import { logged, same, started, twice } from "./pair.ts";
import { describe, writeMemory } from "./program.ts";

twice("a shared mapping is compared at each cut", async (pair) => {
  const fd = fs.openSync(`${pair.primary.root}/mapped`, "w+");
  fs.writeSync(fd, Buffer.alloc(100_000, 1));
  const address = call("mmap", null, 100_000, 3, 1, fd, 0);
  await started(pair);
  for (let i = 0; i < 3; i++) {
    writeMemory(address + 50_000, Buffer.from([i + 7]));
    const sent = pair.cut({ mapped: ["/mapped", "/dev/zero", "/no/such"] });
    assert.deepEqual(describe(pair.clone.root), describe(pair.primary.root));
    if (i > 0)
      assert.ok(sent.reduce((sum, { change }) => sum + (change.type === "write" ? change.bytes.length : 0), 0) <= 4096);
  }
  call("munmap", address, 100_000);
  fs.closeSync(fd);
});

/** A shared mapping of a file of 100,000 bytes; `body` writes through it, and may change what it allows. */
function mapped(
  path: string,
  protection: number,
  body: (write: (at: number, byte: number) => void, address: number) => void,
) {
  const fd = fs.openSync(path, "r+");
  const address = call("mmap", null, 100_000, protection, 1, fd, 0);
  fs.closeSync(fd);
  body((at, byte) => writeMemory(address + at, Buffer.from([byte])), address);
  call("munmap", address, 100_000);
}

const READ = 1;
const READ_WRITE = 3;

twice("a file mapped, written and unmapped between two cuts", async (pair) => {
  const path = `${pair.primary.root}/mapped`;
  fs.writeFileSync(path, Buffer.alloc(100_000, 1));
  await started(pair);
  pair.cut();
  for (let round = 0; round < 3; round++) {
    // The first write of all sets the time of change to what it is for some milliseconds.
    fs.appendFileSync(path, "more");
    mapped(path, READ_WRITE, (write) => write(50_000, 10 + round));
    pair.cut();
    pair.capture.mappingsKnown([]);
    same(pair);
  }
});

twice("a file written through a mapping before and after it is looked at, and unmapped", async (pair) => {
  const path = `${pair.primary.root}/mapped`;
  fs.writeFileSync(path, Buffer.alloc(100_000, 1));
  await started(pair);
  pair.cut();
  mapped(path, READ_WRITE, (write) => {
    write(50_000, 2);
    pair.capture.preDump(pair.emit);
    write(50_001, 3);
    pair.capture.preDump(pair.emit);
    write(50_002, 4);
  });
  fs.renameSync(path, `${path}-elsewhere`);
  pair.cut();
});

twice("a new file written through a mapping before and after it is found", async (pair) => {
  await started(pair);
  pair.cut();
  const path = `${pair.primary.root}/new`;
  fs.writeFileSync(path, Buffer.alloc(100_000, 1));
  mapped(path, READ_WRITE, (write) => {
    write(50_000, 2);
    pair.capture.preDump(pair.emit);
    write(50_001, 3);
  });
  pair.cut();
});

twice("a mapping that may not be written at the cut, but was, and is again", async (pair) => {
  const path = `${pair.primary.root}/mapped`;
  fs.writeFileSync(path, Buffer.alloc(100_000, 1));
  await started(pair);
  pair.cut();
  mapped(path, READ_WRITE, (write, address) => {
    write(50_000, 2);
    call("mprotect", address, 100_000, READ);
    pair.cut();
    pair.capture.mappingsKnown(["/mapped"]);
    call("mprotect", address, 100_000, READ_WRITE);
    write(50_000, 3);
  });
  pair.cut();
  same(pair);
  pair.capture.mappingsKnown([]);
});

twice("direct writes", async (pair) => {
  const path = `${pair.primary.root}/direct`;
  fs.writeFileSync(path, Buffer.alloc(1 << 20, 3));
  await started(pair);
  pair.cut();
  const memory = Buffer.allocUnsafeSlow(3 * 4096).fill(9);
  const aligned = memory.subarray((4096 - (addressOf(memory) % 4096)) % 4096).subarray(0, 8192);
  const fd = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_DIRECT);
  fs.writeSync(fd, aligned, 0, aligned.length, 40_960);
  fs.closeSync(fd);
  pair.cut();
});

logged("a write of a few bytes sends a few bytes", async (pair) => {
  const fd = fs.openSync(`${pair.primary.root}/toto`, "w+");
  fs.writeSync(fd, Buffer.alloc(3 * CHUNK_BYTES, 1));
  await started(pair);
  pair.cut();
  // The second one reaches into the first.
  fs.writeSync(fd, Buffer.alloc(30_000, 2), 0, 30_000, 30);
  fs.writeSync(fd, Buffer.alloc(20_000, 3), 0, 20_000, 20);
  const writes = pair
    .cut()
    .flatMap(({ change }) => (change.type === "write" ? [[change.at, change.bytes.length]] : []));
  assert.deepEqual(writes, [[20, 30_010]]);
  fs.closeSync(fd);
});

logged("more events than the log holds: what changed is sent whole", async (pair) => {
  const fd = fs.openSync(`${pair.primary.root}/busy`, "w+");
  await started(pair);
  pair.cut();
  for (let i = 0; i < EVENTS + 1000; i++) fs.writeSync(fd, Buffer.from([i]), 0, 1, (i % 50) * 10_000);
  fs.closeSync(fd);
  pair.cut();
});

logged("more events than the log holds in a first copy: nothing of before shows behind or between", async (pair) => {
  const shorter = `${pair.primary.root}/shorter`;
  const sparser = `${pair.primary.root}/sparser`;
  fs.writeFileSync(shorter, Buffer.alloc(120, 1));
  fs.writeFileSync(sparser, Buffer.alloc(100_000, 2));
  const fd = fs.openSync(`${pair.primary.root}/busy`, "w+");
  await started(pair);
  for (let i = 0; i < EVENTS + 1000; i++) fs.writeSync(fd, Buffer.from([i]), 0, 1, (i % 50) * 10_000);
  fs.closeSync(fd);
  fs.writeFileSync(shorter, Buffer.alloc(100, 3));
  fs.writeFileSync(sparser, "");
  fs.truncateSync(sparser, 100_000);
  fs.appendFileSync(sparser, "end");
  // What was written meanwhile, as a primary sends it at the end of a first copy.
  await started(pair);
  pair.cut();
});

twice("many names at once, then one more", async (pair) => {
  fs.mkdirSync(`${pair.primary.root}/many`);
  for (let i = 0; i < 2000; i++) fs.writeFileSync(`${pair.primary.root}/many/${i}`, "");
  await started(pair);
  pair.cut();
  fs.writeFileSync(`${pair.primary.root}/many/another`, "text");
  assert.ok(pair.cut().length < 10);
});

test("ranges are merged where they touch", () => {
  assert.deepEqual(
    merged([
      [30, 30_030],
      [20, 20_020],
      [50_000, 50_001],
      [30_030, 30_040],
    ]),
    [
      [20, 30_040],
      [50_000, 50_001],
    ],
  );
});
