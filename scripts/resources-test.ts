/**
 * Every self-checking test program (test/programs), each an application of its own in a lab of three nodes, through every event:
 * dumps, planned switches, power-off, a failure in each phase of dump, restore and switch.
 *
 *   npm run test:resources                       all; ends with 1 when a cell fails
 *   npm run test:resources -- --write            and writes docs/resources.md
 *   npm run test:resources -- --page             only writes the page anew, from the sources and the results that stand in it
 *   npm run test:resources -- --json             what was found, as one JSON document
 *   npm run test:resources -- --program pipe --program memory/fuzz --event switch     a part (with --write: of the page, too)
 *   npm run test:resources -- --name LAB         the lab's name
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { resolve } from "node:path";

const main = resolve(import.meta.dirname, "../test/matrix/main.ts");
const child = spawn(process.execPath, [...process.execArgv, main, ...process.argv.slice(2)], { stdio: "inherit" });
// What is typed at the terminal reaches it by itself; it takes its lab down before it ends.
process.on("SIGINT", () => {});
process.on("SIGTERM", () => child.kill("SIGTERM"));
const [code] = (await once(child, "exit")) as [number | null];
process.exitCode = code ?? 1;
