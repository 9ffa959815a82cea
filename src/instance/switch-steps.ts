/** How long each step of a switch took; for whoever wants to know why nobody got an answer for so long. */
export class SwitchSteps {
  /** Milliseconds, in their order. */
  readonly ms: Record<string, number> = {};
  #at = performance.now();

  /** Ends here; the next one begins. */
  done(step: string): void {
    const now = performance.now();
    this.ms[step] = Math.round((now - this.#at) * 10) / 10;
    this.#at = now;
  }
}
