/** What a stop costs an application that has much of something and is idle: processes, threads, descriptors, connections. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { ProtectedApplication } from "../workload/application.ts";
import { CheckpointSamples } from "../workload/checkpoint-samples.ts";
import { type Amounts, MANY_PORT, manyCommand } from "../workload/many.ts";
import { type Figure, figure } from "./figures.ts";
import type { Bench, BenchContext, BenchResult } from "./main.ts";

const HOST = "10.77.0.30";
const CLIENT = new URL("../workload/idle-connections.ts", import.meta.url).pathname;
/** Also what a whole first checkpoint of everything needs on a busy machine. */
const PROTECT_LIMIT_MS = 180_000;
const PERIOD_MS = 50;
/** Threads are known as sleepers after a second. */
const SETTLE_MS = 4000;
const FEW_CONNECTIONS = 10;

interface Part extends Amounts {
  connections?: number;
}

const PARTS = {
  little: {},
  processes: { processes: 200 },
  threads: { threads: 1000 },
  descriptors: { descriptors: 10_000 },
  connections: { connections: 5000 },
} as const satisfies Record<string, Part>;
type Name = keyof typeof PARTS;
/** Medians in milliseconds. */
type Stops = Partial<Record<Name, number>>;
type Wanted = (part: Name) => boolean;

export const scaleBench: Bench = {
  about: "stops with 200 processes, 1,000 threads, 10,000 descriptors, 5,000 connections, all idle",
  nodes: 2,
  parts: Object.keys(PARTS),
  run,
};

async function run(context: BenchContext): Promise<BenchResult> {
  const stops: Stops = {};
  const wanted: Wanted = (part) => context.only.length === 0 || context.only.includes(part);
  const failures: string[] = [];
  for (const name of (Object.keys(PARTS) as Name[]).filter(wanted)) {
    context.say(name);
    try {
      stops[name] = await stopOf(context, PARTS[name]);
      context.say(`  ${stops[name]} ms`);
    } catch (error) {
      failures.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return { figures: figures(stops, wanted), failures };
}

/** The median stop in milliseconds. */
async function stopOf({ lab, quick }: BenchContext, { connections = FEW_CONNECTIONS, ...amounts }: Part) {
  const program = { name: "many", command: manyCommand(amounts), address: `${HOST}/24` };
  const application = new ProtectedApplication(lab, program);
  await application.protect({ limitMs: PROTECT_LIMIT_MS, period: PERIOD_MS });
  let client: ChildProcess | undefined;
  try {
    client = await application.spawn([process.execPath, CLIENT, HOST, String(MANY_PORT), String(connections)]);
    await said(client);
    await sleep(SETTLE_MS);
    const samples = new CheckpointSamples(() => application.checkpoints());
    await sleep(quick ? 4000 : 15_000);
    const { count, stopMs } = await samples.finish();
    if (count === 0) throw new Error("No checkpoint was taken");
    return stopMs.median;
  } finally {
    client?.stdin?.end();
    await application.stop();
  }
}

/** Resolves when all connections are open. */
async function said(client: ChildProcess): Promise<void> {
  const ended = once(client, "exit").then(() => {
    throw new Error("Not all connections could be opened");
  });
  // Afterwards nobody waits for its end any more.
  ended.catch(() => {});
  await Promise.race([once(client.stdout!, "data"), ended]);
}

/** Of the parts that were wanted. */
function figures({ little, processes, threads, descriptors, connections }: Stops, wanted: Wanted): Figure[] {
  const than = (other: number | undefined, combine: (one: number, little: number) => number) =>
    other === undefined || little === undefined ? null : combine(other, little);
  const more = than(threads, (a, b) => a - b);
  const times = than(connections, (a, b) => a / b);
  const all: Array<[parts: Name[], Figure]> = [
    [["little"], figure("stop, little of everything, median", little ?? null, "ms")],
    [["processes"], figure("stop, 200 processes, median", processes ?? null, "ms")],
    [["threads"], figure("stop, 1,000 idle threads, median", threads ?? null, "ms")],
    [["little", "threads"], figure("1,000 idle threads more", more, "ms", { below: 3 })],
    [["descriptors"], figure("stop, 10,000 descriptors, median", descriptors ?? null, "ms")],
    [["connections"], figure("stop, 5,000 idle connections, median", connections ?? null, "ms")],
    [["little", "connections"], figure("5,000 idle connections : 10", times, "times", { below: 2 })],
  ];
  return all.flatMap(([parts, one]) => (parts.every(wanted) ? [one] : []));
}
