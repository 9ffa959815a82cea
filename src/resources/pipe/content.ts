/** What is in a pipe: looked at without being taken (tee(2)), and put into a new one. */
import { call, closeDescriptor, setStatusFlags } from "../../kernel/calls.ts";
import { PAGE_BYTES } from "../../kernel/numbers.ts";
import { O } from "../kind.ts";

export interface PipeContent {
  content: Buffer;
  /** Lengths of the packets in it, when it was made with O_DIRECT. */
  packets: number[];
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

/** The bytes in a pipe; they stay there. */
export function peekPipe(fd: number, sizeBytes: number): PipeContent {
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
    return { content, packets };
  } finally {
    closeDescriptor(reader);
    closeDescriptor(writer);
  }
}

/**
 * Whether it is content of packets. Only a writing end has the flag; without one left, several reads for its content tell.
 * @param ends flags of all that are open
 */
export function isPacketized(packets: readonly number[], ends: readonly number[]): boolean {
  return packets.length > 1 || ends.some((flags) => (flags & O_DIRECT) !== 0);
}

/** Puts content into an empty pipe. `writer` is left without flags. */
export function fillPipe(writer: number, { content, packets }: PipeContent, packetized: boolean): void {
  makeRoom(writer, packetized ? packets : [content.length]);
  if (!packetized) writeAll(writer, content, O.nonBlock);
  else
    for (let i = 0, at = 0; i < packets.length; at += packets[i++]!) {
      const bytes = content.subarray(at, at + packets[i]!);
      // A packet is a page at most: what is before its last page was written plainly, and is read with it.
      const plain = Math.max(0, Math.ceil(bytes.length / PAGE_BYTES) - 1) * PAGE_BYTES;
      writeAll(writer, bytes.subarray(0, plain), O.nonBlock);
      writeAll(writer, bytes.subarray(plain), O.nonBlock | O_DIRECT);
    }
  setStatusFlags(writer, 0);
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
  if (bytes.length === 0) return;
  setStatusFlags(writer, flags);
  const written = call("write", writer, bytes, bytes.length);
  if (written !== bytes.length) throw new Error(`A pipe took ${written} of ${bytes.length} bytes`);
}
