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
  /** With output waiting: the shortest time between the starts of two checkpoints, so that one carries many answers. */
  gatherMs: number;
}

/** So many pages in one checkpoint: more would gather in a long pause than a stop should have to copy. */
const BUSY_PAGES = 1000;
const BUSY_MS = 50;

export const periodDefaults: PeriodOptions = { period: "auto", stopShare: 0.5, idleMs: 200, gatherMs: 4 };

export interface PeriodState {
  /** Milliseconds of a monotonic clock. */
  lastStart: number;
  lastStopMs: number;
  /** Pages of the last checkpoint. */
  lastPages: number;
}

/** Instant at which the next checkpoint is due. */
export function dueAt(state: PeriodState, outputWaits: boolean, options: PeriodOptions): number {
  if (options.period !== "auto") return state.lastStart + options.period;
  const rest = state.lastStopMs / options.stopShare;
  const calm = state.lastPages < BUSY_PAGES ? options.idleMs : BUSY_MS;
  return state.lastStart + Math.max(outputWaits ? options.gatherMs : calm, rest);
}
