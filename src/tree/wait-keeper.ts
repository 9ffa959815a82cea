/** Ends waits that stops have interrupted when their time is over: see `TimedWaits`. */
import { Alarm } from "../kernel/alarm.ts";
import { OperatingError } from "../kernel/failure.ts";
import type { Tracees } from "./tracees.ts";

/** A thread in a wait is stopped at once. */
const STOP_TIMEOUT_US = 20_000;
/** When it did not: next time. */
const AGAIN_MS = 20;

export class WaitKeeper {
  readonly #tracees: Tracees;
  readonly #alarm = new Alarm();

  constructor(tracees: Tracees) {
    this.#tracees = tracees;
    tracees.onReleased = () => this.#set();
    this.#set();
  }

  #set(): void {
    const next = this.#tracees.nextWaitEnd();
    if (next === undefined) this.#alarm.clear();
    else this.#alarm.set(Math.max(0, Number(next - process.hrtime.bigint()) / 1e6), () => this.#end());
  }

  #end(): void {
    try {
      if (!this.#tracees.endWaits(STOP_TIMEOUT_US)) this.#set();
    } catch (error) {
      if (!(error instanceof OperatingError)) throw error;
      this.#alarm.set(AGAIN_MS, () => this.#end());
    }
  }

  close(): void {
    this.#tracees.onReleased = () => {};
    this.#alarm.close();
  }
}
