/** What decisions cost. */
export interface Costs {
  /** How many such decisions were made, and milliseconds: median, worst. */
  count: number;
  medianMs: number;
  worstMs: number;
}

export class Stopwatch {
  readonly #ms: number[] = [];

  time<T>(work: () => T): T {
    const begun = performance.now();
    const result = work();
    this.#ms.push(performance.now() - begun);
    return result;
  }

  costs(): Costs {
    const sorted = [...this.#ms].sort((a, b) => a - b);
    return { count: sorted.length, medianMs: sorted[Math.floor(sorted.length / 2)] ?? 0, worstMs: sorted.at(-1) ?? 0 };
  }
}
