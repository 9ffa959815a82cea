/** Unix sockets: what a clone's may take. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { queueLimitOf } from "../../../src/resources/unix/restore.ts";
import type { UnixState } from "../../../src/resources/unix/state.ts";

test("a socket takes as many datagrams as it did; where nobody tells, as many as any, and what waits", () => {
  const message = { content: Buffer.alloc(0), descriptors: [], from: Buffer.alloc(0), credentials: undefined };
  const state = (waiting: number, queueLimit?: number) =>
    ({ queue: Array(waiting).fill(message), ...(queueLimit !== undefined && { queueLimit }) }) as unknown as UnixState;
  assert.equal(queueLimitOf(state(1), 10), 10);
  assert.equal(queueLimitOf(state(0), 10), 10);
  assert.equal(queueLimitOf(state(12), 10), 12);
  assert.equal(queueLimitOf(state(1, 100), 10), 100);
  assert.equal(queueLimitOf(state(1, 0), 10), 0);
});
