/**
 * The one gate: types, lint and format, tidy, unit tests in parallel, system tests one after the other.
 *
 *   npm test                          everything
 *   npm test -- --only unit           a part: types, lint, tidy, unit, system (may be repeated)
 *   npm test -- test/system/lab.test.ts    these files
 *   npm test -- --name "one way"      tests whose names match
 *   npm test -- --dot                 a dot per test instead of its name
 *
 * `npm run test:apps [-- --short]` is this with `--only apps`: real programs, for many minutes; in short, for some.
 */
import { spawn } from "node:child_process";
import { globSync } from "node:fs";
import { availableParallelism, constants } from "node:os";
import { relative, resolve } from "node:path";
import { Readable } from "node:stream";
import { run } from "node:test";
import { dot, spec } from "node:test/reporters";
import { parseArgs } from "node:util";
import { LeftLabs } from "./left-labs.ts";

type TestEvent = { type: string; data: Record<string, unknown> };
type Counts = Record<"tests" | "suites" | "passed" | "failed" | "cancelled" | "skipped" | "todo", number>;

/** What `npm test` is made of; `apps` has a command of its own. */
const GATE = ["types", "lint", "tidy", "unit", "system"] as const;
const PARTS = [...GATE, "apps"] as const;
type Part = (typeof PARTS)[number];
/** A file that takes longer hangs. On a quiet machine with two processors, everything together takes less than 20 minutes. */
const TIMEOUT_MS = { unit: 300_000, system: 300_000, apps: 1_800_000 } as const;
/** Labs that are set up, hurt and mended many times over. */
const LONGER_MS: Record<string, number> = {
  "test/system/redis/demo.test.ts": 480_000,
  "test/system/redis/takeover.test.ts": 480_000,
  "test/system/faults/deaths.test.ts": 480_000,
  "test/system/faults/links.test.ts": 480_000,
};
const SLOWEST_SHOWN = 12;

const root = resolve(import.meta.dirname, "..");
const bin = (name: string) => resolve(root, "node_modules/.bin", name);

function usage(message: string): never {
  process.stderr.write(
    `${message}\nUsage: npm test -- [--only ${PARTS.join("|")}]… [--name PATTERN] [--dot] [--short] [FILE…]\n`,
  );
  process.exit(2);
}

function readArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        only: { type: "string", multiple: true },
        name: { type: "string" },
        dot: { type: "boolean", default: false },
        short: { type: "boolean", default: false },
      },
    });
  } catch (error) {
    return usage((error as Error).message);
  }
}

const { values, positionals } = readArguments();
const chosen = new Set<string>(values.only ?? (positionals.length > 0 ? ["tidy", "unit", "system", "apps"] : GATE));
for (const part of chosen) if (!PARTS.includes(part as Part)) usage(`Unknown part '${part}'.`);

/** Runs a checker; its output is shown only when it complains. */
function check(what: string, command: string, args: string[]): Promise<boolean> {
  return new Promise((done) => {
    const started = performance.now();
    const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data: Buffer) => (output += data.toString()));
    child.on("error", (error) => (output += error.message));
    child.on("close", (code) => {
      const seconds = ((performance.now() - started) / 1000).toFixed(1);
      process.stdout.write(code === 0 ? `✔ ${what} (${seconds} s)\n` : `${output}✖ ${what} (${seconds} s)\n`);
      done(code === 0);
    });
  });
}

type TestPart = "tidy" | "unit" | "system" | "apps";

function partOf(file: string): TestPart {
  if (file === "test/tidy.test.ts") return "tidy";
  if (file.startsWith("test/apps/")) return "apps";
  return file.startsWith("test/system/") ? "system" : "unit";
}

function testFiles(part: TestPart): string[] {
  if (!chosen.has(part)) return [];
  const wanted = positionals.map((file) => relative(root, resolve(file)));
  return globSync("test/**/*.test.ts", { cwd: root })
    .filter((file) => (wanted.length > 0 ? wanted.includes(file) : true))
    .filter((file) => partOf(file) === part)
    .sort()
    .map((file) => resolve(root, file));
}

