/** A token bucket: no more than so many bytes a second over any longer time, a tenth of a second's worth at once. */
export class RateLimit {
  /** 0: no limit. */
  bytesPerSecond: number;
  #tokens = 0;
  #atMs: number | undefined;

  constructor(bytesPerSecond: number) {
    this.bytesPerSecond = bytesPerSecond;
  }

  /** Bytes that have gone out. Returns how long nothing more may, milliseconds. */
  take(bytes: number, nowMs: number): number {
    if (this.bytesPerSecond === 0) return 0;
    const most = this.bytesPerSecond * BURST_SECONDS;
    const seconds = (nowMs - (this.#atMs ?? nowMs)) / 1000;
    this.#tokens =
      Math.min(most, (this.#atMs === undefined ? most : this.#tokens) + seconds * this.bytesPerSecond) - bytes;
    this.#atMs = nowMs;
    return this.#tokens >= 0 ? 0 : (-this.#tokens / this.bytesPerSecond) * 1000;
  }
}

const BURST_SECONDS = 0.1;
