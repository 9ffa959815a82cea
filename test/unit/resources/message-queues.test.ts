/** Message queues: how their messages are read from the kernel's memory, and that limits are left alone that are right already. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { after, before, mock, test } from "node:test";
import { call, closeDescriptor } from "../../../src/kernel/calls.ts";
import { KernelMemory } from "../../../src/kernel/kernel-memory.ts";
import { inIpcNamespace, openNamespace } from "../../../src/kernel/namespace.ts";
import {
  readLimits as readPosixLimits,
  writeLimits as writePosixLimits,
} from "../../../src/resources/mqueue/namespace.ts";
import { messagesOf, sendAll } from "../../../src/resources/msgqueue/content.ts";
import { readLimits, writeLimits } from "../../../src/resources/msgqueue/limits.ts";
import { IPC_CREATE } from "../../../src/resources/sysv.ts";

const IPC_PRIVATE = 0;
/** Around what is read with the head, what a page takes, and what two take. */
const SIZES = [0, 1, 463, 464, 465, 3000, 4047, 4048, 4049, 8135, 8136, 8137, 12_000];
const SMALL_MESSAGES = 1000;
const canRead = KernelMemory.tryOpen() !== undefined;
let namespace = -1;

before(async () => {
  const holder = spawn("unshare", ["-i", "sh", "-c", "echo ready; exec sleep 60"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await new Promise((resolve) => holder.stdout.once("data", resolve));
  namespace = openNamespace(`/proc/${holder.pid}/ns/ipc`);
  holder.kill("SIGKILL");
});
after(() => closeDescriptor(namespace));

function message(type: number, bytes: number): Buffer {
  const one = Buffer.alloc(8 + bytes, type);
  one.writeBigInt64LE(BigInt(type));
  return one;
}

/** A new queue with them. */
function queueOf(messages: Buffer[]): number {
  writeLimits({ messageBytes: 1 << 16, queueBytes: 1 << 20 });
  const id = call("msgget", IPC_PRIVATE, IPC_CREATE | 0o600);
  sendAll(id, messages);
  return id;
}

test("messages of all sizes", { skip: !canRead }, () =>
  inIpcNamespace(namespace, () => {
    const messages = SIZES.map((bytes, i) => message(i + 1, bytes));
    const id = queueOf(messages);
    assert.deepEqual(messagesOf(id, messages.length), messages);
  }),
);

test("a small message is one read, and a list ends where it must", { skip: !canRead }, () =>
  inIpcNamespace(namespace, () => {
    const messages = Array.from({ length: SMALL_MESSAGES }, (_, i) => message(i + 1, 16));
    const id = queueOf(messages);
    const reads = mock.method(KernelMemory.prototype, "read");
    try {
      assert.equal(messagesOf(id, SMALL_MESSAGES).length, SMALL_MESSAGES);
      // Those whose place goes over the end of a page take a second one.
      assert.ok(reads.mock.callCount() < 1.2 * SMALL_MESSAGES, `${reads.mock.callCount()} reads`);
    } finally {
      reads.mock.restore();
    }
    assert.throws(() => messagesOf(id, SMALL_MESSAGES - 1), RangeError);
  }),
);

test("limits that are right already are not written", () =>
  inIpcNamespace(namespace, () => {
    const writes = mock.method(fs, "writeFileSync", () => assert.fail("written"));
    syncBuiltinESMExports();
    try {
      writeLimits(readLimits());
      writePosixLimits(readPosixLimits());
    } finally {
      writes.mock.restore();
      syncBuiltinESMExports();
    }
  }));
