/** The last checkpoint before a planned switch, with a capture that fails as told. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CheckpointLoop, type LoopOptions } from "../../../src/instance/checkpoint-loop.ts";
import { OperatingError } from "../../../src/kernel/failure.ts";

/** @param failures of the stops, one after the other; then they succeed */
async function lastCheckpoint(failures: Error[]): Promise<Array<Record<string, unknown>>> {
  const told: Array<Record<string, unknown>> = [];
  let underWay = 0;
  const options = {
    parts: { application: { period: "auto", commit: "checkpoint" }, term: 3 },
    shell: { tell: (event: Record<string, unknown>) => told.push(event), note: () => {} },
    standbys: {
      ready: () => [{ node: "b", phase: "following", link: { send: () => {} } }],
      joining: () => [],
      receivers: [],
    },
    underWay: { settledAll: async () => {}, add: () => underWay++, serve: () => {}, count: 2 },
    wakefulness: { sending: () => {}, isStale: false },
    output: { isFrozen: false, protectableAgain: () => {} },
    capture: {
      *preDump() {},
      dump: () => {
        const failure = failures.shift();
        if (failure) throw failure;
        return { end: { epoch: 7, changed: [], gone: [] }, all: [], programs: () => [] };
      },
    },
    figures: { checkpoint: () => {} },
  };
  const loop = new CheckpointLoop(options as unknown as LoopOptions);
  await loop.final();
  loop.close();
  const done = told.some(({ kind }) => kind === "finalCheckpointCut");
  assert.equal(underWay, done ? 1 : 0);
  assert.equal(options.output.isFrozen, done, "output waits exactly as long as a switch is under way");
  return told;
}

const lingers = () => new OperatingError("barrier-timeout", "1 of 6 threads did not stop within 100000 µs");

test("threads that cannot stop just now do not end a planned switch", async () => {
  const told = await lastCheckpoint([lingers(), new OperatingError("checkpoint-postponed", "Data wait"), lingers()]);
  assert.deepEqual(told, [{ kind: "finalCheckpointCut", epoch: 7 }]);
});

test("any other failure does, at once", async () => {
  const told = await lastCheckpoint([new OperatingError("unprotectable-device", "It has a device open")]);
  assert.deepEqual(told, [{ kind: "handOverFailed", reason: "It has a device open" }]);
});

test("nor do they for ever", { timeout: 30_000 }, async () => {
  const told = await lastCheckpoint(Array.from({ length: 1000 }, lingers));
  assert.deepEqual(told, [{ kind: "handOverFailed", reason: lingers().message }]);
});
