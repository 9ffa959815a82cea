/** The first copy of everything to one standby: how far it is, how fast it may go, and what the standby answers. */
import { setTimeout as sleep } from "node:timers/promises";
import { Answers } from "../files/newcomer.ts";
import { OperatingError } from "../kernel/failure.ts";
import { LIMITS } from "../replication/limits.ts";
import type { RateLimit } from "../replication/rate-limit.ts";
import type { SynchronisationStatus } from "./control.ts";
import type { StandbyLink } from "./standby-link.ts";

/** So long without a look at what others wait for, milliseconds. */
const TURN_MS = 5;
/** The rate is that of the last seconds. */
const WINDOW_MS = 3000;

export class FirstCopy {
  readonly answers = new Answers();
  readonly #standby: StandbyLink;
  readonly #limit: RateLimit;
  readonly #begun = performance.now();
  readonly #sentBefore: number;
  #turn = performance.now();
  #counted: number;
  step: SynchronisationStatus["step"] = "files";
  #total = 0;
  #done = 0;
  #kept = 0;
  /** Moments and bytes done by then, oldest first. */
  readonly #samples: Array<[atMs: number, done: number]> = [];

  constructor(standby: StandbyLink, limit: RateLimit) {
    this.#standby = standby;
    this.#limit = limit;
    this.#sentBefore = this.#counted = standby.link.sentBytes;
  }

  /** Bytes that will have to be dealt with, more than was known so far. */
  expect(bytes: number): void {
    this.#total += bytes;
  }

  /** Bytes dealt with, and those of them that the standby had already. */
  progress(bytes: number, kept = 0): void {
    this.#done += bytes;
    this.#kept += kept;
  }

  get sentBytes(): number {
    return this.#standby.link.sentBytes - this.#sentBefore;
  }

  /** Waits as long as the network or the limit asks for, and lets others run. @throws when the standby is gone */
  readonly pause = async (): Promise<void> => {
    const { link } = this.#standby;
    const sent = link.sentBytes;
    const waitMs = this.#limit.take(sent - this.#counted, performance.now());
    this.#counted = sent;
    if (waitMs >= 1) await sleep(waitMs);
    await link.drained(LIMITS.unsentCopyBytes);
    if (link.isClosed) throw new OperatingError("standby-lost", `The connection to "${this.#standby.node}" ended`);
    if (performance.now() - this.#turn < TURN_MS) return;
    await new Promise(setImmediate);
    this.#turn = performance.now();
  };

  status(): SynchronisationStatus {
    const now = performance.now();
    this.#samples.push([now, this.#done]);
    while (this.#samples.length > 2 && this.#samples[1]![0] < now - WINDOW_MS) this.#samples.shift();
    const [since, before] = this.#samples.length > 1 ? this.#samples[0]! : [this.#begun, 0];
    const bytesPerSecond = Math.round(((this.#done - before) * 1000) / Math.max(1, now - since));
    const remainingBytes = Math.max(0, this.#total - this.#done);
    return {
      step: this.step,
      totalBytes: Math.max(this.#total, this.#done),
      remainingBytes,
      sentBytes: this.sentBytes,
      keptBytes: this.#kept,
      bytesPerSecond,
      ...(bytesPerSecond > 0 ? { secondsLeft: Math.ceil(remainingBytes / bytesPerSecond) } : {}),
    };
  }

  /** For the event that tells of its end. */
  summary(): { seconds: number; bytes: number; sentBytes: number; keptBytes: number } {
    const seconds = Number(((performance.now() - this.#begun) / 1000).toFixed(3));
    return { seconds, bytes: this.#done, sentBytes: this.sentBytes, keptBytes: this.#kept };
  }
}
