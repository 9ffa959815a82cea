/** What is in a pipe: looked at without being taken (tee(2)), and put into a new one. */
import { call, closeDescriptor, setStatusFlags } from "../../kernel/calls.ts";
import { PAGE_BYTES } from "../../kernel/numbers.ts";
import { type Description, O } from "../kind.ts";
import { portionsIn } from "./ring.ts";

export interface PipeContent {
  content: Buffer;
  /** Lengths of what reads take, which end with packets when it was made with O_DIRECT. */
  packets: number[];
  /** How many bytes of each were written plainly, before its packet; all of it: there is none. Undefined: nothing tells. */
  plain?: number[];
}

const FIONREAD = 0x541b;
export const F_SETPIPE_SZ = 1031;
export const F_GETPIPE_SZ = 1032;
const SPLICE_F_NONBLOCK = 2;
export const O_DIRECT = 0o40000;
export const NOTHING: PipeContent = { content: Buffer.alloc(0), packets: [] };
const count = Buffer.alloc(4);

export function makePipe(): [reader: number, writer: number] {
  const ends = Buffer.alloc(8);
  call("pipe2", ends, O.closeOnExec);
  return [ends.readInt32LE(0), ends.readInt32LE(4)];
}

/**
 * Tells of a pipe, by what its ends are called, whether packets may be in it. Only writing ends have the flag.
 * @param descriptions of all that are open
 */
export function packetPipes(descriptions: readonly Description[]): (link: string) => boolean {
  let ends: Map<string, Description[]> | undefined;
  return (link) => {
    ends ??= Map.groupBy(
      descriptions.filter(({ flags }) => (flags & O.accessMode) !== O.readOnly),
      (description) => description.link,
    );
    const writers = ends.get(link);
    return writers === undefined || writers.some(({ flags }) => (flags & O_DIRECT) !== 0);
  };
}

/** The bytes in a pipe; they stay there. */
export function peekPipe(fd: number, sizeBytes: number, mayHavePackets: () => boolean): PipeContent {
  call("ioctl", fd, FIONREAD, count);
  const length = count.readInt32LE();
  if (length === 0) return NOTHING;
  const [reader, writer] = makePipe();
  try {
    call("fcntl", writer, F_SETPIPE_SZ, sizeBytes);
    const copied = call("tee", fd, writer, length, SPLICE_F_NONBLOCK);
    const content = Buffer.alloc(copied);
    const packets: number[] = [];
    for (let at = 0; at < copied; ) {
      const n = call("read", reader, content.subarray(at), copied - at);
      packets.push(n);
      at += n;
    }
    const plain = packets.length > 1 || mayHavePackets() ? plainIn(fd, packets) : undefined;
    return { content, packets, ...(plain && { plain }) };
  } finally {
    closeDescriptor(reader);
    closeDescriptor(writer);
  }
}

function plainIn(fd: number, packets: readonly number[]): number[] | undefined {
  const portions = portionsIn(fd);
  const fits = portions?.length === packets.length;
  if (!fits || portions.some(({ plain, packet }, i) => plain + packet !== packets[i])) return undefined;
  return portions.map(({ plain }) => plain);
}

/**
 * Whether it is content of packets, where nothing better tells. Only a writing end has the flag; without one left, several reads for its
 * content tell.
 * @param ends flags of all that are open
 */
export function isPacketized(packets: readonly number[], ends: readonly number[]): boolean {
  return packets.length > 1 || ends.some((flags) => (flags & O_DIRECT) !== 0);
}

interface Piece {
  bytes: Buffer;
  isPacket: boolean;
}

function piecesOf({ content, packets, plain }: PipeContent, packetized: boolean): Piece[] {
  if (plain === undefined && !packetized) return [{ bytes: content, isPacket: false }];
  const pieces: Piece[] = [];
  for (let i = 0, at = 0; i < packets.length; at += packets[i++]!) {
    const bytes = content.subarray(at, at + packets[i]!);
    // A packet is a page at most: what is before its last page was written plainly, and is read with it.
    const before = plain?.[i] ?? Math.max(0, Math.ceil(bytes.length / PAGE_BYTES) - 1) * PAGE_BYTES;
    pieces.push({ bytes: bytes.subarray(0, before), isPacket: false });
    pieces.push({ bytes: bytes.subarray(before), isPacket: true });
  }
  return pieces.filter(({ bytes }) => bytes.length > 0);
}

/** Puts content into an empty pipe. `writer` is left without flags. */
export function fillPipe(writer: number, content: PipeContent, packetized: boolean): void {
  const pieces = piecesOf(content, packetized);
  makeRoom(
    writer,
    pieces.map(({ bytes }) => bytes.length),
  );
  pieces.forEach(({ bytes, isPacket }, i) => {
    if (isPacket) writeAll(writer, bytes, O.nonBlock | O_DIRECT);
    else if (pieces[i + 1]?.isPacket) writeApart(writer, bytes);
    else writeAll(writer, bytes, O.nonBlock);
  });
  setStatusFlags(writer, 0);
}

/** So that what is written next is not added to its last page, as the kernel does even with packets: from another pipe (tee(2)). */
function writeApart(writer: number, bytes: Buffer): void {
  const [scratchReader, scratchWriter] = makePipe();
  try {
    makeRoom(scratchWriter, [bytes.length]);
    writeAll(scratchWriter, bytes, O.nonBlock);
    took(call("tee", scratchReader, writer, bytes.length, SPLICE_F_NONBLOCK), bytes.length);
  } finally {
    closeDescriptor(scratchReader);
    closeDescriptor(scratchWriter);
  }
}

/**
 * Here each piece takes pages of its own. What was spliced from a network lies closer: a pipe may have held more than its size in bytes,
 * and gets as much room as it needs now (it could not be made smaller with so much in it).
 */
function makeRoom(writer: number, pieces: readonly number[]): void {
  const bytes = pieces.reduce((sum, piece) => sum + Math.ceil(piece / PAGE_BYTES), 0) * PAGE_BYTES;
  if (bytes > call("fcntl", writer, F_GETPIPE_SZ)) call("fcntl", writer, F_SETPIPE_SZ, bytes);
}

/** Without waiting: nobody would read. */
function writeAll(writer: number, bytes: Buffer, flags: number): void {
  setStatusFlags(writer, flags);
  took(call("write", writer, bytes, bytes.length), bytes.length);
}

function took(written: number, bytes: number): void {
  if (written !== bytes) throw new Error(`A pipe took ${written} of ${bytes} bytes`);
}
