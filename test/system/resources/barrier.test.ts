/** A thread that cannot be stopped now: the barrier gives up in time, the application does not notice, the next one succeeds. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { closeHosts, runProgram } from "../../support/local-clone.ts";
import { buildPrograms, programPath } from "../../support/programs.ts";

before(buildPrograms);
after(closeHosts);

test("a vfork whose child takes its time", async (t) => {
  let life = await runProgram(programPath("process/vfork"));
  t.after(() => life.close());
  assert.equal(await life.line(0), "ready");
  assert.equal((await life.checkpoint()).error, undefined);
  process.kill(life.pid, "SIGUSR1");
  assert.equal(await life.line(1), "child");
  const { error } = await life.checkpoint({ stopTimeoutUs: 100_000 });
  assert.equal(error, "barrier-timeout");
  assert.equal(await life.line(2), "ok");
  assert.equal((await life.checkpoint()).error, undefined);
  life = await life.liveOnCloneAndKillOriginal();
  process.kill(life.pid, "SIGUSR1");
  assert.equal(await life.line(4), "ok");
});

/** Threads that wait: for ever, with a limit that the kernel keeps, with one that it forgets. */
for (const program of ["thread/interrupted", "thread/timed"])
  test(`${program} does not notice stops that are given up before all stand still`, async (t) => {
    const life = await runProgram(programPath(program));
    t.after(() => life.close());
    assert.equal(await life.line(0), "ready");
    let givenUp = 0;
    for (let i = 0; i < 60; i++) {
      const { error } = await life.checkpoint(i % 3 === 0 ? {} : { noPreDump: true, stopTimeoutUs: 1 });
      if (error === "barrier-timeout") givenUp++;
    }
    assert.ok(givenUp > 0, "none was given up");
    assert.equal(await life.check(), "ok");
  });

test("an application that vforks all the time is stopped each time", async (t) => {
  let life = await runProgram(programPath("process/vforking"));
  t.after(() => life.close());
  assert.equal(await life.line(0), "ready");
  for (let i = 0; i < 40; i++) assert.equal((await life.checkpoint()).error, undefined);
  assert.equal(await life.check(), "ok");
  life = await life.liveOnCloneAndKillOriginal();
  assert.equal(await life.check(), "ok");
});

test("children that are gone before their birth is told of are not followed", async (t) => {
  const life = await runProgram(programPath("process/vforking"));
  t.after(() => life.close());
  assert.equal(await life.line(0), "ready");
  await new Promise((done) => setTimeout(done, 1000));
  const { length } = await life.processes();
  assert.ok(length < 20, `${length} processes`);
});

/** So long after its birth a process is looked at again in each stop, whatever was asked before. */
const YOUNG_MS = 500;

test("many processes are watched in several stops, and asked before the first checkpoint's", async (t) => {
  const children = 'for i in $(seq 100); do sleep 1000 & done; echo ready; trap "echo ok" USR1; while :; do wait; done';
  const life = await runProgram("/bin/sh", ["-c", children]);
  t.after(() => life.close());
  assert.equal(await life.line(0), "ready");
  await new Promise((done) => setTimeout(done, YOUNG_MS));
  const first = await life.checkpoint();
  assert.deepEqual([first.error, first.unasked], [undefined, 0]);
  assert.ok(first.watchingPauses > 0, "all in one stop");
  assert.equal(await life.check(), "ok");
  const clone = await life.liveOnCloneAndKillOriginal();
  t.after(() => clone.close());
  assert.equal(await clone.check(), "ok");
  assert.equal((await clone.processes()).length, 101);
});

test("an end in the middle of everything leaves nothing to wait for", async (t) => {
  const life = await runProgram(programPath("process/moving"));
  t.after(() => life.close());
  assert.equal(await life.line(0), "ready");
  await life.checkpoint();
  process.kill(life.pid, "SIGKILL");
  for (let i = 0; i < 20 && (await life.processes()).some(({ virtualPid }) => virtualPid === 2); i++)
    await life.checkpoint();
  const { error, gone } = await life.checkpoint();
  assert.equal(error, undefined);
  assert.ok(
    (await life.processes()).every(({ virtualPid }) => virtualPid !== 2),
    `gone: ${gone}`,
  );
});
