/**
 * Blocks offered by digest rather than sent: a standby that has the same bytes elsewhere (of an earlier clone, of the node's own
 * files) takes them from there, and answers with the blocks that it lacks.
 */
import { hash } from "node:crypto";

export const OFFER_BLOCK_BYTES = 128 << 10;
const DIGEST_BYTES = 16;
/** Stands for a block of zeros, which a new file has of its own. */
const zeroDigest = Buffer.alloc(DIGEST_BYTES);
const zeroBlock = Buffer.alloc(OFFER_BLOCK_BYTES);

/** The first 128 bits of SHA-256. */
export function digestOf(block: Buffer): Buffer {
  if (block.equals(zeroBlock.subarray(0, block.length))) return zeroDigest;
  return hash("sha256", block, "buffer").subarray(0, DIGEST_BYTES);
}

/** Digests of a piece, a block each; the last may be shorter. */
export function digestsOf(piece: Buffer): Buffer {
  const digests = Buffer.alloc(Math.ceil(piece.length / OFFER_BLOCK_BYTES) * DIGEST_BYTES);
  for (let i = 0; i * OFFER_BLOCK_BYTES < piece.length; i++)
    digestOf(blockOf(piece, i)).copy(digests, i * DIGEST_BYTES);
  return digests;
}

export function blockOf(piece: Buffer, index: number): Buffer {
  return piece.subarray(index * OFFER_BLOCK_BYTES, (index + 1) * OFFER_BLOCK_BYTES);
}

export function* offeredBlocks(digests: Buffer): Generator<{ index: number; digest: Buffer }> {
  for (let index = 0; index * DIGEST_BYTES < digests.length; index++) {
    const digest = digests.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES);
    if (!digest.equals(zeroDigest)) yield { index, digest };
  }
}

/** A clone's answer: which blocks of an offer it lacks. */
export interface Lacking {
  id: number;
  blocks: number[];
}
