/** Processes, signals, timers and identity through checkpoints and lives: test/programs/process. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { testPrograms } from "../../support/events.ts";
import { closeHosts, runProgram } from "../../support/local-clone.ts";
import { programPath } from "../../support/programs.ts";

after(closeHosts);

testPrograms("processes", [
  { program: "process/signals", idle: true },
  { program: "process/pending", idle: true },
  { program: "process/itimer" },
  { program: "process/tree" },
  { program: "process/orphans" },
  { program: "process/moving", dumps: 10 },
  { program: "process/exec" },
  { program: "process/upgraded", idle: true },
  { program: "process/identity", idle: true },
  { program: "process/scheduling" },
  { program: "process/posix-timers" },
  { program: "process/filters" },
  { program: "process/jobs" },
  { program: "process/places" },
  { program: "process/wandering", idle: true },
  { program: "time/clocks" },
  { program: "process/privileges", idle: true },
  { program: "process/areas" },
  { program: "process/memory-wide", idle: true },
  { program: "process/stopped" },
]);

/** So old is what nothing tells of before it is asked for anew: longer than this. */
const OLD_MS = 1200;

test("a working directory that was changed right before a checkpoint is in it", async (t) => {
  let life = await runProgram(programPath("process/wandering"));
  t.after(() => life.close());
  assert.equal(await life.line(0), "ready");
  await life.checkpoint();
  await new Promise((done) => setTimeout(done, OLD_MS));
  for (let i = 0; i < 3; i++) {
    await life.checkpoint();
    assert.equal(await life.check(), "ok");
  }
  life = await life.liveOnCloneAndKillOriginal({ final: false });
  assert.equal(await life.check(), "ok");
});
