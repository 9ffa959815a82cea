/** Labs of test files that ended without taking theirs down: interrupted, or killed because they hung. */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { labsFound } from "../src/lab/find.ts";

const CLI = resolve(import.meta.dirname, "../src/cli/main.ts");
/** A test file that is told to end with us does so by then. */
const ENDING_MS = 3000;
const POLL_MS = 50;

export class LeftLabs {
  /** Processes of test files, also those that have ended. */
  readonly #files = new Set<number>();

  /** Learns which test files run just now. */
  look(): void {
    for (const pid of childrenOfThis()) this.#files.add(pid);
  }

  /** Takes down what those have left that run no more. Synchronous: the last thing that a process does, too. */
  takeDown(): void {
    for (const lab of labsFound()) {
      if (!this.#isLeft(lab)) continue;
      process.stderr.write(`The lab "${lab}" was left behind by a test; taking it down\n`);
      spawnSync(process.execPath, [CLI, "lab", "down", "--name", lab], { stdio: "inherit" });
    }
  }

  /** Ends the test files that run, then does the same. */
  end(): void {
    this.look();
    const running = () => childrenOfThis().filter(isAlive);
    for (const pid of running()) process.kill(pid, "SIGTERM");
    const begun = performance.now();
    const sleeper = new Int32Array(new SharedArrayBuffer(4));
    while (running().length > 0 && performance.now() - begun < ENDING_MS) Atomics.wait(sleeper, 0, 0, POLL_MS);
    this.takeDown();
  }

  /** Every lab of a test has the pid of its file in its name. */
  #maker(lab: string): number {
    return Number(/\d+/.exec(lab)?.[0]);
  }

  #isOurs(lab: string): boolean {
    return this.#files.has(this.#maker(lab));
  }

  #isLeft(lab: string): boolean {
    return this.#isOurs(lab) && !isAlive(this.#maker(lab));
  }
}

function childrenOfThis(): number[] {
  return readdirSync("/proc/self/task").flatMap((thread) => {
    const children = readFileSync(`/proc/self/task/${thread}/children`, "utf8");
    return children.split(" ").filter(Boolean).map(Number);
  });
}

/** A zombie lives no more, though nobody has waited for it. */
function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return !stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z");
  } catch (error) {
    if (["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) return false;
    throw error;
  }
}
