/** In which states a stop finds a thread that tries to put a guard up, again and again. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { guardUnderWay, RECORD_BYTES } from "../../../src/kernel/trace.ts";

/** Of a thread's record; see REGISTER in kernel/trace.ts. */
const AT = { rax: 80, rdx: 96, rsi: 104, rdi: 112, origRax: 120 };
const MADVISE = 28n;
const ERESTARTNOINTR = -513n;
const call = { rdx: 102n, rsi: 4096n, rdi: 0x7f0000000000n };

function recordOf(registers: Partial<Record<keyof typeof AT, bigint>>): Buffer {
  const record = Buffer.alloc(RECORD_BYTES);
  for (const [name, value] of Object.entries(registers)) record.writeBigInt64LE(value, AT[name as keyof typeof AT]);
  return record;
}

const range = [0x7f0000000000, 0x7f0000001000];

test("in the kernel, wound back by it, and about to enter", () => {
  assert.deepEqual(guardUnderWay(recordOf({ ...call, origRax: MADVISE, rax: ERESTARTNOINTR })), range);
  assert.deepEqual(guardUnderWay(recordOf({ ...call, origRax: MADVISE, rax: MADVISE })), range);
  assert.deepEqual(guardUnderWay(recordOf({ ...call, origRax: -1n, rax: MADVISE })), range);
});

test("not when it is done, nor with another advice or another call", () => {
  assert.equal(guardUnderWay(recordOf({ ...call, origRax: MADVISE, rax: 0n })), undefined);
  assert.equal(guardUnderWay(recordOf({ ...call, origRax: MADVISE, rax: ERESTARTNOINTR, rdx: 4n })), undefined);
  assert.equal(guardUnderWay(recordOf({ ...call, origRax: 9n, rax: ERESTARTNOINTR })), undefined);
});
