/**
 * The page stream of huge pages: differences by object, nothing for zeros, and what was given back is noticed by its zeros. What a
 * standby sets aside for checkpoints that it holds, told by what is free afterwards.
 */
import assert from "node:assert/strict";
import { closeSync, ftruncateSync, openSync } from "node:fs";
import { after, before, test } from "node:test";
import { HugeReserve } from "../../../src/clone/huge-reserve.ts";
import { call, makeMemory } from "../../../src/kernel/calls.ts";
import {
  freeHugePages,
  hugeMemoryFlags,
  hugeSourcesOf,
  makeHugeContent,
  openHugeSources,
  writeHuge,
  zeroedHuge,
} from "../../../src/kernel/huge-pages.ts";
import { copyEncode } from "../../../src/kernel/pages.ts";
import { AREA_FLAG } from "../../../src/resources/memory/area-flags.ts";
import type { Area } from "../../../src/resources/memory/layout.ts";
import { setAsideHugePages } from "../../support/huge-pages.ts";

const HUGE = 2 << 20;
const PAGE = 4096;
const HEAD = 16;
const AT = 0x7000_0000_0000;
const PUNCH_HOLE_KEEP_SIZE = 3;
const NONE = new BigUint64Array(0);

let giveBack = () => {};
before(() => {
  giveBack = setAsideHugePages(16);
});
after(() => giveBack());

/** A file of huge pages as an area of a process, and its page stream. */
function makeObject(shadowPages: number) {
  const fd = makeMemory("test", hugeMemoryFlags(HUGE));
  ftruncateSync(fd, 2 * HUGE);
  const memory = openSync("/proc/self/mem", "r");
  const content = makeHugeContent(shadowPages);
  const ranges = BigUint64Array.of(BigInt(AT), BigInt(AT + 2 * HUGE), BigInt.asUintN(64, BigInt(-AT)));
  const sources = hugeSourcesOf(ranges, Int32Array.of(-1), [content]);
  openHugeSources(sources, Int32Array.of(fd));
  const out = Buffer.alloc(1100 * (PAGE + HEAD));
  const stream = (whole = false) => {
    const regions = BigUint64Array.of(BigInt(AT), BigInt(AT + 2 * HUGE), 0n);
    const cursor = new Float64Array(4);
    const n = copyEncode(process.pid, memory, regions, 1, cursor, 1024, null, out, whole, NONE, sources);
    assert.deepEqual([...cursor.subarray(2)], [1024, 0]);
    return n;
  };
  const close = () => [fd, memory].forEach(closeSync);
  return { fd, content, stream, close };
}

test("of a huge page only what differs is sent, of what was never touched nothing", () => {
  const { fd, stream, close } = makeObject(1024);
  assert.equal(stream(), 0);
  writeHuge(fd, Buffer.alloc(3 * PAGE, 7), PAGE, HUGE);
  assert.equal(stream(), HEAD + 3 * PAGE);
  assert.equal(stream(), 0);
  writeHuge(fd, Buffer.from("a word"), 2 * PAGE + 64, HUGE);
  assert.equal(stream(), HEAD + 4 + 16);
  writeHuge(fd, Buffer.alloc(PAGE), PAGE, HUGE);
  assert.equal(stream(), HEAD);
  assert.equal(stream(), 0);
  // Somebody reads along who has nothing.
  assert.equal(stream(true), HEAD + 2 * PAGE);
  close();
});

test("zeros are sent where there is no shadow of what was", () => {
  const { fd, stream, close } = makeObject(0);
  writeHuge(fd, Buffer.alloc(PAGE, 7), HUGE, HUGE);
  assert.equal(stream(), HEAD + PAGE);
  assert.equal(stream(), HEAD + PAGE);
  writeHuge(fd, Buffer.alloc(PAGE), HUGE, HUGE);
  assert.equal(stream(), HEAD);
  assert.equal(stream(), 0);
  close();
});

