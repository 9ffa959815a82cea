/** Clocks of a process in a time namespace of its own, as this process reads them. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { clocksAhead, clocksOf, ownClocks } from "../../../src/kernel/clocks.ts";

test("a process's clocks are its namespace's, whatever this process's are", async () => {
  const namespace = ["--time", "--fork", "--monotonic", "1000", "--boottime", "-20"];
  const child = spawn("unshare", [...namespace, "sh", "-c", "echo $$; read line"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  try {
    const [text] = await once(child.stdout, "data");
    const pid = Number(String(text));
    assert.deepEqual(clocksAhead(pid), { monotonic: 1_000_000_000_000n, boottime: -20_000_000_000n });
    const before = ownClocks();
    const theirs = clocksOf(pid);
    const after = ownClocks();
    for (const [clock, ahead] of [
      ["monotonic", 1_000_000_000_000n],
      ["boottime", -20_000_000_000n],
    ] as const)
      assert.ok(theirs[clock] - ahead >= before[clock] && theirs[clock] - ahead <= after[clock], clock);
  } finally {
    child.stdin.end();
    await once(child, "exit");
  }
});

test("this process's own are not ahead", () => {
  assert.deepEqual(clocksAhead(process.pid), { monotonic: 0n, boottime: 0n });
});
