/** Memory that cannot be copied is refused by name, and the program that has it goes on. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { closeHosts, runProgram } from "../../support/local-clone.ts";
import { buildPrograms, programPath } from "../../support/programs.ts";

before(buildPrograms);
after(closeHosts);

for (const kind of ["private", "shared", "memfd", "segment"])
  test(`huge pages, ${kind}`, async () => {
    await using life = await runProgram(programPath("memory/huge"), [kind]);
    assert.equal(await life.line(0), "ready");
    const refusal = await life.checkpoint().then(
      ({ error }) => error,
      (error: Error) => error.message,
    );
    assert.match(refusal ?? "", /unprotectable-huge-pages|has huge pages/);
    assert.equal(await life.check(), "ok");
  });
