/** The bytes of one file towards the clones: all that is not as it was last sent, block by block, or given ranges. */
import { hash } from "node:crypto";
import { BlockPool, type Room } from "../checkpoint/blocks.ts";
import { nextData, readAt } from "../kernel/files.ts";
import { CHUNK_BYTES, type FileChange } from "./change.ts";

export const BLOCK_BYTES = 4096;
const DIGEST_BYTES = 16;
const zeroBlock = Buffer.alloc(BLOCK_BYTES);
const zeroDigest = Buffer.alloc(DIGEST_BYTES);
const blocks = new BlockPool();
/** Where pieces are read. What goes out as a whole goes out in it, and the next piece is read into another. */
let scratch = blocks.take(CHUNK_BYTES);
/** Shorter ones are copied: a block of this size would wait for them. */
const LEAST_HANDED_OVER = CHUNK_BYTES / 2;

export type EmitChange = (change: FileChange) => void;
/** Bytes from the first to before the last. */
export type Range = [start: number, end: number];

/** Sorted, and one where they touch or overlap. */
export function merged(ranges: Range[]): Range[] {
  if (ranges.length < 2) return ranges;
  const result: Range[] = [];
  for (const [start, end] of ranges.sort((a, b) => a[0] - b[0])) {
    const last = result.at(-1);
    if (last && start <= last[1]) last[1] = Math.max(last[1], end);
    else result.push([start, end]);
  }
  return result;
}

/** How much a pass may still send before others get their turn, bytes. */
export class Budget {
  bytes: number;

  constructor(bytes = Number.POSITIVE_INFINITY) {
    this.bytes = bytes;
  }

  get isSpent(): boolean {
    return this.bytes <= 0;
  }
}

/** What the clones have of a file. */
export class SentContent {
  size = 0;
  /** 16 bytes per block, zero for a block of zeros; undefined when what the clones have is not known block by block. */
  #digests: Buffer | undefined = Buffer.alloc(0);
  /** Nothing but zeros has been sent so far. */
  #empty = true;

  /** The clones may have anything: everything is sent next time. */
  forget(): void {
    this.#digests = undefined;
    this.#empty = false;
  }

  #setSize(path: string, size: number, emit: EmitChange): void {
    if (this.size !== size) emit({ type: "size", path, size });
    this.size = size;
    const bytes = Math.ceil(size / BLOCK_BYTES) * DIGEST_BYTES;
    const old = this.#digests;
    if (!old || old.length === bytes) return;
    this.#digests = Buffer.alloc(bytes);
    old.copy(this.#digests, 0, 0, Math.min(old.length, bytes));
  }

