/**
 * Failure detector of one stream: decides from the arrival of heartbeats when the peer is to be suspected. Pure: times
 * are handed in, milliseconds of a monotonic clock (`performance.now()`).
 *
 * The patience adapts to the link's own jitter (mean and deviation of the gaps between arrivals, as TCP's timer does),
 * within bounds. A detector that was itself kept from running accuses nobody: it is told the time by regular ticks, and
 * a tick that comes late by more than a heartbeat means that arrivals may be waiting unread; so what it did not see is
 * not counted as silence.
 */
export interface DetectorOptions {
  /** Milliseconds between the peer's heartbeats; any other message counts as one. */
  heartbeatMs: number;
  /** Milliseconds between own ticks. */
  tickMs: number;
  /** Never suspects after less silence than this. */
  floorMs: number;
  /** Always suspects after this much silence that it could have heard. */
  ceilingMs: number;
  /** Patience after `start`: the peer may have to come to life and connect first. */
  startMs: number;
  /** Deviations beyond the mean gap that are still believed to be jitter. */
  deviations: number;
}

export const detectorDefaults: DetectorOptions = {
  heartbeatMs: 30,
  tickMs: 15,
  floorMs: 150,
  ceilingMs: 1000,
  startMs: 2000,
  deviations: 8,
};

export interface DetectorState {
  options: DetectorOptions;
  /** When the last sign of life came; undefined before the first. */
  lastArrival: number | undefined;
  lastTick: number;
  /** Smoothed gap between arrivals and its mean deviation, milliseconds. */
  meanMs: number;
  deviationMs: number;
  /** Silence that could have been heard since the last sign of life, milliseconds. */
  silenceMs: number;
}

export function startDetector(now: number, options: Partial<DetectorOptions> = {}): DetectorState {
  const all = { ...detectorDefaults, ...options };
  return {
    options: all,
    lastArrival: undefined,
    lastTick: now,
    meanMs: all.heartbeatMs,
    deviationMs: all.heartbeatMs / 2,
    silenceMs: 0,
  };
}

/** A heartbeat, or any other message of the peer, was read at `now`. */
export function heartbeat(state: DetectorState, now: number): DetectorState {
  const { lastArrival, options } = state;
  if (lastArrival === undefined) return { ...state, lastArrival: now, silenceMs: 0 };
  // Arrivals that were read late in one go, or after a clock jumped, say nothing about the link.
  const gap = Math.min(Math.max(now - lastArrival, 0), options.ceilingMs);
  const meanMs = state.meanMs + (gap - state.meanMs) / 8;
  const deviationMs = state.deviationMs + (Math.abs(gap - state.meanMs) - state.deviationMs) / 4;
  return { ...state, lastArrival: now, silenceMs: 0, meanMs, deviationMs };
}

/** To be called every `tickMs`; says whether the peer is suspected now. It stays so until the next heartbeat. */
export function tick(state: DetectorState, now: number): { state: DetectorState; suspected: boolean } {
  const { options } = state;
  // A late tick, or a clock that went back: count no more of the time than we were surely listening.
  const since = Math.max(state.lastTick, state.lastArrival ?? state.lastTick);
  const passed = Math.min(Math.max(now - since, 0), options.tickMs + options.heartbeatMs);
  const next = { ...state, lastTick: now, silenceMs: state.silenceMs + passed };
  return { state: next, suspected: next.silenceMs > patienceMs(next) };
}

/** Whether a tick came so late that peers may have given this process up; the view machine wants to know (`awoke`). */
export function wasStarved(state: DetectorState, now: number): boolean {
  return now - state.lastTick > state.options.floorMs;
}

/** How much silence is still believed to be jitter, milliseconds. */
export function patienceMs(state: DetectorState): number {
  const { options, meanMs, deviationMs } = state;
  if (state.lastArrival === undefined) return options.startMs;
  return Math.min(Math.max(meanMs + options.deviations * deviationMs, options.floorMs), options.ceilingMs);
}
