/**
 * What waits at one side of a pseudo-terminal, read from the kernel's memory (struct n_tty_data, tty_buffer.c). A queue that is full keeps
 * the rest of what was written outside of the terminal's line discipline, which has not seen it: to read from the queue would move
 * that in, in the middle of what is put back, and let it mean something too soon.
 */
import { OperatingError } from "../../kernel/failure.ts";
import { KernelFields } from "../../kernel/kernel-fields.ts";
import { type Address, isNothingThere, KernelMemory } from "../../kernel/kernel-memory.ts";
import { END_OF_FILE_AT, events, isCanonical, LINE_DISCIPLINE_AT, POLLIN, readTermios, waiting } from "./queue.ts";

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
const MOST_BYTES = 1 << 16;

const NOTHING = Buffer.alloc(0);
export const NONE: Waiting = { arrived: NOTHING, coming: NOTHING };

/**
 * Undefined where memory does not tell. Errors: `unprotectable-terminal`
 * @param fd of this process, a terminal
 */
export function waitingAt(fd: number, side: "master" | "slave"): Waiting | undefined {
  const memory = KernelMemory.tryOpen();
  const termios = readTermios(fd);
  if (memory === undefined || !FIELDS.areKnown || termios[LINE_DISCIPLINE_AT] !== 0) return undefined;
  // Waits for what is on its way into an empty queue. Lines are the slave's, whichever side's settings are asked for: there, one that has
  // only been begun is told of by neither call.
  const mayHaveBegun = side === "slave" && isCanonical(termios);
  if ((events(fd) & POLLIN) === 0 && waiting(fd) === 0 && !mayHaveBegun) return NONE;
  const file = memory.privateOf(memory.file(fd));
  const terminal = memory.pointer(file + FIELDS.offset("tty_file_private.tty"));
  let before: Waiting | undefined;
  for (let i = 0; i < TRIES; i++) {
    const now = attempt(memory, terminal, termios);
    if (now && before?.arrived.equals(now.arrived) && before.coming.equals(now.coming)) return now;
    before = now;
  }
  throw new OperatingError("unprotectable-terminal", "What waits at a terminal does not hold still", {
    remedy: "Let the application read what comes from its terminal.",
  });
}

/** What is moved and given back while it is read leads anywhere: then undefined; the next look tells. */
function attempt(memory: KernelMemory, terminal: Address, termios: Buffer): Waiting | undefined {
  try {
    return { arrived: arrivedAt(memory, terminal, termios), coming: comingTo(memory, terminal) };
  } catch (error) {
    if (error instanceof RangeError || isNothingThere(error)) return undefined;
    throw error;
  }
}

function arrivedAt(memory: KernelMemory, terminal: Address, termios: Buffer): Buffer {
  const discipline = memory.pointer(terminal + FIELDS.offset("tty_struct.disc_data"));
  const state = memory.read(discipline, FIELDS.at("n_tty_data"));
  const head = state.readBigUInt64LE(FIELDS.at("n_tty_data.read_head"));
  const tail = state.readBigUInt64LE(FIELDS.at("n_tty_data.read_tail"));
  const length = BigInt.asUintN(64, head - tail);
  if (length > QUEUE_BYTES) throw new RangeError(`A terminal's queue has ${length} bytes`);
  const bytes = Buffer.alloc(Number(length));
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
    if (end! - read! > MOST_BYTES) throw new RangeError(`A piece of a terminal's queue has ${end! - read!} bytes`);
    if (end! > read!) parts.push(memory.read(at + FIELDS.offset("tty_buffer.data") + BigInt(read!), end! - read!));
    at = head.readBigUInt64LE(FIELDS.at("tty_buffer.next"));
  }
  return Buffer.concat(parts);
}
