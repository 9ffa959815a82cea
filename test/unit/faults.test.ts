/** The plan of faults follows from its seed; the judge bites; docs/faults.md tells of every fault and phase, also of what was not run. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, test } from "node:test";
import type { CounterResult } from "../../workload/messages.ts";
import { claims, Terms, worstSilenceMs, wrongIn } from "../faults/judge.ts";
import { faultsPage, key, type Table, tableOf } from "../faults/page.ts";
import { FAULT_NAMES, PHASE_NAMES, pairs, planOf } from "../faults/plan.ts";

const ETCD = { store: "etcd" } as const;

describe("the plan", () => {
  test("a seed is always the same fault", () => {
    for (let seed = 0; seed < 50; seed++) assert.deepEqual(planOf(seed, ETCD), planOf(seed, ETCD));
  });

  test("as many seeds as there are pairs bring each pair once", () => {
    const all = pairs(ETCD).length;
    assert.equal(all, FAULT_NAMES.length * PHASE_NAMES.length);
    const found = Array.from({ length: all }, (_, i) => planOf(3 * all + i, ETCD));
    assert.equal(new Set(found.map(({ fault, phase }) => key(fault, phase))).size, all);
  });

  test("both victims, every place of a switch and both directions come", () => {
    const found = Array.from({ length: 500 }, (_, seed) => planOf(seed, ETCD));
    assert.deepEqual([...new Set(found.map(({ victim }) => victim))].sort(), ["primary", "standby"]);
    assert.equal(new Set(found.map(({ outward }) => outward)).size, 2);
    const switches = found.filter(({ phase }) => phase === "switch").map(({ halt }) => `${halt?.who} ${halt?.place}`);
    assert.equal(new Set(switches).size, 7, "six places, and moments of chance");
  });

  test("without members of a store, none is lost", () => {
    assert.ok(pairs({ store: "sqlite" }).every(({ fault }) => !fault.startsWith("store")));
  });
});

describe("the judge", () => {
  const good: CounterResult = {
    connections: 2,
    connectionsBroken: 0,
    writesAcknowledged: 10,
    writesMissing: 0,
    writesUnverified: 0,
    valuesUnexpected: 0,
    readsVerified: 10,
    errorReplies: 0,
    answerMs: { count: 20, median: 1, p90: 1, p99: 1, p999: 1, worst: 1, mean: 1 } as never,
    windows: [],
    findings: [],
  };
  test("finds nothing in a good history, and each thing that may be wrong with one", () => {
    assert.deepEqual(wrongIn(good), []);
    const faults = [
      "connectionsBroken",
      "writesMissing",
      "writesUnverified",
      "valuesUnexpected",
      "errorReplies",
    ] as const;
    for (const name of faults) assert.match(wrongIn({ ...good, [name]: 3 }).join(), /^3 /, name);
    assert.equal(wrongIn({ ...good, writesAcknowledged: 0 }).length, 1);
  });

  test("two primaries in one term are found, also when they were never seen at once", () => {
    const terms = new Terms();
    assert.equal(terms.claimed({ node: "a", term: 1 }), undefined);
    assert.equal(terms.claimed({ node: "b", term: 2 }), undefined);
    assert.equal(terms.claimed({ node: "a", term: 1 }), undefined);
    assert.match(terms.claimed({ node: "b", term: 1 }) ?? "", /both are primary in term 1/);
  });

  test("who only starts, or stands by, claims nothing", () => {
    assert.ok(claims({ role: "primary", state: "running" }) && claims({ role: "primary", state: "going-live" }));
    assert.ok(!claims({ role: "primary", state: "starting" }) && !claims({ role: "standby", state: "ready" }));
  });

  test("silence counts from the fault on", () => {
    const window = (name: string, silenceMs: number) => ({ name, silenceMs }) as CounterResult["windows"][number];
    const windows = [window("start", 900), window("fault", 12.4), window("waited", 80.2)];
    assert.equal(worstSilenceMs({ ...good, windows }, "fault"), 80);
  });
});

describe("docs/faults.md (npm run test:faults -- --page mends it; -- --write runs it)", () => {
  const page = readFileSync(resolve(import.meta.dirname, "../../docs/faults.md"), "utf8");

  test("every fault and every phase of the plan stands in it", () => {
    assert.equal(page, faultsPage(tableOf(page)));
    for (const { fault, phase } of pairs(ETCD)) {
      assert.match(page, new RegExp(`^\\| ${fault} \\| `, "m"));
      assert.ok(page.includes(` | ${phase} |`), phase);
    }
  });

  test("what is written is read back, with failures and what was not run", () => {
    const table: Table = new Map([
      [key("link cut", "dump"), { runs: 3, worstMs: 210, failures: [] }],
      [key("power-off", "switch"), { runs: 2, worstMs: 0, failures: ["`seed 7`: 1 write | missing", "`seed 9`: two"] }],
    ]);
    const text = faultsPage(table);
    assert.deepEqual(tableOf(text), table);
    assert.match(text, /^5 faults, 2 failed\.$/m);
    assert.match(text, /\| 2 × ✘ \[1\] \[2\] 0 ms \|/);
    assert.match(text, /not run/);
  });
});
