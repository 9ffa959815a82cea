/** What cannot be copied is refused by name, and the program that has it goes on. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { after, before, test } from "node:test";
import { closeHosts, runProgram } from "../../support/local-clone.ts";

const root = resolve(import.meta.dirname, "../../..");
const program = (name: string) => resolve(root, "build/refused", name);

before(() => {
  for (const name of ["memory", "sharing", "sockets"]) {
    mkdirSync(dirname(program(name)), { recursive: true });
    const source = resolve(import.meta.dirname, `${name}.c`);
    execFileSync("gcc", ["-O1", "-Wall", "-I", resolve(root, "test/programs"), "-o", program(name), source]);
  }
});
after(closeHosts);

const HUGE = /unprotectable-huge-pages|has huge pages of a memfd, mapped private/;
const SHARED = /unprotectable-sharing|of the application share their/;
const OWN = /unprotectable-own-table|of its own/;
const FILTER = /unprotectable-socket-filter|has a filter on the TCP socket/;
const KEYS = /unprotectable-tcp-keys|signs what it sends/;
const GUARDED = /unprotectable-guarded-memory|has shared memory with content under a guard/;

for (const [name, kind, what] of [
  ["memory", "huge-copy", HUGE] as const,
  ["memory", "guarded", GUARDED] as const,
  ...["memory", "descriptors", "directory"].map((kind) => ["sharing", kind, SHARED] as const),
  ...["own-descriptors", "own-directory"].map((kind) => ["sharing", kind, OWN] as const),
  ["sockets", "filter", FILTER] as const,
  ["sockets", "keys", KEYS] as const,
])
  test(`what cannot be copied, ${name} ${kind}`, async () => {
    await using life = await runProgram(program(name), [kind]);
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
