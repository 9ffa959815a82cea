/** Memory of all kinds through checkpoints and lives: test/programs/memory. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { testPrograms } from "../../support/events.ts";
import { closeHosts, runProgram } from "../../support/local-clone.ts";
import { programPath } from "../../support/programs.ts";

testPrograms("memory", [
  { program: "memory/anonymous", idle: true },
  { program: "memory/highest" },
  { program: "memory/heap", idle: true },
  { program: "memory/discard", idle: true },
  { program: "memory/advice", idle: true },
  { program: "memory/locked", idle: true },
  { program: "memory/guards", idle: true },
  { program: "memory/guarding", dumps: 10 },
  { program: "memory/moving", dumps: 10 },
  { program: "memory/fuzz", args: ["1"], dumps: 6 },
  { program: "memory/fuzz", args: ["2"], dumps: 6 },
  { program: "memory/fuzz", args: ["3"], dumps: 6 },
  { program: "memory/reserved", idle: true },
  { program: "memory/stack", idle: true },
  { program: "memory/file", idle: true },
  { program: "memory/deleted", idle: true },
  { program: "memory/shared-coming" },
  { program: "memory/shared" },
  { program: "memory/shared-exit" },
  { program: "memory/shared-past" },
  { program: "memory/huge", idle: true },
  { program: "memory/huging", dumps: 10 },
  { program: "memory/huge-growing", idle: true },
]);

after(closeHosts);

/** More questions than the program lets pass without a guard put up between. */
const QUESTIONS = 6;

test("guards over shared memory that is watched", async () => {
  await using life = await runProgram(programPath("memory/guarding"));
  assert.equal(await life.line(0), "ready");
  for (let i = 0; i < QUESTIONS; i++) {
    assert.equal((await life.checkpoint()).error, undefined);
    assert.equal(await life.check(), "ok");
  }
});

test("shared memory that comes and goes leaves nothing on a clone", async () => {
  await using life = await runProgram(programPath("memory/shared-coming"));
  assert.equal(await life.line(0), "ready");
  const kept: number[] = [];
  for (let i = 0; i < 12; i++) {
    assert.equal(await life.check(), "ok");
    assert.equal((await life.checkpoint()).error, undefined);
    kept.push(await life.objects());
  }
  // Three are mapped, of one more the descriptor is open.
  assert.ok(Math.max(...kept) <= 4, `the clone kept ${kept.join(", ")} objects`);
});
