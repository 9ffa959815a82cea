/** Which descriptors something happened to, look after look, for several who ask at times of their own. */

/** Who has not asked for so many is told that it may be any. */
const KEPT = 20_000;

export class Touches {
  readonly #fds: number[] = [];
  /** How many were forgotten. */
  #gone = 0;

  add(fd: number): void {
    this.#fds.push(fd);
    if (this.#fds.length > 2 * KEPT) this.#gone += this.#fds.splice(0, KEPT).length;
  }

  /** To be given to `since` later. */
  get now(): number {
    return this.#gone + this.#fds.length;
  }

  /** Undefined: it is too long ago. */
  since(then: number): ReadonlySet<number> | undefined {
    return then < this.#gone ? undefined : new Set(this.#fds.slice(then - this.#gone));
  }
}
