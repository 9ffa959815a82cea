/** A signal that reaches the application while it stands in a stop is part of the checkpoint: the clone gets it, once it lives. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { eventually } from "../../support/eventually.ts";
import { closeHosts, runProgram } from "../../support/local-clone.ts";

after(closeHosts);

for (const signal of ["SIGSEGV", "SIGTERM", "SIGCONT"] as const) {
  test(`${signal} in the stop reaches the clone`, { timeout: 60_000 }, async (t) => {
    let life = await runProgram("/bin/sleep", ["1000"]);
    t.after(() => life.close());
    await life.checkpoint();
    life = await life.liveOnCloneAndKillOriginal({ signalInMark: signal });
    const alive = async () => (await life.processes()).length > 0;
    if (signal === "SIGCONT") assert.ok(await alive());
    else await eventually("the signal has ended it", async () => !(await alive()));
  });
}
