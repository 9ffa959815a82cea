/** What it costs to follow, to cut and to copy an application's files. */

import { type Figure, figure } from "./figures.ts";
import { type CutCost, type LogCost, measureCut, measureLog } from "./files-measure.ts";
import { type Filling, LOADS, type Load, measureFilling, measureLoad, measureRedis, type Pair } from "./files-nodes.ts";
import type { Bench, BenchContext, BenchResult } from "./main.ts";

const PARTS = ["log", "cut", "first", "redis", ...LOADS] as const;
type Part = (typeof PARTS)[number];

export const filesBench: Bench = {
  about: "following, cutting and copying changes of files; loads that write",
  nodes: 2,
  parts: [...PARTS],
  run: measure,
};

async function measure({ lab, quick, only, say, times }: BenchContext): Promise<BenchResult> {
  const wants = (part: Part) => only.length === 0 || only.includes(part);
  const figures: Figure[] = [];
  const failures: string[] = [];
  const attempt = async (part: Part, work: () => Promise<Figure[]>) => {
    if (!wants(part)) return;
    say(part);
    try {
      figures.push(...(await work()));
    } catch (error) {
      failures.push(`${part}: ${error instanceof Error ? error.message : String(error)}`);
    }
  };
  await attempt("log", async () => logFigures(measureLog(quick ? 5 : 20)));
  await attempt("cut", async () => cutFigures(await measureCut(quick ? 50 : 200)));
  await attempt("first", async () => fillingFigures(await measureFilling(lab, times ?? (quick ? 1 : 3))));
  await attempt("redis", async () => redisFigures(await measureRedis(lab, quick ? 3 : 6)));
  for (const load of LOADS)
    await attempt(load, async () => loadFigures(load, await measureLoad(lab, load, times ?? (quick ? 1 : 3))));
  return { figures, failures };
}

function logFigures({ perWriteUs, throughput }: LogCost): Figure[] {
  return [
    figure("recording a write of 512 bytes", perWriteUs, "µs", { below: 1 }),
    figure("throughput while recorded, writes of 64 kB", throughput, "of unrecorded", { atLeast: 0.95 }),
  ];
}

function cutFigures({ aloneMs, amongManyMs, sentShare }: CutCost): Figure[] {
  return [
    figure("cut of one changed block", aloneMs, "ms"),
    figure("added by 1 GB and 100,000 idle files", amongManyMs - aloneMs, "ms", { below: 0.3 }),
    figure("bytes sent, random block writes", sentShare, "of changed", { below: 1.1 }),
  ];
}

const MEGA = 1e6;

function fillingFigures({ copied, rsync }: Filling): Figure[] {
  return [
    figure("first synchronisation", copied / MEGA, "MB/s"),
    figure("rsync -a of the same files", rsync / MEGA, "MB/s"),
    figure("first synchronisation : rsync -a", copied / rsync, "times", { atLeast: 0.6 }),
  ];
}

function redisFigures({ protected: during, unprotected }: Pair): Figure[] {
  return [
    figure("Redis, append-only file synced always", during, "writes/s"),
    figure("the same unprotected", unprotected, "writes/s"),
    figure("the same, protected : unprotected", during / unprotected, "times"),
  ];
}

const LOAD_NAMES: Record<Load, string> = {
  tar: "tar of 8,000 files in and out",
  compile: "10 runs of a compiler",
  blocks: "20,000 random block writes",
};

function loadFigures(load: Load, { protected: during, unprotected }: Pair): Figure[] {
  return [
    figure(LOAD_NAMES[load], during, "s"),
    figure("the same unprotected", unprotected, "s"),
    figure("the same, protected : unprotected", during / unprotected, "times"),
  ];
}
