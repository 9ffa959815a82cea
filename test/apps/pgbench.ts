/** pgbench on the lab's client host, with its own log: a line for each transaction that the server has acknowledged. */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CommandResult } from "../../src/lab/command.ts";
import type { Lab } from "../../src/lab/lab.ts";
import { eventually, Hopeless } from "../support/eventually.ts";

const PROGRAM = "/usr/lib/postgresql/15/bin/pgbench";
/** Longer than any test: it is told when to end. */
const FOREVER_S = 36_000;

export class PgBench {
  readonly #directory: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<CommandResult>;
  #end: CommandResult | undefined;
  /** Reports of progress so far in which transactions were done. */
  #alive = 0;

  private constructor(child: ChildProcess, directory: string) {
    this.#directory = directory;
    this.#child = child;
    child.stderr!.on("data", (bytes: Buffer) => {
      for (const [, perSecond] of bytes.toString().matchAll(/progress: [\d.]+ s, ([\d.]+) tps/g))
        if (Number(perSecond) > 0) this.#alive++;
    });
    const ended = new Promise<CommandResult>((resolve, reject) => {
      let [stdout, stderr] = ["", ""];
      child.stdout!.on("data", (text) => (stdout += text));
      child.stderr!.on("data", (text) => (stderr += text));
      child.on("error", reject);
      child.on("close", (code) => resolve({ code: code ?? -1, stdout, stderr }));
    });
    this.#ended = ended.then((end) => {
      this.#end = end;
      return end;
    });
  }

  static async start(lab: Lab, server: string[], clients: number, script: string): Promise<PgBench> {
    const directory = mkdtempSync(join(tmpdir(), "understudy-pgbench-"));
    const load = ["--client", String(clients), "--time", String(FOREVER_S), "--no-vacuum", "--file", script];
    const log = ["--define", "n=0", "--progress", "1", "--log", "--log-prefix", join(directory, "log")];
    const argv = [PROGRAM, ...server, ...load, ...log, "postgres"];
    const child = await lab.spawnInClient(argv, { stdio: ["ignore", "pipe", "pipe"] });
    return new PgBench(child, directory);
  }

  /** Waits until transactions are done again. A report may tell of the time before: two do not. */
  async goOn(): Promise<void> {
    const from = this.#alive;
    await eventually("pgbench's transactions go on", () => {
      if (this.#end) throw new Hopeless(`pgbench has ended:\n${this.#end.stderr}`);
      return this.#alive >= from + 2;
    });
  }

  /** Lets every client's last transaction end. Returns how many were acknowledged to each. Fails when a client gave up. */
  async stop(): Promise<Map<number, number>> {
    // What its own clock would send it at the end of --time.
    this.#child.kill("SIGALRM");
    const { code, stderr } = await this.#ended;
    assert.equal(code, 0, stderr);
    assert.doesNotMatch(stderr, /abort|error|lost/i);
    const counts = new Map<number, number>();
    for (const file of readdirSync(this.#directory)) {
      for (const line of readFileSync(join(this.#directory, file), "latin1").trim().split("\n")) {
        const client = Number(line.split(" ")[0]);
        counts.set(client, (counts.get(client) ?? 0) + 1);
      }
    }
    return counts;
  }

  [Symbol.dispose](): void {
    this.#child.kill("SIGKILL");
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
