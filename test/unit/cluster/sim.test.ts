/** A short run of the simulator with fresh seeds, and proof that it would have found something. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { bugNames } from "../../../src/sim/bugs.ts";
import { Judge } from "../../../src/sim/judge.ts";
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

/** After a crash in term 8: "a" was to go on from an older state and was frozen, "c" has gone on from the newest since. */
function afterLateRestart(crashed: boolean): Judge {
  const judge = new Judge(0);
  judge.begins("b", 8, undefined, false);
  judge.releasesOutput("b", 8, 132, 0, false);
  if (crashed) judge.crashes(8);
  judge.begins("c", 10, { term: 8, epoch: 132 }, false);
  judge.begins("a", 9, { term: 8, epoch: 131 }, true);
  return judge;
}

test("an older state that begins late after a crash is no harm, as long as it is not heard, and nothing is forgotten for it", () => {
  assert.throws(() => afterLateRestart(false), /a goes on as term 9 from 8\/131, but b has released 8\/132/);
  assert.equal(afterLateRestart(true).forgotten, 0);
  assert.throws(() => afterLateRestart(true).releasesOutput("a", 9, 132, 0, false), /which term 10 does not contain/);
  assert.throws(
    () => afterLateRestart(true).begins("b", 11, { term: 9, epoch: 132 }, false),
    /b goes on as term 11 from 9\/132, but b has released 8\/132/,
  );
});

/** "a" speaks late, in term 4, when "c" has gone on from 4/65, has crashed, and was started anew. */
function afterColdStart(crashed: boolean): Judge {
  const judge = new Judge(0);
  judge.begins("a", 4, undefined, false);
  judge.begins("c", 5, { term: 4, epoch: 65 }, false);
  if (crashed) judge.crashes(5);
  judge.begins("c", 6, undefined, true);
  return judge;
}

test("what a crash has lost may be heard late, nothing else that the new state lacks", () => {
  afterColdStart(true).releasesOutput("a", 4, 65, 0, false);
  assert.throws(() => afterColdStart(true).releasesOutput("a", 4, 66, 0, false), /which term 6 does not contain/);
  assert.throws(() => afterColdStart(false).releasesOutput("a", 4, 65, 0, false), /which term 6 does not contain/);
});
