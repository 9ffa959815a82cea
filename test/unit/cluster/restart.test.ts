/** When a crash is restarted from what, and when probes are a hang. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { judgeProbe, type ProbeResult, startHealth } from "../../../src/cluster/health.ts";
import { decideRestart, isCrash, type RestartHistory } from "../../../src/cluster/restart.ts";
import { applicationDefaults } from "../../../src/cluster/spec.ts";

describe("a restart", () => {
  const policy = { on: "failure", steps: ["newest", "older", "cold"], within: 100 } as const;
  const decide = (history: RestartHistory, now: number, canGoOn = true) =>
    decideRestart({ ...policy, steps: [...policy.steps] }, history, canGoOn, now);

  it("goes on from the newest checkpoint first, then from an older one, then from nothing, then it has ended", () => {
    assert.deepEqual(decide([], 1000), { step: "newest", history: [1000] });
    assert.deepEqual(decide([1000], 2000), { step: "older", history: [1000, 2000] });
    assert.deepEqual(decide([1000, 2000], 3000), { step: "cold", history: [1000, 2000, 3000] });
    assert.deepEqual(decide([1000, 2000, 3000], 4000), {
      step: undefined,
      why: "it was restarted 3 times within 100 s",
    });
  });

  it("passes over what needs a standby when there is none", () => {
    assert.deepEqual(decide([], 1000, false), { step: "cold", history: [1000] });
    assert.deepEqual(decideRestart({ ...policy, steps: ["newest"] }, [], false, 1000), {
      step: undefined,
      why: "no standby is in sync",
    });
    // A loop of cold starts ends, too.
    assert.equal(decide([1000, 2000, 3000], 4000, false).step, undefined);
  });

  it("forgets what is longer ago than the window, and what a clock set back has put far ahead", () => {
    assert.deepEqual(decide([1000, 2000], 101_500), { step: "older", history: [2000, 101_500] });
    assert.equal(decide([1000, 2000], 200_000).step, "newest");
    assert.equal(decide([900_000, 901_000], 5000).step, "newest");
  });

  it("is only made where its owner wishes for it", () => {
    assert.equal(decideRestart(applicationDefaults.restart as never, [], true, 1).step, undefined);
  });

  it("is not made of a program that is ended on purpose", () => {
    assert.deepEqual([1, 2, 13, 15].map(isCrash), [false, false, false, false]);
    assert.deepEqual([4, 6, 7, 8, 9, 11, 31].map(isCrash), Array(7).fill(true));
  });
});

describe("a hang", () => {
  const spec = { ...applicationDefaults.health, probe: "tcp", failures: 3, grace: 10 } as const;
  const no: ProbeResult = { passed: false, why: "no answer" };
  const yes: ProbeResult = { passed: true };
  /** At which of the results, one a second from `begin` on, it comes to hang. */
  const hangsAt = (results: ProbeResult[], begin: number) => {
    let state = startHealth(0);
    return results.flatMap((result, index) => {
      const judged = judgeProbe(state, result, spec, begin + index * 1000);
      state = judged.state;
      return judged.hangs ? [index] : [];
    });
  };

  it("is so many failures in a row, told once", () => {
    assert.deepEqual(hangsAt([yes, no, no, yes, no, no, no, no, no], 0), [6]);
  });

  it("is none while the application starts, until it has passed once", () => {
    assert.deepEqual(hangsAt([no, no, no, no, no], 0), []);
    assert.deepEqual(hangsAt([no, no, no, no, no], 10_000), [2]);
    assert.deepEqual(hangsAt([yes, no, no, no], 0), [3]);
  });

  it("is not concluded from probes that say nothing", () => {
    assert.deepEqual(hangsAt([yes, no, "void", no, "void", "void", no], 0), [6]);
    assert.deepEqual(hangsAt([yes, "void", "void", "void", "void"], 0), []);
  });
});
