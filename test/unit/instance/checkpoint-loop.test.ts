/** The last checkpoint before a planned switch, with a capture that fails as told. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CheckpointLoop, type LoopOptions } from "../../../src/instance/checkpoint-loop.ts";
import { OperatingError } from "../../../src/kernel/failure.ts";
import { eventually } from "../../support/eventually.ts";

/** @param failures of the stops, one after the other; then they succeed */
async function lastCheckpoint(failures: Error[], calledOff = false): Promise<Array<Record<string, unknown>>> {
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
    underWay: { settledAll: async () => {}, add: () => underWay++, serve: () => {} },
    wakefulness: { sending: () => {} },
    output: { isFrozen: false, protectableAgain: () => {} },
    capture: {
      restMs: 0,
      *preDump() {
        if (calledOff) options.output.isFrozen = false;
        yield;
      },
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

test("a planned switch that is off before its last checkpoint stops nothing", async () => {
  assert.deepEqual(await lastCheckpoint([], true), []);
});

test("any other failure does, at once", async () => {
  const told = await lastCheckpoint([new OperatingError("unprotectable-device", "It has a device open")]);
  assert.deepEqual(told, [{ kind: "handOverFailed", reason: "It has a device open" }]);
});

test("nor do they for ever", { timeout: 30_000 }, async () => {
  const told = await lastCheckpoint(Array.from({ length: 1000 }, lingers));
  assert.deepEqual(told, [{ kind: "handOverFailed", reason: lingers().message }]);
});

/** Far more than the shortest time between two, and less than an idle application has between its own. */
const IDLE_MS = 100;

/**
 * How many checkpoints are made of which none is acknowledged.
 * @param wanted so many at least
 * @param waits whether output waits that no checkpoint covers
 * @param isSilent after a silence
 * @param leftover after the first, a silence keeps what it covers from leaving
 */
async function unacknowledged(wanted: number, { waits = false, isSilent = false, leftover = false }): Promise<number> {
  let made = 0;
  const options = {
    parts: { application: { period: "auto", commit: "checkpoint" }, term: 3 },
    shell: { tell: () => {}, note: (_kind: string, message: string) => assert.fail(message) },
    standbys: {
      ready: () => [{ node: "b", phase: "following", link: { send: () => {} } }],
      joining: () => [],
      receivers: [],
    },
    underWay: {
      add: () => made++,
      serve: () => {},
      isRequested: false,
      get count() {
        return made;
      },
    },
    wakefulness: {
      sending: () => {},
      get isStale() {
        return leftover && made === 1;
      },
      wasSilent: isSilent,
    },
    output: {
      isFrozen: false,
      protectableAgain: () => {},
      waiting: waits ? { firstMs: 0, lastMs: 0 } : undefined,
      held: { firstMs: 0, lastMs: 0 },
    },
    capture: {
      restMs: 0,
      *preDump() {},
      dump: () => ({
        end: { epoch: made + 1, stopUs: 0, pages: 0, bytes: 0, changed: [], gone: [] },
        programs: () => [],
      }),
    },
    figures: { checkpoint: () => {} },
  };
  const loop = new CheckpointLoop(options as unknown as LoopOptions);
  void loop.run();
  await eventually("checkpoints", () => made >= wanted);
  await new Promise((done) => setTimeout(done, IDLE_MS));
  loop.close();
  return made;
}

test("two checkpoints are under way at a time, after a silence one", async () => {
  assert.equal(await unacknowledged(2, { waits: true }), 2);
  assert.equal(await unacknowledged(1, { waits: true, isSilent: true }), 1);
});

test("what a silence has kept from leaving is let go by a checkpoint made at once, not by the next that is due", async () => {
  // An idle application's next one is due 200 ms after; a busy machine may be late, but not each time.
  await eventually("a checkpoint made at once", async () => {
    const begun = performance.now();
    await unacknowledged(2, { leftover: true });
    return performance.now() - begun < 2 * IDLE_MS;
  });
});
