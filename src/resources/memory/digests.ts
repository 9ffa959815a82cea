/**
 * What the clones have of a file or a piece of memory, by digests of its pages: enough to tell what differs now, at 16 bytes a
 * page. Where nothing was ever sent nothing is kept.
 */
import { PAGE_BYTES } from "../../kernel/numbers.ts";
import { digestPages, PAGE_CHANGE } from "../../kernel/pages.ts";

const PIECE_PAGES = 512;
/** Compared together. */
export const PIECE_BYTES = PIECE_PAGES * PAGE_BYTES;
const ZEROS = 0n;
const UNKNOWN = 2n ** 64n - 1n;

/** Told of what differs; ranges in bytes, whole pages. `bytes` are a copy. */
export interface Differences {
  content(offset: number, bytes: Buffer): void;
  zeros(from: number, to: number): void;
}

const piece = Buffer.from(new ArrayBuffer(PIECE_BYTES));
const changed = new Uint8Array(PIECE_PAGES);

function pageDown(at: number): number {
  return Math.floor(at / PAGE_BYTES) * PAGE_BYTES;
}

export function pageUp(at: number): number {
  return Math.ceil(at / PAGE_BYTES) * PAGE_BYTES;
}

export class Digests {
  /** Of each piece that is not all zeros, two words a page. */
  readonly #pieces = new Map<number, BigUint64Array>();

  #piece(index: number): BigUint64Array {
    const known = this.#pieces.get(index);
    if (known) return known;
    const made = new BigUint64Array(2 * PIECE_PAGES);
    this.#pieces.set(index, made);
    return made;
  }

  /**
   * Compares one range, which must not cross the end of a piece.
   * @param read fills the buffer from an offset on; returns the bytes there are
   */
  compare(from: number, to: number, read: (into: Buffer, at: number) => number, differences: Differences): void {
    const start = pageDown(from);
    const bytes = piece.subarray(0, pageUp(to) - start);
    const there = read(bytes, start);
    bytes.fill(0, there);
    const index = Math.floor(start / PIECE_BYTES);
    const pages = bytes.length / PAGE_BYTES;
    if (digestPages(bytes, pages, this.#piece(index), (start % PIECE_BYTES) / PAGE_BYTES, changed) === 0) return;
    for (let p = 0; p < pages; ) {
      const kind = changed[p]!;
      const begin = p * PAGE_BYTES;
      while (p < pages && changed[p] === kind) p++;
      const end = Math.min(p * PAGE_BYTES, Math.max(there, begin));
      if (kind === PAGE_CHANGE.content) differences.content(start + begin, Buffer.from(bytes.subarray(begin, end)));
      else if (kind === PAGE_CHANGE.zeros) differences.zeros(start + begin, start + p * PAGE_BYTES);
    }
  }

  /** A range is zeros now. */
  clear(from: number, to: number, differences: Differences): void {
    for (const [index, words] of this.#within(from, to)) {
      const base = index * PIECE_BYTES;
      const first = Math.max(0, pageUp(from) - base) / PAGE_BYTES;
      const last = Math.min(PIECE_BYTES, pageDown(to) - base) / PAGE_BYTES;
      for (let p = first; p < last; ) {
        const begin = p;
        while (p < last && (words[2 * p] !== ZEROS || words[2 * p + 1] !== ZEROS)) p++;
        if (p > begin) differences.zeros(base + begin * PAGE_BYTES, base + p * PAGE_BYTES);
        else p++;
      }
      if (first < last) words.fill(ZEROS, 2 * first, 2 * last);
      if (first === 0 && last === PIECE_PAGES) this.#pieces.delete(index);
    }
  }

  /** Nothing is there beyond `size`, on neither side. */
  truncate(size: number): void {
    const nothing = { content() {}, zeros() {} };
    this.clear(pageUp(size), Number.MAX_SAFE_INTEGER, nothing);
    for (const index of [...this.#pieces.keys()]) if (index * PIECE_BYTES >= pageUp(size)) this.#pieces.delete(index);
  }

  /** What is in a range on the clones has come another way. */
  forget(from: number, to: number): void {
    for (let at = pageDown(from); at < to; ) {
      const index = Math.floor(at / PIECE_BYTES);
      const end = Math.min(to, (index + 1) * PIECE_BYTES);
      const base = index * PIECE_BYTES;
      this.#piece(index).fill(UNKNOWN, (2 * (at - base)) / PAGE_BYTES, (2 * (pageUp(end) - base)) / PAGE_BYTES);
      at = end;
    }
  }

  /** Somebody joined who has nothing but zeros. */
  forgetAll(): void {
    for (const words of this.#pieces.values()) words.fill(UNKNOWN);
  }

  #within(from: number, to: number): Array<[number, BigUint64Array]> {
    const first = Math.floor(from / PIECE_BYTES);
    const count = Math.ceil(to / PIECE_BYTES) - first;
    if (count > this.#pieces.size)
      return [...this.#pieces].filter(([index]) => index >= first && index < first + count);
    const found: Array<[number, BigUint64Array]> = [];
    for (let index = first; index < first + count; index++) {
      const words = this.#pieces.get(index);
      if (words) found.push([index, words]);
    }
    return found;
  }
}
