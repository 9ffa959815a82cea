/**
 * How long the clients got no answer, per named stretch of time (window): pure, times are handed in, in milliseconds of
 * one monotonic clock.
 *
 * Two figures say different things. *Silence* is the longest time in which nobody got an answer: the outage itself.
 * *Worst wait* is the longest time one connection was without an answer: what the unluckiest client felt.
 */
export interface WindowSummary {
  name: string;
  /** From the mark to the window's end. */
  lengthMs: number;
  answers: number;
  silenceMs: number;
  worstWaitMs: number;
  /** The median over all connections of each one's longest wait. */
  medianWaitMs: number;
  /** When the longest silence began, counted from the window's mark. */
  silenceBeganMs: number;
}

interface Window {
  name: string;
  beganAt: number;
  answers: number;
  silenceMs: number;
  silenceBeganAt: number;
  /** Longest wait of each connection. */
  waits: Float64Array;
}

export class GapRecorder {
  readonly #lastOf: Float64Array;
  #lastOfAll: number;
  #window: Window;
  readonly #closed: WindowSummary[] = [];
  #recentMs = 0;

  constructor(connections: number, now: number, firstWindow: string) {
    this.#lastOf = new Float64Array(connections).fill(now);
    this.#lastOfAll = now;
    this.#window = this.#open(firstWindow, now);
  }

  /**
   * A gap belongs to the window in which it ends, so a window opened just before something is done catches its whole
   * effect even when the last answer came before the mark.
   */
  answered(connection: number, now: number): void {
    const window = this.#window;
    window.answers++;
    const wait = now - this.#lastOf[connection]!;
    if (wait > window.waits[connection]!) window.waits[connection] = wait;
    this.#lastOf[connection] = now;
    this.#silence(now);
    this.#lastOfAll = now;
  }

  /** The client pauses by its own choice before it asks: that time is no wait. */
  asked(connection: number, now: number): void {
    this.#lastOf[connection] = now;
  }

  /** Ends the window and opens the next. */
  mark(name: string, now: number): WindowSummary {
    const summary = this.#close(now);
    this.#window = this.#open(name, now);
    return summary;
  }

  /** All windows; a connection that still waits counts with its wait so far. `waiting` says which ones do. */
  finish(now: number, waiting: (connection: number) => boolean): WindowSummary[] {
    let anybody = false;
    for (let connection = 0; connection < this.#lastOf.length; connection++) {
      if (!waiting(connection)) continue;
      anybody = true;
      const wait = now - this.#lastOf[connection]!;
      if (wait > this.#window.waits[connection]!) this.#window.waits[connection] = wait;
    }
    if (anybody) this.#silence(now);
    this.#close(now);
    return this.#closed;
  }

  /** The longest silence since the last call, one that still lasts included: for a live display. */
  takeRecentSilence(now: number): number {
    const recent = Math.max(this.#recentMs, now - this.#lastOfAll);
    this.#recentMs = 0;
    return round(recent);
  }

  #silence(now: number): void {
    this.#recentMs = Math.max(this.#recentMs, now - this.#lastOfAll);
    if (now - this.#lastOfAll <= this.#window.silenceMs) return;
    this.#window.silenceMs = now - this.#lastOfAll;
    this.#window.silenceBeganAt = this.#lastOfAll;
  }

  #open(name: string, now: number): Window {
    const waits = new Float64Array(this.#lastOf.length);
    return { name, beganAt: now, answers: 0, silenceMs: 0, silenceBeganAt: now, waits };
  }

  #close(now: number): WindowSummary {
    const { name, beganAt, answers, silenceMs, silenceBeganAt, waits } = this.#window;
    const sorted = [...waits].sort((a, b) => a - b);
    const summary: WindowSummary = {
      name,
      lengthMs: round(now - beganAt),
      answers,
      silenceMs: round(silenceMs),
      worstWaitMs: round(sorted.at(-1) ?? 0),
      medianWaitMs: round(sorted[Math.floor(sorted.length / 2)] ?? 0),
      silenceBeganMs: round(silenceBeganAt - beganAt),
    };
    this.#closed.push(summary);
    return summary;
  }
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10;
}
