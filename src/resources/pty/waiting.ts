/**
 * What waits at one side of a pseudo-terminal, read from the kernel's memory (struct n_tty_data, tty_buffer.c). A queue that is full keeps
 * the rest of what was written outside of the terminal's line discipline, which has not seen it: to read from the queue would move
 * that in, in the middle of what is put back, and let it mean something too soon.
 */
import { KernelFields } from "../../kernel/kernel-fields.ts";
import { type Address, KernelMemory } from "../../kernel/kernel-memory.ts";
import { END_OF_FILE_AT, events, isCanonical, LINE_DISCIPLINE_AT, readTermios } from "./queue.ts";

export interface Waiting {
  /** To be read next: typed so, it becomes what it was. */
  arrived: Buffer;
  /** Behind it, before the line discipline. */
  coming: Buffer;
}

const FIELDS = new KernelFields(
  "tty_file_private.tty",
  "tty_struct.disc_data",
  "tty_struct.port",
  "tty_port.buf",
  "tty_bufhead.head",
  "tty_buffer.next",
  "tty_buffer.commit",
  "tty_buffer.read",
  "tty_buffer.data",
  "n_tty_data",
  "n_tty_data.read_head",
  "n_tty_data.read_tail",
  "n_tty_data.read_buf",
  "n_tty_data.read_flags",
);
/** N_TTY_BUF_SIZE */
const QUEUE_BYTES = 4096;
/** The kernel may be moving what was written last. */
const TRIES = 64;
/** A terminal takes 64 KiB that nobody reads, in pieces of at least 256 bytes. */
const MOST_PIECES = 1 << 10;

/** @param fd of this process, a terminal. Undefined where memory does not tell. */
export function waitingAt(fd: number): Waiting | undefined {
  const memory = KernelMemory.tryOpen();
  const termios = readTermios(fd);
  if (memory === undefined || termios[LINE_DISCIPLINE_AT] !== 0) return undefined;
  // Waits for what is on its way into an empty queue.
  events(fd);
  const file = memory.privateOf(memory.file(fd));
  const terminal = memory.pointer(file + FIELDS.offset("tty_file_private.tty"));
  let before: Waiting | undefined;
  for (let i = 0; i < TRIES; i++) {
    const now = { arrived: arrivedAt(memory, terminal, termios), coming: comingTo(memory, terminal) };
    if (before?.arrived.equals(now.arrived) && before.coming.equals(now.coming)) return now;
    before = now;
  }
  throw new Error("What waits at a terminal does not hold still");
}

function arrivedAt(memory: KernelMemory, terminal: Address, termios: Buffer): Buffer {
  const discipline = memory.pointer(terminal + FIELDS.offset("tty_struct.disc_data"));
  const state = memory.read(discipline, FIELDS.at("n_tty_data"));
  const head = state.readBigUInt64LE(FIELDS.at("n_tty_data.read_head"));
  const tail = state.readBigUInt64LE(FIELDS.at("n_tty_data.read_tail"));
  const bytes = Buffer.alloc(Number(BigInt.asUintN(64, head - tail)));
  if (bytes.length > QUEUE_BYTES) throw new RangeError(`A terminal's queue has ${bytes.length} bytes`);
  const from = Number(tail % BigInt(QUEUE_BYTES));
  const lines = isCanonical(termios);
  for (let i = 0; i < bytes.length; i++) {
    const at = (from + i) % QUEUE_BYTES;
    const byte = state[FIELDS.at("n_tty_data.read_buf") + at]!;
    const endsLine = ((state[FIELDS.at("n_tty_data.read_flags") + (at >> 3)]! >> (at & 7)) & 1) !== 0;
    // The end of a file lies there as a zero that ends a line.
    bytes[i] = lines && endsLine && byte === 0 ? termios[END_OF_FILE_AT]! : byte;
  }
  return bytes;
}

function comingTo(memory: KernelMemory, terminal: Address): Buffer {
  const port = memory.pointer(terminal + FIELDS.offset("tty_struct.port"));
  const parts: Buffer[] = [];
  let at = memory.pointer(port + FIELDS.offset("tty_port.buf") + FIELDS.offset("tty_bufhead.head"));
  for (let pieces = 0; at !== 0n; pieces++) {
    if (pieces >= MOST_PIECES) throw new RangeError("A terminal's queue without an end");
    const head = memory.read(at, FIELDS.at("tty_buffer.data"));
    const [read, end] = [FIELDS.at("tty_buffer.read"), FIELDS.at("tty_buffer.commit")].map((i) => head.readUInt32LE(i));
    if (end! > read!) parts.push(memory.read(at + FIELDS.offset("tty_buffer.data") + BigInt(read!), end! - read!));
    at = head.readBigUInt64LE(FIELDS.at("tty_buffer.next"));
  }
  return Buffer.concat(parts);
}