const leftLabs = new LeftLabs();
for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.on(signal, () => {
    leftLabs.end();
    process.exit(128 + constants.signals[signal]);
  });

const totals: Counts = { tests: 0, suites: 0, passed: 0, failed: 0, cancelled: 0, skipped: 0, todo: 0 };

/** What each file took. */
const secondsOf = new Map<string, number>();

interface Run {
  files: string[];
  concurrency: number;
  timeout: number;
}

/** Unit tests as many at a time as there are processors; those that measure and load the machine one by one. */
function runs(): Run[] {
  const parallel = [...testFiles("tidy"), ...testFiles("unit")];
  const oneByOne = (part: "system" | "apps") =>
    testFiles(part).map((file) => ({
      files: [file],
      concurrency: 1,
      timeout: LONGER_MS[relative(root, file)] ?? TIMEOUT_MS[part],
    }));
  const serial = [...oneByOne("system"), ...oneByOne("apps")];
  if (parallel.length === 0) return serial;
  return [{ files: parallel, concurrency: availableParallelism(), timeout: TIMEOUT_MS.unit }, ...serial];
}

/** The events of all runs as one stream, without each run's own totals: those are added up and printed once. */
async function* events(): AsyncGenerator<TestEvent> {
  for (const one of runs()) {
    const stream = run({ ...one, ...(values.name ? { testNamePatterns: [values.name] } : {}) });
    for await (const event of stream as AsyncIterable<TestEvent>) {
      leftLabs.look();
      if (event.type === "test:summary" && typeof event.data.file === "string")
        secondsOf.set(relative(root, event.data.file), Number(event.data.duration_ms) / 1000);
      if (event.type === "test:summary" && event.data.file === undefined) {
        const counts = event.data.counts as Counts;
        for (const key of Object.keys(totals) as (keyof Counts)[]) totals[key] += counts[key];
      } else if (event.type !== "test:summary" && !isTotal(event)) yield event;
    }
    leftLabs.takeDown();
  }
}

const isTotal = ({ type, data }: TestEvent) =>
  type === "test:diagnostic" &&
  data.nesting === 0 &&
  /^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) [\d.]+$/.test(String(data.message));

async function runTests(): Promise<boolean> {
  const started = performance.now();
  const source = Readable.from(events());
  // `spec` is a stream, `dot` a generator over the events.
  const report: AsyncIterable<unknown> = values.dot ? dot(source as never) : source.pipe(new spec());
  for await (const text of report) process.stdout.write(String(text));
  const slowest = [...secondsOf].sort(([, a], [, b]) => b - a).slice(0, SLOWEST_SHOWN);
  for (const [file, seconds] of slowest) process.stdout.write(`ℹ ${seconds.toFixed(1).padStart(6)} s ${file}\n`);
  const { tests, suites, passed, failed, cancelled, skipped, todo } = totals;
  const lines = { tests, suites, pass: passed, fail: failed, cancelled, skipped, todo };
  for (const [name, count] of Object.entries(lines)) process.stdout.write(`ℹ ${name} ${count}\n`);
  process.stdout.write(`ℹ duration_ms ${(performance.now() - started).toFixed(3)}\n`);
  return failed === 0 && cancelled === 0 && tests > 0;
}

const checks = await Promise.all([
  chosen.has("types") ? check("types", bin("tsc"), ["--noEmit", "-p", root]) : true,
  chosen.has("lint") ? check("lint and format", bin("biome"), ["check", "."]) : true,
]);
const wantsTests = ["tidy", "unit", "system", "apps"].some((part) => chosen.has(part));
if (values.short) process.env.APPS_SHORT = "1";
const tested = wantsTests ? await runTests() : true;
process.exit(checks.every(Boolean) && tested ? 0 : 1);
