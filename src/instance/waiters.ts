/** Requests of the agent that wait for the view machine to get somewhere. */
import { OperatingError } from "../kernel/failure.ts";
import type { InstanceStatus } from "./control.ts";

const TIMEOUT_MS = 15_000;

type Waiter = { until: (status: InstanceStatus) => boolean; resolve: () => void; reject: (error: Error) => void };

export class Waiters {
  readonly #waiters = new Set<Waiter>();

  /** Errors: `timeout` after 15 s, and what `reject` is called with. */
  until(until: Waiter["until"]): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiters.delete(waiter);
        reject(new OperatingError("timeout", `Not done within ${TIMEOUT_MS / 1000} s`));
      }, TIMEOUT_MS);
      const end = (then: () => void) => {
        clearTimeout(timer);
        this.#waiters.delete(waiter);
        then();
      };
      const waiter: Waiter = { until, resolve: () => end(resolve), reject: (error) => end(() => reject(error)) };
      // Looked at after the next change, and a refusal may come at once.
      this.#waiters.add(waiter);
    });
  }

  reject(error: Error): void {
    for (const waiter of [...this.#waiters]) waiter.reject(error);
  }

  /** After a change. */
  look(status: () => InstanceStatus): void {
    if (this.#waiters.size === 0) return;
    setImmediate(() => {
      for (const waiter of [...this.#waiters]) if (waiter.until(status())) waiter.resolve();
    });
  }
}
