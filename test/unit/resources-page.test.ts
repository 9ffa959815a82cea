/** docs/resources.md tells of every kind and every test program that there is; what has not been run is said to be so. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, test } from "node:test";
import { readKinds } from "../matrix/kinds.ts";
import { EVENT_NAMES, type Matrix, matrixOf, resourcesPage } from "../matrix/page.ts";
import { allRuns, type Run } from "../matrix/programs.ts";
import type { Cell } from "../matrix/run.ts";

const page = readFileSync(resolve(import.meta.dirname, "../../docs/resources.md"), "utf8");

describe("docs/resources.md (npm run test:resources -- --page mends it; -- --program KIND/NAME --write runs a part)", () => {
  test("every kind in the sources says what is kept of it", () => {
    const silent = readKinds().filter(({ kept }) => kept.length === 0);
    assert.deepEqual(
      silent.map(({ name }) => `${name}: no @kept in a comment of src/resources`),
      [],
    );
  });

  test("every kind and every program stands in it, as the sources tell of them", () => {
    assert.equal(page, resourcesPage(readKinds(), allRuns(), matrixOf(page)));
  });
});

describe("the page", () => {
  const run = (label: string): Run => ({
    label,
    program: label,
    kind: label.split("/")[0]!,
    arguments: [],
    application: label.replace("/", "-"),
    unsuited: new Map(),
    hugePages: 0,
  });

  test("what is written is read back, with failures and what was left out", () => {
    const all = new Map(EVENT_NAMES.map((event): [string, Cell] => [event, { ok: true }]));
    const matrix: Matrix = new Map([
      ["pipe/a", all],
      ["pipe/b", new Map<string, Cell>([...all, ["restore", { ok: false, why: "wrong, line 3: x | y is 1, not 2" }]])],
      ["tcp/c", new Map<string, Cell>([["dumps", { skipped: "it needs a peer" }]])],
    ]);
    const runs = [...matrix.keys()].map(run);
    const kinds = [{ name: "pipe", kept: ["all"], unkept: ["nothing"] }];
    const text = resourcesPage(kinds, runs, matrix);
    assert.deepEqual(matrixOf(text), matrix);
    assert.match(text, /\| pipe\/b \|.*✘ \[1\]/);
    assert.match(text, /\| tcp\/c \| – \[2\] \| not run/);
    assert.match(text, /^1\. Failed: wrong, line 3: x \| y is 1, not 2$/m);
    assert.match(text, /, 1 failed\./);
  });

  test("programs are found with what their first comment says", () => {
    const runs = allRuns();
    assert.ok(runs.some(({ label, arguments: args }) => label === "memory/fuzz 2" && args[0] === "2"));
    assert.equal(new Set(runs.map(({ application }) => application)).size, runs.length, "each has a name of its own");
    for (const { application } of runs) assert.match(application, /^[a-z0-9][a-z0-9-]{0,29}[a-z0-9]$/);
  });
});
