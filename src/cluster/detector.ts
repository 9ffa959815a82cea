/**
 * Failure detector of one stream: decides from the arrival of heartbeats when the peer is to be suspected. Pure: times
 * are handed in, milliseconds of a monotonic clock (`performance.now()`).
 *
 * The patience adapts to the link's own jitter (mean and deviation of the gaps between arrivals, as TCP's timer does, and the longest
 * silence of late that ended), within bounds: a wide one for a process that is late while its machine answers, a close one where not even that does
 * (replication/answers.ts). A detector that was itself kept from running accuses nobody: it is told the time by regular ticks, and
 * a tick that comes late by more than a heartbeat means that arrivals may be waiting unread; so what it did not see is
 * not counted as silence.
 */
export interface DetectorOptions {
  /** Milliseconds between the peer's heartbeats; any other message counts as one. */
  heartbeatMs: number;
  /** Milliseconds between own ticks. */
  tickMs: number;
  /** Never suspects after less silence than this, as long as the peer's machine answers. */
  floorMs: number;
  /** The same where that does not answer either. */
  unansweredFloorMs: number;
  /** After so much silence the peer's machine is asked, so that it has something to answer. */
  askMs: number;
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
  floorMs: 1000,
  unansweredFloorMs: 70,
  askMs: 35,
  ceilingMs: 2000,
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
  /** The longest such silence that ended, as it is remembered. */
  longestMs: number;
}

/** A silence that ended is believed to come again, a little longer; so long after it, to a third of it. */
const AGAIN = 1.5;
const MEMORY_MS = 20_000;

export function startDetector(now: number, options: Partial<DetectorOptions> = {}): DetectorState {
  const all = { ...detectorDefaults, ...options };
  return {
    options: all,
    lastArrival: undefined,
    lastTick: now,
    meanMs: all.heartbeatMs,
    deviationMs: all.heartbeatMs / 2,
    silenceMs: 0,
    longestMs: 0,
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
  const longestMs = Math.max(state.silenceMs, state.longestMs * Math.exp(-gap / MEMORY_MS));
  return { ...state, lastArrival: now, silenceMs: 0, meanMs, deviationMs, longestMs };
}

export interface Ticked {
  state: DetectorState;
  /** It stays so until the next heartbeat. */
  suspected: boolean;
  /** Now, once in each silence, the peer's machine is to be sent something. */
  ask: boolean;
}

/**
 * To be called every `tickMs`; says whether the peer is suspected now.
 * @param unanswered whether the peer's machine owes an answer
 */
export function tick(state: DetectorState, now: number, unanswered = false): Ticked {
  const { options } = state;
  // A late tick, or a clock that went back: count no more of the time than we were surely listening.
  const since = Math.max(state.lastTick, state.lastArrival ?? state.lastTick);
  const passed = Math.min(Math.max(now - since, 0), options.tickMs + options.heartbeatMs);
  const next = { ...state, lastTick: now, silenceMs: state.silenceMs + passed };
  const ask = state.silenceMs < options.askMs && next.silenceMs >= options.askMs;
  return { state: next, suspected: next.silenceMs > patienceMs(next, unanswered), ask };
}

/** Whether a tick came so late that peers may have given this process up; the view machine wants to know (`awoke`). */
export function wasStarved(state: DetectorState, now: number): boolean {
  return now - state.lastTick > Math.min(state.options.floorMs, state.options.unansweredFloorMs);
}

/** How much silence is still believed to be jitter, milliseconds. */
export function patienceMs(state: DetectorState, unanswered = false): number {
  const { options, meanMs, deviationMs, longestMs } = state;
  if (state.lastArrival === undefined) return options.startMs;
  const floorMs = unanswered ? options.unansweredFloorMs : options.floorMs;
  const jitterMs = Math.max(meanMs + options.deviations * deviationMs, AGAIN * longestMs);
  return Math.min(Math.max(jitterMs, floorMs), options.ceilingMs);
}
