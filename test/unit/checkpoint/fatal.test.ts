/** Which waiting signals end a process as soon as it runs, so that nobody shall go on from that instant. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { fatalSignal } from "../../../src/resources/process/fatal.ts";
import { ACTION_BYTES, SIGNALS } from "../../../src/resources/process/inner.ts";

const [ABRT, KILL, SEGV, TERM, CHLD] = [6, 9, 11, 15, 17];

function siginfo(signal: number): Buffer {
  const info = Buffer.alloc(128);
  info.writeInt32LE(signal);
  return info;
}

/** Handlers by signal; others are left to their default. */
function actions(handlers: Record<number, bigint> = {}): Buffer {
  const all = Buffer.alloc(SIGNALS * ACTION_BYTES);
  for (const [signal, handler] of Object.entries(handlers))
    all.writeBigUInt64LE(handler, (Number(signal) - 1) * ACTION_BYTES);
  return all;
}

const blocking = (...signals: number[]) => signals.reduce((mask, signal) => mask | (1n << BigInt(signal - 1)), 0n);

it("a crash that waits", () => {
  assert.equal(fatalSignal([siginfo(CHLD), siginfo(SEGV)], actions(), 0n), SEGV);
  assert.equal(fatalSignal([siginfo(KILL)], actions(), 0n), KILL);
});

it("not what is blocked, caught or ignored, nor what ends a program on purpose or not at all", () => {
  assert.equal(fatalSignal([siginfo(SEGV)], actions(), blocking(SEGV)), undefined);
  assert.equal(fatalSignal([siginfo(ABRT)], actions({ [ABRT]: 0x55550000n }), 0n), undefined);
  assert.equal(fatalSignal([siginfo(ABRT)], actions({ [ABRT]: 1n }), 0n), undefined);
  assert.equal(fatalSignal([siginfo(TERM), siginfo(CHLD)], actions(), 0n), undefined);
  assert.equal(fatalSignal([], actions(), 0n), undefined);
});
