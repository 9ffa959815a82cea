/** Counts durations in buckets of 2 % width, so that millions of them cost a few kilobytes. Values in milliseconds. */
const FLOOR_MS = 0.001;
const WIDTH = Math.log(1.02);
/** 2 % steps from 1 µs to 10 minutes. */
const BUCKETS = Math.ceil(Math.log(600_000 / FLOOR_MS) / WIDTH) + 1;

export interface Distribution {
  count: number;
  median: number;
  p90: number;
  p99: number;
  max: number;
}

export class Histogram {
  readonly #counts = new Uint32Array(BUCKETS);
  #count = 0;
  #max = 0;

  add(valueMs: number): void {
    const bucket = valueMs <= FLOOR_MS ? 0 : Math.min(BUCKETS - 1, Math.ceil(Math.log(valueMs / FLOOR_MS) / WIDTH));
    this.#counts[bucket]!++;
    this.#count++;
    if (valueMs > this.#max) this.#max = valueMs;
  }

  /** Upper edge of the bucket that holds this share (0–1) of the values; 0 when there are none. */
  quantile(share: number): number {
    if (this.#count === 0) return 0;
    let left = Math.max(1, Math.ceil(this.#count * share));
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      left -= this.#counts[bucket]!;
      if (left <= 0) return Math.min(this.#max, FLOOR_MS * Math.exp(bucket * WIDTH));
    }
    return this.#max;
  }

  summary(): Distribution {
    const { round } = Histogram;
    return {
      count: this.#count,
      median: round(this.quantile(0.5)),
      p90: round(this.quantile(0.9)),
      p99: round(this.quantile(0.99)),
      max: round(this.#max),
    };
  }

  /** Microsecond resolution is all these figures carry. */
  static round(valueMs: number): number {
    return Math.round(valueMs * 1000) / 1000;
  }
}
