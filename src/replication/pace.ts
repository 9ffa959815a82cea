/**
 * Whether a standby is too slow to be waited for: by rule, so that one slow machine does not hold up all clients for ever, and one
 * slow moment does not cost a copy. Pure: times are handed in, milliseconds of a monotonic clock. The rules, either of which
 * is enough (docs/decisions):
 *
 * - Its oldest checkpoint has not been acknowledged for longer than `graceMs` and the time that what it owes takes at
 *   `floorBytesPerMs`. So a big checkpoint has its time, and one that is stuck has not.
 * - For `slowMs` on end it has taken more than `timesSlower` as long as the fastest other standby, and more than `noticedMs`.
 */
export interface PaceOptions {
  graceMs: number;
  floorBytesPerMs: number;
  timesSlower: number;
  noticedMs: number;
  slowMs: number;
}

export const paceDefaults: PaceOptions = {
  graceMs: 2000,
  floorBytesPerMs: 1000,
  timesSlower: 10,
  noticedMs: 100,
  slowMs: 10_000,
};

/** Of one standby. */
export interface Pace {
  /** Smoothed time from a checkpoint's last byte handed over to its acknowledgement; undefined before the first. */
  answerMs: number | undefined;
  /** Since when it has been so much slower than another. */
  slowerSince: number | undefined;
}

export const freshPace: Pace = { answerMs: undefined, slowerSince: undefined };

export function acknowledged(pace: Pace, tookMs: number): Pace {
  const before = pace.answerMs ?? tookMs;
  return { ...pace, answerMs: before + (tookMs - before) / 8 };
}

/** What it has not acknowledged: since when the oldest waits, and how many bytes all of it are. */
export interface Debt {
  since: number;
  bytes: number;
}

export type Slowness = "stuck" | "slower-than-others";

/** To be asked every tick. @param others paces of the other standbys */
export function judge(
  pace: Pace,
  debt: Debt | undefined,
  others: readonly Pace[],
  now: number,
  options: PaceOptions = paceDefaults,
): { pace: Pace; slow: Slowness | undefined } {
  const { graceMs, floorBytesPerMs, timesSlower, noticedMs, slowMs } = options;
  if (debt && now - debt.since > graceMs + debt.bytes / floorBytesPerMs) return { pace, slow: "stuck" };
  const fastest = Math.min(...others.map(({ answerMs }) => answerMs ?? Number.POSITIVE_INFINITY));
  const { answerMs } = pace;
  const slower = answerMs !== undefined && answerMs > noticedMs && answerMs > timesSlower * fastest;
  const slowerSince = slower ? (pace.slowerSince ?? now) : undefined;
  const told = slowerSince !== undefined && now - slowerSince > slowMs;
  return { pace: { ...pace, slowerSince }, slow: told ? "slower-than-others" : undefined };
}

const FIRST_PAUSE_MS = 5000;
const LAST_PAUSE_MS = 60_000;

/** A standby that was too slow is not filled again at once: each time it waits twice as long, for its copy is for nothing too. */
export class SlowPauses {
  readonly #pauses = new Map<string, { until: number; ms: number }>();

  begin(node: string, now: number): void {
    const before = this.#pauses.get(node)?.ms ?? FIRST_PAUSE_MS / 2;
    const ms = Math.min(2 * before, LAST_PAUSE_MS);
    this.#pauses.set(node, { until: now + ms, ms });
  }

  /** Milliseconds that it has to wait still; 0: none. */
  left(node: string, now: number): number {
    return Math.max(0, (this.#pauses.get(node)?.until ?? 0) - now);
  }
}
