/**
 * The send queue of a TCP socket that no descriptor leads to any more, read from the kernel's memory: the segments that were
 * sent and wait for their acknowledgement (a tree) and those that were not sent yet (a list). include/linux/skbuff.h, net/tcp.h.
 */
import type { Address } from "../../kernel/kernel-memory.ts";
import type { Packet, PacketMemory } from "../../kernel/packet-memory.ts";

/** Bytes from a sequence number on. */
export interface Piece {
  sequence: number;
  bytes: Buffer;
}

/** A packet is a tree's node or a list's member by its first words: struct rb_node {parent and colour, right, left}. */
const NODE = { right: 8, left: 16 } as const;
/** More than any queue has: a walk that is longer has lost its way. */
const MOST_SEGMENTS = 1 << 16;

/**
 * Every segment of the tree below `root` and of the list that begins at `list`. Throws when it does not hold still.
 * @param sequenceAt where a packet has its sequence number
 */
export function readSendQueue(packets: PacketMemory, root: Address, list: Address, sequenceAt: number): Piece[] {
  const piece = ({ head, bytes }: Packet): Piece => ({ sequence: head.readUInt32LE(sequenceAt), bytes });
  return [...treeBelow(packets, root), ...packets.queue(list)].map(piece);
}

/** All of a tree, in any order. */
function treeBelow(packets: PacketMemory, root: Address): Packet[] {
  const found: Packet[] = [];
  const nodes = root === 0n ? [] : [root];
  for (let node = nodes.pop(); node !== undefined; node = nodes.pop()) {
    if (found.length >= MOST_SEGMENTS) throw new RangeError("A send queue without an end");
    const packet = packets.packet(node);
    found.push(packet);
    for (const side of [NODE.right, NODE.left]) {
      const child = packet.head.readBigUInt64LE(side);
      if (child !== 0n) nodes.push(child);
    }
  }
  return found;
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
