/** One operation at a time on one application. */
export class Locks {
  readonly #tails = new Map<string, Promise<unknown>>();

  held(key: string): boolean {
    return this.#tails.has(key);
  }

  /** Runs `work` after everything that asked before; its failure does not harm the next. */
  run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const result = before.then(work, work);
    const tail = result
      .catch(() => {})
      .finally(() => {
        if (this.#tails.get(key) === tail) this.#tails.delete(key);
      });
    this.#tails.set(key, tail);
    return result;
  }
}
