/** Frames: split anywhere they come together again; damaged, lost or repeated ones are noticed by the end of the checkpoint. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type CheckpointEnd, IMAGE_VERSION } from "../../../src/checkpoint/operations.ts";
import { OperatingError } from "../../../src/kernel/failure.ts";
import { FrameReader, FrameWriter, type Message } from "../../../src/replication/frames.ts";
import { LIMITS } from "../../../src/replication/limits.ts";

function end(epoch: number): Message {
  const body: CheckpointEnd = {
    version: IMAGE_VERSION,
    epoch,
    term: 1,
    at: "2026-01-01T00:00:00.000Z",
    stopUs: 100,
    pages: 1,
    bytes: 1,
    changed: [["thread/2/2", { kind: "thread", version: 1, state: { record: Buffer.from("registers") } }]],
    gone: ["description/7"],
    clock: "123456789012345678",
    final: false,
  };
  return { type: "end", end: body, digest: 0 };
}

const write = (path: string, at: number, bytes: Buffer): Message => ({
  type: "operation",
  operation: { op: "file", change: { type: "write", path, at, bytes } },
});

const operation = fc.oneof(
  fc
    .tuple(fc.nat(1000), fc.uint8Array({ maxLength: 300 }))
    .map(
      ([pid, bytes]): Message => ({ type: "operation", operation: { op: "pages", pid, bytes: Buffer.from(bytes) } }),
    ),
  fc
    .tuple(fc.string({ unit: "binary-ascii", minLength: 1 }), fc.nat(2 ** 40), fc.uint8Array({ maxLength: 300 }))
    .map(([name, at, bytes]): Message => write(`/${name}\xff`, at, Buffer.from(bytes))),
  fc.nat(1000).map((pid): Message => ({ type: "operation", operation: { op: "process-end", pid } })),
  fc.constant<Message>({ type: "heartbeat" }),
);
const conversation = fc
  .array(fc.array(operation, { maxLength: 5 }), { minLength: 1, maxLength: 4 })
  .map((epochs) => epochs.flatMap((list, i) => [...list, end(i + 1)]));

function encodeAll(messages: Message[]): Buffer[] {
  const writer = new FrameWriter();
  return messages.map((message) => Buffer.concat(writer.encode(message)));
}

function readAll(parts: Buffer[]): Message[] {
  const reader = new FrameReader();
  return parts.flatMap((part) => (reader.absorb(part) ? [] : [...reader.feed(part)]));
}

/** Digests differ from what was given to the writer: it fills them in. */
/** Without what a writer fills in, and what is this side's own. */
const plain = (messages: Message[]): Message[] =>
  messages.map((message) => {
    if (message.type === "end") return { ...message, digest: 0 };
    if (message.type !== "operation" || message.operation.op !== "pages") return message;
    const { op, pid, bytes } = message.operation;
    return { type: "operation", operation: { op, pid, bytes } };
  });

const isDamage = (error: unknown) => error instanceof OperatingError && error.code === "stream-damaged";

test("split at any bytes, the messages come out as they went in", () => {
  fc.assert(
    fc.property(conversation, fc.array(fc.nat()), (messages, cuts) => {
      const whole = Buffer.concat(encodeAll(messages));
      const at = [0, ...cuts.map((cut) => cut % (whole.length + 1)).sort((a, b) => a - b), whole.length];
      const parts = at.slice(1).map((to, i) => whole.subarray(at[i]!, to));
      assert.deepEqual(plain(readAll(parts)), plain(messages));
    }),
  );
});

test("byte by byte", () => {
  const whole = Buffer.concat(encodeAll([{ type: "heartbeat" }, end(1)]));
  assert.equal(readAll([...whole].map((byte) => Buffer.of(byte))).length, 2);
});

test("what is written to a file comes in room that is used again once it is given back", () => {
  const reader = new FrameReader();
  const writer = new FrameWriter();
  const take = (fill: number) => {
    const frame = Buffer.concat(writer.encode(write("/large", 2 ** 40, Buffer.alloc(100_000, fill))));
    const [message] = [...reader.feed(frame)];
    assert(
      message?.type === "operation" && message.operation.op === "file" && message.operation.change.type === "write",
    );
    const { change } = message.operation;
    assert.deepEqual([change.path, change.at, change.bytes.length], ["/large", 2 ** 40, 100_000]);
    assert(change.bytes.every((byte) => byte === fill));
    return change;
  };
  const [first, second] = [take(1), take(2)];
  assert(first.bytes[0] === 1 && first.bytes.buffer !== second.bytes.buffer, "not given back, it stays as it is");
  first.release!();
  assert.equal(take(3).bytes.buffer, first.bytes.buffer);
});

test("a changed byte of the content is noticed at the latest at the end of its checkpoint", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 1, maxLength: 200 }),
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      (bytes, where, change) => {
        const pages: Message = { type: "operation", operation: { op: "pages", pid: 2, bytes: Buffer.from(bytes) } };
        const [first, second] = encodeAll([pages, end(1)]);
        const altered = Buffer.from(first!);
        altered[9 + (where % bytes.length)]! ^= change;
        assert.throws(() => readAll([altered, second!]), isDamage);
      },
    ),
  );
});

test("a lost, a repeated and an exchanged operation are noticed", () => {
  const pages = (text: string): Message => ({
    type: "operation",
    operation: { op: "pages", pid: 2, bytes: Buffer.from(text) },
  });
  const [a, b, c] = encodeAll([pages("one"), pages("two"), end(1)]) as [Buffer, Buffer, Buffer];
  assert.equal(readAll([a, b, c]).length, 3);
  for (const parts of [
    [a, c],
    [b, c],
    [a, a, b, c],
    [a, b, b, c],
    [b, a, c],
  ])
    assert.throws(() => readAll(parts), isDamage);
});

test("a repeated checkpoint is noticed", () => {
  const [first, second] = encodeAll([end(1), end(2)]) as [Buffer, Buffer];
  assert.throws(() => readAll([first, first]), isDamage);
  assert.throws(() => readAll([second]), isDamage);
});

test("a truncated frame yields nothing, what follows in its place is damage", () => {
  const [frame] = encodeAll([end(1)]) as [Buffer];
  assert.deepEqual(readAll([frame.subarray(0, frame.length - 1)]), []);
  assert.throws(() => readAll([frame.subarray(0, frame.length - 3), frame]), isDamage);
});

test("unknown types, endless frames and nonsense are damage", () => {
  const head = (length: number, type: number) => {
    const bytes = Buffer.alloc(5);
    bytes.writeUInt32LE(length, 0);
    bytes.writeUInt8(type, 4);
    return bytes;
  };
  assert.throws(() => readAll([head(LIMITS.frameBytes + 1, 1)]), isDamage);
  assert.throws(() => readAll([head(1, 9), Buffer.of(0)]), isDamage);
  assert.throws(() => readAll([head(2, 2), Buffer.of(0, 0)]), isDamage);
  assert.throws(() => readAll([head(1, 1), Buffer.of(0xc1)]), isDamage);
  assert.throws(() => readAll([head(1, 1), Buffer.of(5)]), isDamage);
});

test("random bytes are messages or damage, never anything else", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      try {
        readAll([Buffer.from(bytes)]);
      } catch (error) {
        assert.ok(isDamage(error), String(error));
      }
    }),
    { numRuns: 500 },
  );
});
