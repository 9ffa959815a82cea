/**
 * `npm run bench -- NAME [--json] [--quick] [--times N] [--minutes N] [--only PART] [--name LAB]`: measures, compares with the goals, says so.
 * Exit 0 when everything could be measured (goals met or not), 1 when something failed or was lost, 2 when used wrongly.
 */
import { parseArgs } from "node:util";
import { Lab } from "../src/lab/lab.ts";
import { clusterBench } from "./cluster.ts";
import { failoverBench } from "./failover.ts";
import { type Figure, renderFigures } from "./figures.ts";
import { filesBench } from "./files.ts";
import { redisBench } from "./redis.ts";
import { scaleBench } from "./scale.ts";

export interface BenchContext {
  lab: Lab;
  /** Shorter and fewer runs: to see that it works, not to quote. */
  quick: boolean;
  /** Parts to run; empty: all. */
  only: string[];
  /** How often, and how long, where a benchmark asks for it; undefined: as it thinks right. */
  times: number | undefined;
  minutes: number | undefined;
  /** Progress, for people. */
  say(text: string): void;
}

export interface BenchResult {
  figures: Figure[];
  /** What failed, in words; the figures that depend on it have the value null. */
  failures: string[];
  /** Each time by itself, where a benchmark does something many times; told with --json. */
  runs?: object[] | undefined;
}

interface Bench {
  about: string;
  /** 0: it makes its labs itself. */
  nodes: number;
  /** The lab's cluster store; default SQLite. */
  store?: "sqlite" | "etcd";
  parts: string[];
  run(context: BenchContext): Promise<BenchResult>;
}

/** A further benchmark is one more file and one more line. */
const benches: Record<string, Bench> = {
  redis: redisBench,
  failover: failoverBench,
  files: filesBench,
  scale: scaleBench,
  cluster: clusterBench,
};

export type { Bench };

function usage(problem: string): never {
  const list = Object.entries(benches).map(([name, { about }]) => `  ${name.padEnd(10)} ${about}`);
  const options = "[--json] [--quick] [--times N] [--minutes N] [--only PART]… [--name LAB]";
  process.stderr.write(`${problem}\nUsage: npm run bench -- NAME ${options}\n${list.join("\n")}\n`);
  process.exit(2);
}

function readArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        json: { type: "boolean", default: false },
        quick: { type: "boolean", default: false },
        times: { type: "string" },
        minutes: { type: "string" },
        only: { type: "string", multiple: true, default: [] },
        name: { type: "string" },
      },
    });
  } catch (error) {
    return usage((error as Error).message);
  }
}

function count(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[1-9]\d*$/.test(text)) usage(`"${text}" is no whole number above 0.`);
  return Number(text);
}

async function main(): Promise<void> {
  const { values, positionals } = readArguments();
  const [name = "", ...more] = positionals;
  const bench = Object.hasOwn(benches, name) ? benches[name] : undefined;
  if (bench === undefined || more.length > 0) usage(`Unknown benchmark "${positionals.join(" ")}".`);
  const foreign = values.only.find((part) => !bench.parts.includes(part));
  if (foreign !== undefined) usage(`Unknown part "${foreign}"; "${name}" has: ${bench.parts.join(", ")}.`);

  const began = performance.now();
  const say = (text: string) => {
    const seconds = ((performance.now() - began) / 1000).toFixed(0).padStart(4);
    process.stderr.write(`${seconds} s  ${text}\n`);
  };
  const lab = new Lab({ name: values.name ?? (name === "redis" ? "bench" : `bench-${name}`) });
  const interrupted = async () => {
    say("interrupted; taking the lab down");
    await lab.down().catch((error: unknown) => say(String(error)));
    process.exit(130);
  };
  process.once("SIGINT", interrupted).once("SIGTERM", interrupted);
  try {
    const { nodes, store = "sqlite" } = bench;
    if (nodes > 0) await lab.up({ nodes, store, replace: true, onProgress: say });
    const { quick, only } = values;
    const { figures, failures, runs } = await bench.run({
      lab,
      quick,
      only,
      say,
      times: count(values.times),
      minutes: count(values.minutes),
    });
    if (values.json) process.stdout.write(`${JSON.stringify({ figures, failures, runs }, null, 2)}\n`);
    else process.stdout.write(renderFigures(figures, process.stdout.isTTY));
    for (const failure of failures) process.stderr.write(`failed: ${failure}\n`);
    process.exitCode = failures.length === 0 ? 0 : 1;
  } finally {
    await lab.down();
  }
}

try {
  await main();
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
// A workload that was left behind must not keep a finished benchmark waiting.
process.exit();
