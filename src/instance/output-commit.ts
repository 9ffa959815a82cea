/** What the application sends: whether it waits for checkpoints, which epoch covers which packets, and what becomes of it while none can be taken. */
import type { Waiting } from "../checkpoint/period.ts";
import { type Failure, type OperatingError, toFailure } from "../kernel/failure.ts";
import type { PrimaryParts, PrimaryShell } from "./primary-parts.ts";

export class OutputCommit {
  readonly #parts: PrimaryParts;
  readonly #shell: PrimaryShell;
  /** In a planned switch nothing leaves, whatever the policy. */
  isFrozen = false;
  /** Why no checkpoint can be taken, since when. */
  unprotectable: (Failure & { since: string }) | undefined;
  /** By the view machine's word. */
  #nobodyToWaitFor = false;
  /** Newest held packet at each epoch's cut. */
  readonly #marks = new Map<number, number>();
  /** Packets held since the last checkpoint's mark. */
  #uncovered = 0;
  #firstMs = 0;
  #lastMs = 0;

  /** @param onPacket called after every packet that is held */
  constructor(parts: PrimaryParts, shell: PrimaryShell, onPacket: () => void) {
    this.#parts = parts;
    this.#shell = shell;
    parts.hold.onPacket((packets) => {
      const now = performance.now();
      if (this.#uncovered === 0) this.#firstMs = now;
      this.#lastMs = now;
      this.#uncovered += packets;
      onPacket();
    });
  }

  /** Packets that wait for a checkpoint that is still to be taken. */
  get waiting(): Waiting | undefined {
    if (this.#uncovered === 0 || !this.#parts.hold.holding) return undefined;
    return { firstMs: this.#firstMs, lastMs: this.#lastMs };
  }

  /** Packets of any age that have not left. */
  get held(): Waiting | undefined {
    const { hold } = this.#parts;
    return hold.holding && hold.pending > 0 ? { firstMs: this.#firstMs, lastMs: this.#lastMs } : undefined;
  }

  passThrough(on: boolean): void {
    this.#nobodyToWaitFor = on;
    this.apply();
  }

  /** Whether output waits for checkpoints while they can be taken. */
  get #waits(): boolean {
    return !this.#nobodyToWaitFor && this.#parts.application.commit !== "none";
  }

  get #warns(): boolean {
    return this.#parts.application.onUnprotectable === "warn";
  }

  /** By the policy as it is now. */
  apply(): void {
    const { hold } = this.#parts;
    if (this.#waits && !(this.unprotectable !== undefined && this.#warns)) hold.hold();
    else hold.passThrough();
  }

  /** What goes on here after a planned switch goes by the policy of then. */
  applyUnlessFrozen(): void {
    if (!this.isFrozen) this.apply();
  }

  /**
   * First of all in the stop: what is queued now was sent by a state that the dump includes.
   * @returns the newest held packet
   */
  drain(): number {
    const { hold } = this.#parts;
    // What leaves after this instant waits again; what left before is part of this checkpoint.
    if (this.unprotectable && this.#waits) hold.hold();
    return hold.drain().lastId;
  }

  /** The checkpoint of this epoch covers what was sent up to `packet`. Returns how many packets that are. */
  mark(epoch: number, packet: number): number {
    this.#marks.set(epoch, packet);
    const covered = this.#uncovered;
    this.#uncovered = 0;
    return covered;
  }

  release(epoch: number): void {
    const mark = this.#marks.get(epoch);
    if (mark !== undefined) this.#parts.hold.release(mark);
    for (const old of this.#marks.keys()) if (old <= epoch) this.#marks.delete(old);
  }

  /** The application has begun to use what cannot be copied. The standbys keep what they have. */
  refused(error: OperatingError): void {
    const since = this.unprotectable?.since ?? new Date().toISOString();
    this.unprotectable = { ...toFailure(error), since };
    this.applyUnlessFrozen();
  }

  /** What it means for the output that no checkpoint can be taken, as the end of a sentence. */
  consequence(): string {
    if (this.unprotectable === undefined || !this.#waits) return "";
    return this.#warns ? "; its output goes out unprotected" : "; its output waits";
  }

  /** A checkpoint has been taken again. */
  protectableAgain(): void {
    if (this.unprotectable === undefined) return;
    this.unprotectable = undefined;
    this.#shell.note("protectable-again", "Checkpoints can be taken again");
  }
}
