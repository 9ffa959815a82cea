/** Polling until a deadline; what was looked at too late says nothing about anybody else. */
import { setTimeout as sleep } from "node:timers/promises";

const POLL_MS = 10;
/** This process came late by so much: others may have done their part in time. */
const LATE_MS = 150;

export class Patience {
  readonly #deadline: number;
  /** This process was kept from running meanwhile. */
  starved = false;

  constructor(ms: number) {
    this.#deadline = performance.now() + ms;
  }

  /** The first answer that is not undefined, or undefined when the time is over. */
  async until<T>(look: () => T | undefined): Promise<T | undefined> {
    for (;;) {
      const found = look();
      if (found !== undefined) return found;
      const before = performance.now();
      if (before > this.#deadline) return undefined;
      await sleep(POLL_MS);
      if (performance.now() - before > POLL_MS + LATE_MS) this.starved = true;
    }
  }
}
