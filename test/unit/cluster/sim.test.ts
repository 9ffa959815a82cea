/** A short run of the simulator with fresh seeds, and proof that it would have found something. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { bugNames } from "../../../src/sim/bugs.ts";
import { runLives } from "../../../src/sim/lives.ts";
import { World } from "../../../src/sim/world.ts";

const freshSeed = Math.floor(Math.random() * 2 ** 31);

test("lives with fresh seeds break no rule", (t) => {
  const result = runLives({ seed: freshSeed, seconds: 3 });
  t.diagnostic(`${result.lives} lives from seed ${freshSeed}, ${result.faults} faults, ${result.releases} releases`);
  assert.equal(
    result.failure,
    undefined,
    `npm run sim -- --trace --seed ${result.failure?.seed}\n${result.failure?.message}`,
  );
  assert.ok(result.faults > 0 && result.releases > 0);
});

test("a seed replays exactly", () => {
  const told = () => {
    const lines: string[] = [];
    new World(4711, { trace: (line) => lines.push(line) }).live();
    return lines;
  };
  const lines = told();
  assert.ok(lines.length > 1000);
  assert.deepEqual(told(), lines);
});

for (const bug of bugNames) {
  test(`the deliberate bug "${bug}" is found`, (t) => {
    const result = runLives({ seed: 1, seconds: 60, lives: 400, bug });
    assert.ok(result.failure !== undefined, `not found in ${result.lives} lives`);
    t.diagnostic(`in life ${result.lives}: ${result.failure.message.split("\n")[0]}`);
  });
}
