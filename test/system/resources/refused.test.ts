/** Memory that cannot be copied is refused by name, and the program that has it goes on. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { after, before, test } from "node:test";
import { closeHosts, runProgram } from "../../support/local-clone.ts";

const root = resolve(import.meta.dirname, "../../..");
const program = resolve(root, "build/refused/refused");

before(() => {
  mkdirSync(dirname(program), { recursive: true });
  const source = resolve(import.meta.dirname, "refused.c");
  execFileSync("gcc", ["-O1", "-Wall", "-I", resolve(root, "test/programs"), "-o", program, source]);
});
after(closeHosts);

const HUGE = /unprotectable-huge-pages|has huge pages of a memfd, mapped private/;
const GUARDED = /unprotectable-guarded-memory|has shared memory with content under a guard/;

for (const [kind, what] of [
  ["huge-copy", HUGE],
  ["guarded", GUARDED],
] as const)
  test(`memory that cannot be copied, ${kind}`, async () => {
    await using life = await runProgram(program, [kind]);
    assert.equal(await life.line(0), "ready");
    // The second time too: nothing of it counts as seen.
    for (const time of ["first", "second"]) assert.match(await refusalOf(life), what, `${time} time`);
    assert.equal(await life.check(), "ok");
  });

async function refusalOf(life: Awaited<ReturnType<typeof runProgram>>): Promise<string> {
  return life.checkpoint().then(
    ({ error }) => error ?? "",
    (error: Error) => error.message,
  );
}
