/** Digests of pages by a secret key (native/page-digests.cc): tell that two nodes hold the same page without showing it. */
import { addon } from "./addon.ts";

export const DIGEST_KEY_BYTES = 16;
/** Two 64-bit words. */
export const PAGE_DIGEST_BYTES = 16;
export const NOT_FOUND = 2 ** 32 - 1;

/** Digests of the leading pages of a buffer, `PAGE_DIGEST_BYTES` each. */
export function keyedDigests(bytes: Buffer, pages: number, key: Buffer): Buffer {
  const digests = new BigUint64Array(2 * pages);
  addon.keyedDigests(bytes, pages, alignedKey(key), digests);
  return Buffer.from(digests.buffer);
}

/** Pages known by their digests, each by its place in the order of the digests. */
export class KnownPages {
  readonly #key: Buffer;
  readonly #digests: BigUint64Array;
  /** By digest, at least half empty. */
  readonly #table: Uint32Array;

  constructor(key: Buffer, digests: readonly Buffer[]) {
    this.#key = alignedKey(key);
    const bytes = Buffer.concat(digests);
    this.#digests = new BigUint64Array(bytes.length / 8);
    bytes.copy(Buffer.from(this.#digests.buffer));
    let room = 2;
    while (room < this.#digests.length) room *= 2;
    this.#table = new Uint32Array(room);
    addon.indexDigests(this.#digests, this.#table);
  }

  get count(): number {
    return this.#digests.length / 2;
  }

  /** For each of the leading pages its place, or `NOT_FOUND`. Different pages pass for the same with a probability of 2^-128. */
  find(bytes: Buffer, pages: number): Uint32Array {
    const found = new Uint32Array(pages);
    addon.findPages(bytes, pages, this.#key, this.#digests, this.#table, found);
    return found;
  }
}

/** A buffer's bytes may begin anywhere; the addon reads words. */
function alignedKey(key: Buffer): Buffer {
  const words = new BigUint64Array(2);
  key.copy(Buffer.from(words.buffer));
  return Buffer.from(words.buffer);
}
