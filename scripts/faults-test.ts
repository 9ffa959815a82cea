/**
 * Every fault in every phase, one after the other, to a Redis with two standbys and clients that write a history: what was
 * acknowledged is there, once, and one primary answers.
 *
 *   npm run test:faults                          200 faults with a fresh seed; ends with 1 when one fails
 *   npm run test:faults -- --count N --seed S    N of them, seeds S, S + 1, …: a seed says which fault, where and when
 *   npm run test:faults -- --write               and writes docs/faults.md
 *   npm run test:faults -- --page                only writes the page anew, with the results that stand in it
 *   npm run test:faults -- --json                what was found, as one JSON document
 *   npm run test:faults -- --store sqlite        without members of a cluster store on the nodes
 *   npm run test:faults -- --fault "link cut" --phase dump    a part (may be repeated)
 *   npm run test:faults -- --name LAB            the lab's name
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { resolve } from "node:path";

const main = resolve(import.meta.dirname, "../test/faults/main.ts");
const child = spawn(process.execPath, [...process.execArgv, main, ...process.argv.slice(2)], { stdio: "inherit" });
// What is typed at the terminal reaches it by itself; it takes its lab down before it ends.
process.on("SIGINT", () => {});
process.on("SIGTERM", () => child.kill("SIGTERM"));
const [code] = (await once(child, "exit")) as [number | null];
process.exitCode = code ?? 1;
