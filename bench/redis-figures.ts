/** From what was measured to the figures with their goals. */
import { type CheckpointFigures, median } from "../workload/checkpoint-samples.ts";
import type { WindowSummary } from "../workload/gaps.ts";
import type { Distribution } from "../workload/histogram.ts";
import { type Figure, figure } from "./figures.ts";

export const CONNECTIONS = 50;
/** Enough requests in flight to hide the wait for the standby's acknowledgement. */
export const PIPELINE = 16;
const IN_FLIGHT = CONNECTIONS * PIPELINE;

export const PARTS = ["none", "idle", "writing", "throughput", "switch", "power-off", "large"] as const;
export type Part = (typeof PARTS)[number];

/** CRIU's frozen time of a Redis with 500 MB on the machine for which the goals were set. */
const CRIU_FROZEN_MS = 394;

export type WritingMeasures = CheckpointFigures & { setsPerSecond: number };

/** A protected rate, and which of the unprotected ones came just before it; the next one came just after. */
export interface Compared {
  rate: number;
  before: number;
}

/** SETs a second unless a name says otherwise; what could not be measured is absent. */
export interface Measures {
  unprotected: number[];
  unprotectedSpread: number[];
  none?: Compared;
  noneSpread?: Compared;
  checkpointed?: Compared;
  checkpointedSpread?: Compared;
  /** Checkpoints under the throughput load. */
  loaded?: CheckpointFigures;
  idle?: Distribution;
  writing?: WritingMeasures;
  planned?: WindowSummary[];
  powerOff?: WindowSummary[];
  large?: WritingMeasures;
}

export function figuresOf(measures: Measures, wants: (part: Part) => boolean): Figure[] {
  const { writing, large, loaded, idle, planned, powerOff, none, checkpointed, unprotected } = measures;
  const { noneSpread, checkpointedSpread, unprotectedSpread } = measures;
  const ofBase = (compared: Compared | undefined, base = unprotected) =>
    compared === undefined ? null : ratio(compared, base);
  const all: [Part, Figure[]][] = [
    [
      "writing",
      [
        figure("checkpoints per second, 100 MB", writing?.perSecond ?? null, "1/s", { atLeast: 20 }),
        figure("stop median, 100 MB", writing?.stopMs.median ?? null, "ms", { below: 2 }),
        figure("stop p99, 100 MB", writing?.stopMs.p99 ?? null, "ms", { below: 10 }),
        figure("stop max, 100 MB", writing?.stopMs.max ?? null, "ms"),
        figure("pages per checkpoint, 100 MB", writing?.pages ?? null, "pages"),
        figure("bytes per checkpoint, 100 MB", writing?.bytes ?? null, "bytes"),
        figure("writes per second, one request in flight per client", writing?.setsPerSecond ?? null, "1/s"),
      ],
    ],
    [
      "large",
      [
        figure("stop median, 500 MB", large?.stopMs.median ?? null, "ms", { below: 3 }),
        figure("stop p99, 500 MB", large?.stopMs.p99 ?? null, "ms"),
        figure("CRIU's frozen time over our stop, 500 MB", criuRatio(large?.stopMs.median), "times", { atLeast: 50 }),
      ],
    ],
    [
      "power-off",
      [
        figure("power-off to next answer", windows(powerOff, "silenceMs"), "ms", { below: 500 }),
        figure("power-off to next answer, worst client", windows(powerOff, "worstWaitMs"), "ms", { below: 500 }),
      ],
    ],
    [
      "switch",
      [
        figure("planned switch, silence", windows(planned, "silenceMs"), "ms", { below: 150 }),
        figure("planned switch, median client's wait", windows(planned, "medianWaitMs"), "ms"),
        figure("planned switch, worst client's wait", windows(planned, "worstWaitMs"), "ms"),
      ],
    ],
    [
      "throughput",
      [
        figure("throughput ratio, policy checkpoint", ofBase(checkpointed), "of unprotected", { atLeast: 0.5 }),
        figure(
          "throughput ratio, policy checkpoint, writes spread over all data",
          ofBase(checkpointedSpread, unprotectedSpread),
          "of unprotected",
        ),
        figure("writes per second, policy checkpoint", checkpointed?.rate ?? null, "1/s"),
        figure("stop median at full load", loaded?.stopMs.median ?? null, "ms"),
        figure("checkpoints per second at full load", loaded?.perSecond ?? null, "1/s"),
        figure("pages per checkpoint at full load", loaded?.pages ?? null, "pages"),
        figure("a checkpoint's begin to its acknowledgement, at full load", loaded?.commitMs.median ?? null, "ms"),
        figure("longest answer time that a ratio of 0.5 allows", longestForHalf(unprotected), "ms"),
      ],
    ],
    [
      "none",
      [
        figure("throughput ratio, policy none", ofBase(none), "of unprotected", { atLeast: 0.65 }),
        figure(
          "throughput ratio, policy none, writes spread over all data",
          ofBase(noneSpread, unprotectedSpread),
          "of unprotected",
        ),
        figure("writes per second, policy none", none?.rate ?? null, "1/s"),
      ],
    ],
    ["idle", [figure("idle client's answer time, policy checkpoint", idle?.median ?? null, "ms", { below: 10 })]],
  ];
  const wanted = all.flatMap(([part, figures]) => (wants(part) ? figures : []));
  if (unprotected.length === 0) return wanted;
  return [...wanted, figure("writes per second, unprotected", median(unprotected), "1/s")];
}

/** With so many requests in flight (Little's law). An answer waits for a whole checkpoint, and on the average for half another. */
function longestForHalf(unprotected: number[]): number | null {
  return unprotected.length === 0 ? null : (IN_FLIGHT * 1000) / (median(unprotected) / 2);
}

function ratio({ rate, before }: Compared, unprotected: number[]): number | null {
  const around = unprotected.slice(Math.max(0, before), before + 2);
  return around.length === 0 ? null : (rate * around.length) / around.reduce((sum, value) => sum + value, 0);
}

/** The median over the repetitions. */
function windows(seen: WindowSummary[] | undefined, what: "silenceMs" | "worstWaitMs" | "medianWaitMs"): number | null {
  return seen === undefined || seen.length === 0 ? null : median(seen.map((window) => window[what]));
}

function criuRatio(stopMs: number | undefined): number | null {
  return stopMs === undefined || stopMs === 0 ? null : CRIU_FROZEN_MS / stopMs;
}
