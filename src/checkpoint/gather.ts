/**
 * Whether output that has become quiet waits on, because the application is still at work on the questions that came with it: a
 * server that reads from all its clients before it answers the first would else be cut in between, and every answer would wait for
 * the checkpoint after. Learns: an application that is always at work lets its answers wait no longer than is of use. Pure.
 */
import type { Waiting } from "./period.ts";

/** The longest that the first packet waits for others. */
const MOST_MS = 5;
const LEAST_MS = 1;
/** When the application is at work, it is looked at again after so long. */
export const LOOK_MS = 0.3;

export class Gather {
  #allowedMs = MOST_MS;
  /** The newest packet when output waited on for the first time since the last cut. */
  #from: number | undefined;

  /** @param waiting output that is due, as of `now`, milliseconds of the same clock */
  waitsOn(waiting: Waiting, now: number, isAtWork: () => boolean): boolean {
    if (now + LOOK_MS > waiting.since + this.#allowedMs || !isAtWork()) return false;
    this.#from ??= waiting.newest;
    return true;
  }

  /** The checkpoint for it has begun. */
  cut(waiting: Waiting | undefined): void {
    if (this.#from === undefined) return;
    const wasOfUse = waiting !== undefined && waiting.newest > this.#from;
    this.#allowedMs = wasOfUse ? Math.min(MOST_MS, 2 * this.#allowedMs) : Math.max(LEAST_MS, this.#allowedMs / 2);
    this.#from = undefined;
  }
}
