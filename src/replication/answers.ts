/**
 * Whether the machine at the other end of a stream still answers. Its kernel acknowledges what it is sent whether or not the
 * process there comes to run: so a machine or link that is gone is told from a process that is only late.
 */
import type { TcpAnswers } from "../kernel/tcp-info.ts";

/** Linux puts an acknowledgement off by 40 ms (TCP_DELACK_MIN), and its timers count in steps of up to 10 ms. */
const PUT_OFF_MS = 50;
const ROUND_TRIPS = 4;
const DEVIATIONS = 4;

export class Answers {
  /** Since when something has waited without any answer; undefined: nothing waits. */
  #since: number | undefined;

  /** Something came from the peer. */
  heard(): void {
    this.#since = undefined;
  }

  /** Whether by now an answer should have come: something was sent long enough ago, and nothing at all has come since. */
  overdue({ unacknowledged, lastAnswerMs, leastRttMs, rttMs, deviationMs }: TcpAnswers, now: number): boolean {
    if (unacknowledged === 0) {
      this.#since = undefined;
      return false;
    }
    this.#since = Math.max(this.#since ?? now, now - lastAnswerMs);
    const usual = Math.max(PUT_OFF_MS + ROUND_TRIPS * leastRttMs, rttMs + DEVIATIONS * deviationMs);
    return now - this.#since > usual;
  }
}
