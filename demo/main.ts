/**
 * `npm run demo [-- --json] [--keep]`: a cluster of three nodes, a Redis with 100 MB and 50 clients that count; it moves
 * once because it is told to, and once because its machine loses power. Exit 0 when no connection broke and no
 * acknowledged write is missing, else 1; 2 when used wrongly.
 */
import { parseArgs } from "node:util";
import { OperatingError, toFailure } from "../src/kernel/failure.ts";
import { Lab } from "../src/lab/lab.ts";
import { RedisSite } from "../workload/site.ts";
import { Display } from "./display.ts";
import { isSound, type Outcome, renderOutcome } from "./outcome.ts";
import { perform } from "./play.ts";

const LAB = "demo";

const TO_TRY = `
The lab is still up. Try (with --name ${LAB} if other labs are up, too):

  bin/understudy ps                                   what runs where
  bin/understudy status redis                         standbys, lag, stop time
  bin/understudy tree redis                           everything of it that is kept in step
  bin/understudy checkpoints redis                    the last checkpoints
  bin/understudy lab client -- redis-cli -h 10.77.0.10 set hello world
  bin/understudy switch redis                         move it to its standby, while you watch:
  bin/understudy lab client -- redis-cli -h 10.77.0.10 --latency
  bin/understudy lab power-off node-a                 pull the plug of whichever node runs it
  bin/understudy lab power-on node-a
  bin/understudy events
  bin/understudy lab down                             when you are done
`;

function readArguments() {
  try {
    const options = {
      json: { type: "boolean", default: false },
      keep: { type: "boolean", default: false },
    } as const;
    return parseArgs({ options }).values;
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\nUsage: npm run demo -- [--json] [--keep]\n`);
    process.exit(2);
  }
}

async function main(): Promise<void> {
  const { json, keep } = readArguments();
  // With --json standard output carries the document alone.
  const display = new Display(json ? process.stderr : process.stdout);
  const lab = new Lab({ name: LAB });
  const abort = new AbortController();
  let interrupted: Promise<void> | undefined;
  const interrupt = () => {
    if (interrupted) return;
    abort.abort();
    display.title("Interrupted: clearing away");
    interrupted = lab.down().catch((error: unknown) => display.problem(error));
    void interrupted.finally(() => process.exit(130));
  };
  process.on("SIGINT", interrupt).on("SIGTERM", interrupt);

  let outcome: Outcome | undefined;
  let failure: unknown;
  try {
    display.title("Three nodes and a client host on this machine");
    await lab.up({ nodes: 3, replace: true, onProgress: (what) => display.step(what) });
    outcome = await perform(new RedisSite(lab), display, abort.signal);
  } catch (error) {
    failure = error;
    if (interrupted === undefined) display.problem(error);
  }
  if (interrupted !== undefined) return await interrupted;
  process.exitCode = outcome !== undefined && isSound(outcome) ? 0 : 1;
  if (json) process.stdout.write(`${JSON.stringify(outcome ?? { failure: toFailure(failure) }, null, 2)}\n`);
  else if (outcome !== undefined) process.stdout.write(renderOutcome(outcome, process.stdout.isTTY));
  if (keep && lab.isUp()) process.stderr.write(TO_TRY);
  else await lab.down();
}

try {
  await main();
} catch (error) {
  const remedy = error instanceof OperatingError && error.remedy ? ` (${error.remedy})` : "";
  process.stderr.write(`demo: ${error instanceof Error ? error.message : String(error)}${remedy}\n`);
  process.exitCode = 1;
}
process.exit();
