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

export const periodDefaults: PeriodOptions = { period: "auto", stopShare: 0.5, idleMs: 200, gatherMs: 4 };

export interface PeriodState {
  /** Milliseconds of a monotonic clock. */
  lastStart: number;
  lastStopMs: number;
}

/** Instant at which the next checkpoint is due. */
export function dueAt(state: PeriodState, outputWaits: boolean, options: PeriodOptions): number {
  if (options.period !== "auto") return state.lastStart + options.period;
  const rest = state.lastStopMs / options.stopShare;
  return state.lastStart + (outputWaits ? Math.max(options.gatherMs, rest) : Math.max(options.idleMs, rest));
}
