/**
 * When the next checkpoint is due. Pure: as soon as the answers that come together are together, seldom when nothing happens, and
 * never so often that the application stands still for more than its share of the time.
 */
import type { CheckpointEnd } from "./operations.ts";

export interface PeriodOptions {
  /** Fixed milliseconds between checkpoints, or adapting. */
  period: number | "auto";
  /** Share of the time the application may be stopped. */
  stopShare: number;
  /** With nothing waiting: milliseconds between checkpoints. */
  idleMs: number;
  /** The same after many that found nothing. */
  longestIdleMs: number;
  /** Output that waits: when nothing has joined it for so long, nothing is likely to. */
  quietMs: number;
  /** The longest that output waits for more to join it. */
  gatherMs: number;
}

/** So many pages in one checkpoint: more would gather in a long pause than a stop should have to copy. */
const BUSY_PAGES = 1000;
const BUSY_MS = 50;

export const periodDefaults: PeriodOptions = {
  period: "auto",
  stopShare: 0.5,
  idleMs: 200,
  longestIdleMs: 1000,
  quietMs: 0.5,
  gatherMs: 5,
};

export interface PeriodState {
  /** Milliseconds of a monotonic clock. */
  lastStart: number;
  lastStopMs: number;
  /** Pages of the last checkpoint. */
  lastPages: number;
  /** So many checkpoints in a row found nothing. */
  empty: number;
}

export const noCheckpoint: PeriodState = { lastStart: 0, lastStopMs: 0, lastPages: 0, empty: 0 };

/** After a checkpoint that began at `lastStart`. */
export function taken(
  before: PeriodState,
  lastStart: number,
  { stopUs, pages, bytes, changed, gone }: Pick<CheckpointEnd, "stopUs" | "pages" | "bytes" | "changed" | "gone">,
): PeriodState {
  const isEmpty = pages === 0 && bytes === 0 && changed.length === 0 && gone.length === 0;
  return { lastStart, lastStopMs: stopUs / 1000, lastPages: pages, empty: isEmpty ? before.empty + 1 : 0 };
}

/** Output that no checkpoint covers yet: the instants at which its first and its newest packet were seen. */
export interface Waiting {
  since: number;
  newest: number;
}

/** Instant at which the next checkpoint is due. */
export function dueAt(state: PeriodState, waiting: Waiting | undefined, options: PeriodOptions): number {
  if (options.period !== "auto") return state.lastStart + options.period;
  const rested = state.lastStart + state.lastStopMs / options.stopShare;
  return Math.max(rested, waiting ? togetherAt(waiting, options) : state.lastStart + calmMs(state, options));
}

function togetherAt({ since, newest }: Waiting, { quietMs, gatherMs }: PeriodOptions): number {
  return Math.min(newest + quietMs, since + gatherMs);
}

function calmMs({ lastPages, empty }: PeriodState, { idleMs, longestIdleMs }: PeriodOptions): number {
  if (lastPages >= BUSY_PAGES) return BUSY_MS;
  return Math.min(idleMs * 2 ** Math.max(0, empty - 1), longestIdleMs);
}
