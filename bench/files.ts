/** What it costs to follow and to cut the changes of an application's files. */

import { type Figure, figure } from "./figures.ts";
import { type CutCost, type LogCost, measureCut, measureLog } from "./files-measure.ts";
import type { Bench, BenchContext, BenchResult } from "./main.ts";

const PARTS = ["log", "cut"] as const;
type Part = (typeof PARTS)[number];

export const filesBench: Bench = {
  about: "following and cutting changes of files",
  nodes: 1,
  parts: [...PARTS],
  run: measure,
};

async function measure({ quick, only, say }: BenchContext): Promise<BenchResult> {
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
