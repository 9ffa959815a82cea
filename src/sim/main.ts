/**
 * `npm run sim -- [--seconds 60] [--seed N] [--bug NAME] [--trace] [--json]`: lives of clusters, one seed each, on all
 * processors, until the time is over or something is wrong. With `--seed` the first life has that seed; with `--trace` it is that life only,
 * told in full.
 */
import { parseArgs } from "node:util";
import { type Bug, bugNames } from "./bugs.ts";
import { runLives } from "./lives.ts";
import { runLivesOnAll } from "./parallel.ts";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "10" },
    seed: { type: "string" },
    bug: { type: "string" },
    trace: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});
const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
const seconds = Number(values.seconds);
if (!Number.isInteger(seed) || !(seconds > 0) || (values.bug !== undefined && !bugNames.includes(values.bug as Bug))) {
  console.error(`Use --seed INTEGER, --seconds NUMBER, --bug ${bugNames.join("|")}`);
  process.exit(2);
}
const options = { seed, seconds, ...(values.bug === undefined ? {} : { bug: values.bug as Bug }) };
const result = values.trace
  ? runLives({ ...options, lives: 1, trace: (line) => console.error(line) })
  : await runLivesOnAll(options);
if (values.json) console.log(JSON.stringify(result));
else {
  for (const [kind, count] of Object.entries(result.faultKinds)) console.log(`${kind.padEnd(18)} ${count}`);
  console.log(
    `${result.lives} lives from seed ${seed}: ${result.faults} faults (${result.faultsPerSecond}/s), ${result.steps} steps, ` +
      `${result.terms} terms, ${result.releases} releases (${result.echoes} late), state lost to crashes in ${result.lost} lives`,
  );
}
if (result.failure !== undefined) {
  console.error(
    `${result.failure.message}\nAgain: npm run sim -- --trace --seed ${result.failure.seed}${values.bug ? ` --bug ${values.bug}` : ""}`,
  );
  process.exitCode = 1;
}
