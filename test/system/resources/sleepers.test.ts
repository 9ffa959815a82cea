/** Threads that wait for long are left asleep by stops, and nothing that wakes them up is lost. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { eventually } from "../../support/eventually.ts";
import { closeHosts, type Life, runProgram } from "../../support/local-clone.ts";
import { buildPrograms, programPath } from "../../support/programs.ts";

before(buildPrograms);
after(closeHosts);

const THREADS = 48;

/** Checkpoints until all that wait are known to. */
async function untilAsleep(life: Life): Promise<void> {
  await eventually(
    "all asleep",
    async () => {
      const { error } = await life.checkpoint();
      if (error && !error.startsWith("barrier-")) assert.fail(error);
      return (await life.sleepers()) === THREADS;
    },
    60_000,
  );
}

test("work, gates and signals reach threads that stops leave asleep, in each life", async (t) => {
  let life = await runProgram(programPath("thread/sleepers"));
  t.after(() => life.close());
  assert.equal(await life.line(0), "ready");
  for (let lives = 0; lives < 2; lives++) {
    await untilAsleep(life);
    const { changed } = await life.checkpoint();
    assert.deepEqual(changed, [], "who sleeps has not changed");
    // Woken up between two stops, and while stops are made one after the other.
    assert.equal(await life.check(), "ok");
    await untilAsleep(life);
    const checked = life.check();
    for (let i = 0; i < 5; i++) await life.checkpoint();
    assert.equal(await checked, "ok");
    await untilAsleep(life);
    await life.checkpoint({ failInMark: true });
    assert.equal(await life.check(), "ok");
    await untilAsleep(life);
    life = await life.liveOnCloneAndKillOriginal();
    assert.equal(await life.check(), "ok");
  }
});
