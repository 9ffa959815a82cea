/**
 * Blocks of memory used again and again: what is sent many times a second would otherwise make the collector run as often.
 * Sizes are powers of two; a block that is never given back is the collector's.
 */
const SMALLEST_BYTES = 4 << 10;
/** So many blocks of a size are kept. */
const KEPT = 8;

export interface Room {
  bytes: Buffer;
  release?: () => void;
}

export class BlockPool {
  readonly #free = new Map<number, Buffer[]>();

  /** A block of at least `bytes`. */
  take(bytes: number): Buffer {
    let size = SMALLEST_BYTES;
    while (size < bytes) size *= 2;
    return this.#free.get(size)?.pop() ?? Buffer.allocUnsafeSlow(size);
  }

  /**
   * Room for so many bytes, and the way to give it back; for fewer than `least`, which may be kept for long, a block is too large:
   * they are the collector's.
   */
  room(bytes: number, least = SMALLEST_BYTES / 2): Room {
    if (bytes < least) return { bytes: Buffer.allocUnsafeSlow(bytes) };
    const block = this.take(bytes);
    return { bytes: block.subarray(0, bytes), release: () => this.give(block) };
  }

  give(block: Buffer): void {
    const free = this.#free.get(block.length) ?? [];
    this.#free.set(block.length, free);
    if (free.length < KEPT) free.push(block);
  }
}
