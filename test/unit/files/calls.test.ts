/** Every call that writes to a file reaches the clone, also those that take their bytes from elsewhere. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { addressOf, call } from "../../../src/kernel/calls.ts";
import { type Pair, started, twice } from "./pair.ts";

const SIZE = 300_000;
const OFFSET = 70_001;
const LENGTH = 100_003;

/** `body` writes LENGTH bytes of a source at OFFSET into a file that the clone has. */
function writes(name: string, body: (from: number, to: number, pair: Pair) => void): void {
  twice(name, async (pair) => {
    const [source, target] = ["source", "target"].map((file) => `${pair.primary.root}/${file}`) as [string, string];
    fs.writeFileSync(source, Buffer.alloc(SIZE, "where the bytes come from "));
    fs.writeFileSync(target, Buffer.alloc(SIZE, 1));
    await started(pair);
    pair.cut();
    const [from, to] = [fs.openSync(source, "r"), fs.openSync(target, "r+")];
    body(from, to, pair);
    fs.closeSync(from);
    fs.closeSync(to);
    const written = fs.readFileSync(target).subarray(OFFSET, OFFSET + LENGTH);
    assert.ok(written.equals(fs.readFileSync(source).subarray(0, LENGTH)), "it was written at all");
    pair.cut();
  });
}

const offsetOf = (value: number) => {
  const offset = Buffer.alloc(8);
  offset.writeBigInt64LE(BigInt(value));
  return offset;
};

writes("sendfile", (from, to) => {
  call("lseek", to, OFFSET, 0);
  assert.equal(call("sendfile", to, from, null, LENGTH), LENGTH);
});

writes("copy_file_range", (from, to) => {
  assert.equal(call("copy_file_range", from, offsetOf(0), to, offsetOf(OFFSET), LENGTH, 0), LENGTH);
});

writes("splice", (from, to) => {
  const ends = Buffer.alloc(8);
  call("pipe2", ends, 0);
  const [reader, writer] = [ends.readInt32LE(0), ends.readInt32LE(4)];
  const [inAt, outAt] = [offsetOf(0), offsetOf(OFFSET)];
  for (let left = LENGTH; left > 0; ) {
    const n = call("splice", from, inAt, writer, null, Math.min(left, 60_000), 0);
    for (let out = n; out > 0; ) out -= call("splice", reader, null, to, outAt, out, 0);
    left -= n;
  }
  fs.closeSync(reader);
  fs.closeSync(writer);
});

writes("pwritev", (from, to) => {
  const bytes = Buffer.alloc(LENGTH);
  fs.readSync(from, bytes, 0, LENGTH, 0);
  assert.equal(fs.writevSync(to, [bytes.subarray(0, 1000), bytes.subarray(1000)], OFFSET), LENGTH);
});

const IOCB_BYTES = 64;
const IO_EVENT_BYTES = 32;
const IOCB_CMD_PWRITE = 1;

/** struct iocb of linux/aio_abi.h */
function writeRequest(fd: number, bytes: Buffer, at: number): Buffer {
  const request = Buffer.alloc(IOCB_BYTES);
  request.writeUInt16LE(IOCB_CMD_PWRITE, 16);
  request.writeUInt32LE(fd, 20);
  request.writeBigUInt64LE(BigInt(addressOf(bytes)), 24);
  request.writeBigUInt64LE(BigInt(bytes.length), 32);
  request.writeBigInt64LE(BigInt(at), 40);
  return request;
}

/** All at once; resolves when the kernel says that they are done. */
function submit(requests: Buffer[]): void {
  const context = Buffer.alloc(8);
  call("io_setup", requests.length, context);
  const handle = Number(context.readBigUInt64LE());
  const list = Buffer.alloc(8 * requests.length);
  for (const [i, request] of requests.entries()) list.writeBigUInt64LE(BigInt(addressOf(request)), 8 * i);
  const events = Buffer.alloc(IO_EVENT_BYTES * requests.length);
  assert.equal(call("io_submit", handle, requests.length, list), requests.length);
  assert.equal(call("io_getevents", handle, requests.length, requests.length, events, null), requests.length);
  call("io_destroy", handle);
}

writes("io_submit", (from, to) => {
  const bytes = Buffer.alloc(LENGTH);
  fs.readSync(from, bytes, 0, LENGTH, 0);
  submit([
    writeRequest(to, bytes.subarray(0, 40_000), OFFSET),
    writeRequest(to, bytes.subarray(40_000), OFFSET + 40_000),
  ]);
});

const PAGE = 4096;

twice("io_submit past the page cache", async (pair) => {
  const path = `${pair.primary.root}/direct`;
  fs.writeFileSync(path, Buffer.alloc(1 << 20, 3));
  await started(pair);
  pair.cut();
  const memory = Buffer.allocUnsafeSlow(9 * PAGE).fill(9);
  const aligned = memory.subarray((PAGE - (addressOf(memory) % PAGE)) % PAGE);
  const fd = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_DIRECT);
  submit([0, 1, 2, 3].map((i) => writeRequest(fd, aligned.subarray(0, 2 * PAGE), i * 64 * PAGE)));
  fs.closeSync(fd);
  assert.equal(fs.readFileSync(path)[64 * PAGE], 9);
  pair.cut();
});
