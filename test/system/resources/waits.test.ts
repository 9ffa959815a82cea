/** Calls with a time limit: stops and lives leave them the time that is left, neither more nor less. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { testPrograms } from "../../support/events.ts";
import { closeHosts, runProgram } from "../../support/local-clone.ts";
import { buildPrograms, programPath } from "../../support/programs.ts";

/** For so long the original waits, and so late the clone may be. Whole limits once more would be later. */
const LIMIT_MS = 3000;
const ORIGINAL_MS = 2000;
const SLACK_MS = 1500;
const STOP_EVERY_MS = 50;

before(buildPrograms);
after(closeHosts);

const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));

testPrograms("calls with a time limit", [
  { program: "thread/timed", dumps: 20 },
  { program: "thread/left", dumps: 20 },
  { program: "thread/woken" },
]);

test("a clone's calls end when the original's would have ended", async (t) => {
  let life = await runProgram(programPath("thread/left"), [String(LIMIT_MS), String(SLACK_MS)]);
  t.after(() => life.close());
  assert.equal(await life.line(0), "ready");
  const begun = performance.now();
  while (performance.now() - begun < ORIGINAL_MS) {
    await life.checkpoint();
    await pause(STOP_EVERY_MS);
  }
  life = await life.liveOnCloneAndKillOriginal();
  assert.equal(await life.check(), "ok");
});
