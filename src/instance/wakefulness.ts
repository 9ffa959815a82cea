/**
 * Whether this process has been kept from running for so long that standbys may have given it up, and what waits in its sockets may be
 * old: the view machine is told `awoke`. A long stop of the application keeps it from hearing and being heard as well; what it sends
 * after one is new, and its acknowledgement counts.
 */
import type { ViewEvent } from "../cluster/view.ts";

/** Less than the detector's least patience. */
export const STARVED_MS = 60;

export class Wakefulness {
  readonly #tell: (event: ViewEvent) => void;
  readonly #clock: () => number;
  #lookedAt: number;
  /** Newest epoch whose end may have left. */
  #sent: number;
  /** No checkpoint has been sent since it awoke: what those before were to let go waits for the next. */
  isStale = false;
  /**
   * It awoke between the last two checkpoints that were sent, from a stop of its own, say. The next silence, as long, would make the
   * acknowledgement of the last one worthless: it is to be waited for first.
   */
  wasSilent = false;

  /**
   * @param sent newest epoch that a predecessor may have sent
   * @param clock milliseconds, monotonic
   */
  constructor(tell: (event: ViewEvent) => void, sent: number, clock = () => performance.now()) {
    this.#tell = tell;
    this.#sent = sent;
    this.#clock = clock;
    this.#lookedAt = clock();
  }

  /** Called every few milliseconds, and before anything is believed that came over a stream. */
  look(): void {
    const now = this.#clock();
    const isLate = now - this.#lookedAt > STARVED_MS;
    this.#lookedAt = now;
    if (!isLate) return;
    this.isStale = true;
    this.#tell({ kind: "awoke", sent: this.#sent });
  }

  /** Called right before the end of a checkpoint is sent. */
  sending(epoch: number): void {
    this.look();
    this.#sent = epoch;
    this.wasSilent = this.isStale;
    this.isStale = false;
  }
}