  /**
   * Sends what differs from the last time; all of it when that is not known.
   * @param remember keep digests, so that the next comparison knows; not needed where a log tells the ranges
   */
  compare(fd: number, size: number, path: string, emit: EmitChange, remember: boolean): void {
    this.#setSize(path, size, emit);
    const known = this.#digests;
    const digests = known ?? (remember ? Buffer.alloc(Math.ceil(size / BLOCK_BYTES) * DIGEST_BYTES) : undefined);
    const sender = new ChunkSender(path, emit, remember || !this.#empty ? digests : undefined);
    sender.always = known === undefined;
    sender.zeros = known === undefined && !this.#empty;
    for (let at = 0; at < size; at += CHUNK_BYTES)
      sender.judge(readPiece(fd, at, Math.min(CHUNK_BYTES, size - at), size), at);
    this.#digests = remember ? digests : undefined;
    if (size > 0) this.#empty = false;
  }

  /** The clones may have something of it that is not known any more: nothing of that is to show between or behind what comes. */
  empty(path: string, emit: EmitChange): void {
    this.#setSize(path, 0, emit);
    this.#empty = true;
  }

  /** Before the pieces of a file that no clone has: its length. */
  begin(path: string, size: number, emit: EmitChange, remember: boolean): void {
    if (!remember) this.#digests = undefined;
    this.#setSize(path, size, emit);
  }

  /** Holes need no look, for no digest of them is kept. */
  get skipsHoles(): boolean {
    return this.#digests === undefined;
  }

  /**
   * The bytes of one piece as they are now, for a newcomer. Where digests are kept, what differs from them goes to everybody
   * first, so that all clones have the same. Valid until the next call.
   * @param everybody undefined when no clone has the file
   */
  piece(fd: number, at: number, path: string, everybody: EmitChange = () => {}): Buffer {
    const chunk = readPiece(fd, at, Math.min(CHUNK_BYTES, this.size - at), this.size);
    if (this.#digests) new ChunkSender(path, everybody, this.#digests).judge(chunk, at);
    this.#empty = false;
    return chunk;
  }

  /**
   * Sends ranges that the log names, as far as the budget goes. Returns what is left: what lies beyond the size (not there any
   * more, or not there yet: a write is told of before the size grows), and what the budget was not enough for.
   */
  ranges(fd: number, size: number, path: string, told: Range[], emit: EmitChange, budget: Budget): Range[] {
    // Whoever is not stopped for a cut may have been between the two: then this part was told of, and not there.
    const ranges = size > this.size ? merged([...told, [this.size, size]]) : told;
    if (ranges.length > 0) this.forget();
    this.#setSize(path, size, emit);
    const left: Range[] = [];
    for (const [start, last] of ranges) {
      const end = Math.min(last, size);
      let at = start;
      while (at < end && !budget.isSpent) at += sendRange(fd, path, at, end, emit, budget);
      if (at < end) left.push([at, end]);
      if (last > size) left.push([Math.max(start, size), last]);
    }
    return left;
  }
}

/** What an operation costs beside its data, bytes of the budget. */
const OPERATION_BYTES = 256;

/** One operation's worth of a range; returns the bytes that it covers. */
function sendRange(fd: number, path: string, at: number, end: number, emit: EmitChange, budget: Budget): number {
  const hole = nextData(fd, at, end) - at;
  budget.bytes -= OPERATION_BYTES;
  if (hole >= BLOCK_BYTES) {
    emit({ type: "zero", path, at, length: hole });
    return hole;
  }
  const room = blocks.room(Math.min(CHUNK_BYTES, end - at));
  const { bytes } = room;
  bytes.fill(0, readAt(fd, bytes, at));
  emit({ type: "write", path, at, ...room });
  budget.bytes -= bytes.length;
  return bytes.length;
}

/** Bytes of a piece now, zeros beyond the file's end; valid until the next call. */
function readPiece(fd: number, at: number, length: number, size: number): Buffer {
  const chunk = scratch.subarray(0, length);
  if (nextData(fd, at, size) >= at + length) chunk.fill(0);
  else chunk.fill(0, readAt(fd, chunk, at));
  return chunk;
}

/** What is not zero of a piece, for a file that has nothing but zeros there. A piece that was just read is not valid any more. */
export function sendPiece(path: string, at: number, chunk: Buffer, emit: EmitChange): void {
  const sender = new ChunkSender(path, emit, undefined);
  sender.handsOver = chunk.buffer === scratch.buffer && chunk.length >= LEAST_HANDED_OVER;
  sender.judge(chunk, at);
}

/** Whether what `sendPiece` sends of it goes up to its end. */
export function isSentToItsEnd(chunk: Buffer): boolean {
  const last = chunk.subarray(Math.floor((chunk.length - 1) / BLOCK_BYTES) * BLOCK_BYTES);
  return last.compare(zeroBlock, 0, last.length) !== 0;
}

function copyOf(bytes: Buffer): Room {
  const room = blocks.room(bytes.length);
  bytes.copy(room.bytes);
  return room;
}

function handOver(piece: Buffer): Room {
  const block = scratch;
  scratch = blocks.take(CHUNK_BYTES);
  return { bytes: piece, release: () => blocks.give(block) };
}

/** Sends the blocks of one piece; neighbours that go out together make one operation. */
class ChunkSender {
  /** Send blocks whose digest is as before, too, unless they are zeros known to be zeros. */
  always = false;
  /** Send zeros even where no digest says that there was something else. */
  zeros = false;
  /** A piece that goes out as a whole need not be copied. */
  handsOver = false;
  readonly #path: string;
  readonly #emit: EmitChange;
  readonly #digests: Buffer | undefined;
  #runStart = 0;
  #run: "write" | "zero" | undefined;

  constructor(path: string, emit: EmitChange, digests: Buffer | undefined) {
    this.#path = path;
    this.#emit = emit;
    this.#digests = digests;
  }

  judge(chunk: Buffer, offset: number): void {
    for (let at = 0; at < chunk.length; at += BLOCK_BYTES) {
      const kind = this.#judge(chunk.subarray(at, at + BLOCK_BYTES), offset + at);
      if (kind === this.#run) continue;
      this.#flush(chunk, offset, at);
      this.#runStart = at;
      this.#run = kind;
    }
    this.#flush(chunk, offset, chunk.length);
  }

  #judge(block: Buffer, offset: number): "write" | "zero" | undefined {
    const isZero = block.compare(zeroBlock, 0, block.length) === 0;
    if (!this.#digests) return isZero ? (this.zeros ? "zero" : undefined) : "write";
    const digestAt = (offset / BLOCK_BYTES) * DIGEST_BYTES;
    const old = this.#digests.subarray(digestAt, digestAt + DIGEST_BYTES);
    const digest = isZero ? zeroDigest : hash("sha256", block, "buffer").subarray(0, DIGEST_BYTES);
    const same = digest.equals(old);
    if (!same) digest.copy(old);
    if (isZero) return !same || this.zeros ? "zero" : undefined;
    return !same || this.always ? "write" : undefined;
  }

  #flush(chunk: Buffer, offset: number, end: number): void {
    const start = this.#runStart;
    const at = offset + start;
    if (this.#run === "write") {
      const isWhole = start === 0 && end === chunk.length;
      const room = this.handsOver && isWhole ? handOver(chunk) : copyOf(chunk.subarray(start, end));
      this.#emit({ type: "write", path: this.#path, at, ...room });
    } else if (this.#run === "zero") this.#emit({ type: "zero", path: this.#path, at, length: end - start });
    this.#run = undefined;
  }
}
