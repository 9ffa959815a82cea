import type { CheckpointEnd } from "./operations.ts";

/**
 * When the next checkpoint is due. Pure: at once when output is waiting, seldom when nothing happens, and never so often that
 * the application stands still for more than its share of the time.
 */
export interface PeriodOptions {
  /** Fixed milliseconds between checkpoints, or adapting. */
  period: number | "auto";
  /** Share of the time the application may be stopped. */
  stopShare: number;
  /** With nothing waiting: milliseconds between checkpoints. */
  idleMs: number;
  /** The same after many that found nothing. */
  longestIdleMs: number;
  /** With output waiting: the shortest time between the starts of two checkpoints, so that one carries many answers. */
  gatherMs: number;
  /**
   * Where many packets went with the last checkpoint: as many are expected, and waited for until none has come for `quietMs`, for
   * `expectMs` at most. Who asks next only when his answer is there would be left for another checkpoint by one that begins at once.
   */
  quietMs: number;
  expectMs: number;
}

/** Output that waits for the next checkpoint: when its first and its last packet came, milliseconds of a monotonic clock. */
export interface Waiting {
  firstMs: number;
  lastMs: number;
}

/** So many pages in one checkpoint: more would gather in a long pause than a stop should have to copy. */
const BUSY_PAGES = 1000;
const BUSY_MS = 50;
/** So many packets in one checkpoint are many. */
const MANY_PACKETS = 16;

export const periodDefaults: PeriodOptions = {
  period: "auto",
  stopShare: 0.5,
  idleMs: 200,
  longestIdleMs: 1000,
  gatherMs: 4,
  quietMs: 1,
  expectMs: 6,
};

export interface PeriodState {
  /** Milliseconds of a monotonic clock. */
  lastStart: number;
  lastStopMs: number;
  /** Pages of the last checkpoint. */
  lastPages: number;
  /** Packets that the last checkpoint let go. */
  lastPackets: number;
  /** So many checkpoints in a row found nothing. */
  empty: number;
}

export const noCheckpoint: PeriodState = { lastStart: 0, lastStopMs: 0, lastPages: 0, lastPackets: 0, empty: 0 };

/** After a checkpoint that began at `lastStart`, and covers so many packets. */
export function taken(
  before: PeriodState,
  lastStart: number,
  { stopUs, pages, bytes, changed, gone }: Pick<CheckpointEnd, "stopUs" | "pages" | "bytes" | "changed" | "gone">,
  lastPackets = 0,
): PeriodState {
  // Pages with the content that they had: the stop itself makes a thread write some (rseq(2)).
  const isEmpty = bytes === 0 && changed.length === 0 && gone.length === 0;
  const nothings = isEmpty ? before.empty + 1 : 0;
  return { lastStart, lastStopMs: stopUs / 1000, lastPages: pages, lastPackets, empty: nothings };
}

/** Instant at which the next checkpoint is due. */
export function dueAt(state: PeriodState, waiting: Waiting | undefined, options: PeriodOptions): number {
  if (options.period !== "auto") return state.lastStart + options.period;
  const rest = state.lastStopMs / options.stopShare;
  const idle = Math.min(options.idleMs * 2 ** Math.max(0, state.empty - 1), options.longestIdleMs);
  const calm = state.lastPages < BUSY_PAGES ? idle : BUSY_MS;
  const due = state.lastStart + Math.max(waiting ? options.gatherMs : calm, rest);
  if (!waiting || state.lastPackets < MANY_PACKETS) return due;
  return Math.max(due, Math.min(waiting.lastMs + options.quietMs, waiting.firstMs + options.expectMs));
}
