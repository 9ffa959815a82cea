/**
 * Blocks of memory used again and again: what is sent many times a second would otherwise make the collector run as often.
 * Sizes are powers of two; a block that is never given back is the collector's.
 */
const SMALLEST_BYTES = 64 << 10;
/** So many blocks of a size are kept. */
const KEPT = 8;

export class BlockPool {
  readonly #free = new Map<number, Buffer[]>();

  /** A block of at least `bytes`. */
  take(bytes: number): Buffer {
    let size = SMALLEST_BYTES;
    while (size < bytes) size *= 2;
    return this.#free.get(size)?.pop() ?? Buffer.allocUnsafeSlow(size);
  }

  give(block: Buffer): void {
    const free = this.#free.get(block.length) ?? [];
    this.#free.set(block.length, free);
    if (free.length < KEPT) free.push(block);
  }
}