test("what is given back is noticed once; a word that is zero is not enough", () => {
  const { fd, content, stream, close } = makeObject(1024);
  for (const at of [5 * PAGE, HUGE]) writeHuge(fd, Buffer.alloc(PAGE, 7), at, HUGE);
  stream();
  assert.deepEqual(zeroedHuge(content, fd), []);
  writeHuge(fd, Buffer.alloc(8), 5 * PAGE, HUGE);
  assert.deepEqual(zeroedHuge(content, fd), []);
  call("fallocate", fd, PUNCH_HOLE_KEEP_SIZE, HUGE, HUGE);
  assert.deepEqual(zeroedHuge(content, fd), [HUGE]);
  assert.deepEqual(zeroedHuge(content, fd), []);
  writeHuge(fd, Buffer.alloc(PAGE, 7), HUGE, HUGE);
  assert.equal(stream(), HEAD + 4 + 16 + HEAD + PAGE);
  close();
});

const NOTHING = { layouts: [], segments: [] };

const free = () => freeHugePages(HUGE).free;
const area = (at: number, pages: number, backing: Area["backing"], flags = 0n): Area => ({
  start: at * HUGE,
  end: (at + pages) * HUGE,
  protection: 3,
  backing,
  flags: Number(AREA_FLAG.hugetlb | flags),
  huge: HUGE,
});
const own = { type: "anonymous" } as const;
const object = (offset: number) =>
  ({ type: "shared", id: "00:11:7", offset: offset * HUGE, path: "/memfd:a" }) as const;

/** One whole page of a page stream. */
function pagesAt(at: number): Buffer {
  const record = Buffer.alloc(16 + 4096, 1);
  record.writeBigUInt64LE(BigInt(at * HUGE), 0);
  record.writeUInt16LE(0, 8);
  record.writeUInt16LE(0, 10);
  record.writeUInt32LE(4096, 12);
  return record;
}

test("private memory counts for each process, shared memory once", () => {
  const reserve = new HugeReserve();
  const before = free();
  const first = [area(100, 2, own), area(200, 3, object(0))];
  reserve.note({ op: "layout", pid: 2, areas: first, fresh: [] });
  reserve.note({ op: "layout", pid: 3, areas: [area(100, 1, own), area(300, 2, object(2))], fresh: [] });
  reserve.close(1, NOTHING, false);
  assert.equal(before - free(), 2 + 1 + 4);
  reserve.release();
  assert.equal(free(), before);
  reserve.applied(1, { layouts: [first], segments: [] });
  assert.equal(before - free(), 1 + 1);
  reserve.note({ op: "process-end", pid: 3 });
  reserve.close(2, { layouts: [first], segments: [] }, false);
  assert.equal(free(), before);
});

test("what nobody sets aside counts by the pages that come for it, until they are applied", () => {
  const reserve = new HugeReserve();
  const before = free();
  const areas = [area(100, 1000, own, AREA_FLAG.noReserve)];
  reserve.note({ op: "layout", pid: 2, areas, fresh: [] });
  for (const at of [101, 101, 500]) reserve.note({ op: "pages", pid: 2, bytes: pagesAt(at) });
  reserve.close(1, NOTHING, false);
  assert.equal(before - free(), 2);
  reserve.note({ op: "pages", pid: 2, bytes: pagesAt(501) });
  reserve.close(2, NOTHING, false);
  assert.equal(before - free(), 3);
  reserve.release();
  reserve.applied(1, { layouts: [areas], segments: [] });
  assert.equal(before - free(), 1);
  // Applied ones are there.
  reserve.note({ op: "pages", pid: 2, bytes: pagesAt(101) });
  reserve.applied(2, { layouts: [areas], segments: [] });
  assert.equal(free(), before);
});

test("too few are told of by name", () => {
  const reserve = new HugeReserve();
  const before = free();
  reserve.note({ op: "layout", pid: 2, areas: [area(100, before + 1, own)], fresh: [] });
  assert.throws(() => reserve.close(1, NOTHING, false), { code: "huge-pages-lacking" });
  assert.equal(free(), before);
});
