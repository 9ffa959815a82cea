/**
 * The send queue of a TCP socket that no descriptor leads to any more, read from the kernel's memory: the segments that were
 * sent and wait for their acknowledgement (a tree) and those that were not sent yet (a list). include/linux/skbuff.h, net/tcp.h.
 */
import type { KernelMemory } from "../../kernel/kernel-memory.ts";

/** Of struct sk_buff; `next` and `rbnode` lie at its beginning. */
export const SEGMENT_FIELDS = [
  "sk_buff",
  "sk_buff.cb",
  "sk_buff.len",
  "sk_buff.data_len",
  "sk_buff.head",
  "sk_buff.data",
  "sk_buff.end",
  "skb_shared_info.nr_frags",
  "skb_shared_info.frag_list",
  "skb_shared_info.frags",
  "tcp_skb_cb.seq",
];

export type Offsets = (name: string) => number;

/** Bytes from a sequence number on. */
export interface Piece {
  sequence: number;
  bytes: Buffer;
}

/** struct rb_node {parent and colour, right, left} */
const NODE = { right: 8, left: 16 } as const;
/** struct skb_frag {page, length, offset} */
const FRAGMENT_BYTES = 16;
const SHARED_BYTES = 512;
/** A page that is no memory of this machine (net_iov) is marked so. */
const NOT_MEMORY = 1n;
/** More than any queue has: a walk that is longer has lost its way. */
const MOST_SEGMENTS = 1 << 16;

export class SendQueueReader {
  readonly #memory: KernelMemory;
  readonly #at: Offsets;

  constructor(memory: KernelMemory, at: Offsets) {
    this.#memory = memory;
    this.#at = at;
  }

  /** Every segment of the tree below `root` and of the list that begins at `list`. Throws when it does not hold still. */
  pieces(root: bigint, list: bigint): Piece[] {
    const found: Piece[] = [];
    const nodes = root === 0n ? [] : [root];
    for (let node = nodes.pop(); node !== undefined; node = nodes.pop()) {
      const segment = this.#segment(node, found);
      for (const side of [NODE.right, NODE.left]) {
        const child = segment.readBigUInt64LE(side);
        if (child !== 0n) nodes.push(child);
      }
    }
    for (let next = this.#memory.pointer(list); next !== list; ) next = this.#segment(next, found).readBigUInt64LE(0);
    return found;
  }

  #segment(address: bigint, found: Piece[]): Buffer {
    if (found.length >= MOST_SEGMENTS) throw new RangeError("A send queue without an end");
    const at = this.#at;
    const segment = this.#memory.read(address, at("sk_buff"));
    const length = segment.readUInt32LE(at("sk_buff.len"));
    const inPages = segment.readUInt32LE(at("sk_buff.data_len"));
    const parts: Buffer[] = [];
    if (length > inPages) parts.push(this.#memory.read(segment.readBigUInt64LE(at("sk_buff.data")), length - inPages));
    if (inPages > 0) {
      const end = BigInt(segment.readUInt32LE(at("sk_buff.end")));
      parts.push(...this.#fragments(segment.readBigUInt64LE(at("sk_buff.head")) + end));
    }
    const bytes = Buffer.concat(parts);
    if (bytes.length !== length) throw new RangeError(`A segment of ${length} bytes has ${bytes.length}`);
    found.push({ sequence: segment.readUInt32LE(at("sk_buff.cb") + at("tcp_skb_cb.seq")), bytes });
    return segment;
  }

  #fragments(address: bigint): Buffer[] {
    const at = this.#at;
    const shared = this.#memory.read(address, SHARED_BYTES);
    if (shared.readBigUInt64LE(at("skb_shared_info.frag_list")) !== 0n) throw new RangeError("A segment of segments");
    const count = shared.readUInt8(at("skb_shared_info.nr_frags"));
    return Array.from({ length: count }, (_, i) => {
      const from = at("skb_shared_info.frags") + i * FRAGMENT_BYTES;
      const page = shared.readBigUInt64LE(from);
      if (page & NOT_MEMORY) throw new RangeError("A segment outside memory");
      const start = this.#memory.pageAt(page) + BigInt(shared.readUInt32LE(from + 12));
      return this.#memory.read(start, shared.readUInt32LE(from + 8));
    });
  }
}

/** Bytes [start, end) put together; undefined when the pieces do not cover just them. */
export function assemble(pieces: readonly Piece[], start: number, end: number): Buffer | undefined {
  const length = (end - start) | 0;
  if (length < 0) return undefined;
  const out = Buffer.alloc(length);
  let covered = 0;
  for (const { sequence, bytes } of pieces) {
    const from = (sequence - start) | 0;
    // Its first bytes may be acknowledged already.
    const skipped = Math.max(0, -from);
    if (skipped >= bytes.length) continue;
    if (from + bytes.length > length) return undefined;
    covered += bytes.copy(out, from + skipped, skipped);
  }
  return covered === length ? out : undefined;
}
