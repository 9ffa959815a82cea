/** A process that changes files at random until it is killed: `node worker.ts ROOT SEED`. */
import fc from "fast-check";
import { openPath } from "../../../src/kernel/calls.ts";
import { isFileStep, perform, step } from "./program.ts";

const [root, seed] = process.argv.slice(2) as [string, string];
const rootFd = openPath(root, 0o10000000);
const steps = fc.sample(step.filter(isFileStep), { numRuns: 4000, seed: Number(seed) });
process.stdout.write("ready\n");
for (let i = 0; ; i++) {
  const now = steps[i % steps.length]!;
  // Trees that only grow would make each comparison of the test longer than the one before.
  if (i % 200 === 199) for (const path of ["a", "b"]) perform(root, rootFd, { do: "remove", path });
  if (isFileStep(now)) perform(root, rootFd, now);
}
