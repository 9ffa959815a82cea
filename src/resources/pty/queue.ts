/** What waits to be read at one side of a pseudo-terminal: put where it was; and, where nothing else tells, read and put back. */
import { call, setStatusFlags, statusFlags, tryCall } from "../../kernel/calls.ts";
import { OperatingError } from "../../kernel/failure.ts";
import { O } from "../kind.ts";

const FIONREAD = 0x541b;
const TIOCSTI = 0x5412;
const TIOCPKT = 0x5420;
const TCGETS2 = 0x802c542a;
const TCSETS2 = 0x402c542b;
export const TERMIOS_BYTES = 44;
const OUTPUT_FLAGS_AT = 4;
const LOCAL_FLAGS_AT = 12;
const ICANON = 2;
export const LINE_DISCIPLINE_AT = 16;
const CHARACTERS_AT = 17;
/** VEOF, VEOL: what ends lines other than a newline. */
export const END_OF_FILE_AT = CHARACTERS_AT + 4;
const CHARACTERS = 19;
const END_OF_LINE_AT = CHARACTERS_AT + 11;
/** More than that may be as much as a queue takes (N_TTY_BUF_SIZE): there may be more behind it. */
const SURELY_ALL_BYTES = 2048;
export const POLLIN = 1;

const question = Buffer.alloc(8);
const count = Buffer.alloc(4);

export function readTermios(fd: number): Buffer {
  const termios = Buffer.alloc(TERMIOS_BYTES);
  call("ioctl", fd, TCGETS2, termios);
  return termios;
}

export function setTermios(fd: number, termios: Buffer): void {
  call("ioctl", fd, TCSETS2, termios);
}

export function isCanonical(termios: Buffer): boolean {
  return (termios.readUInt32LE(LOCAL_FLAGS_AT) & ICANON) !== 0;
}

/** poll(2) events of a terminal; also waits for what another side has written to arrive (n_tty_poll). */
export function events(fd: number): number {
  question.writeInt32LE(fd, 0);
  question.writeInt32LE(POLLIN, 4);
  call("poll", question, 1, 0);
  return question.readInt16LE(6);
}

/** FIONREAD: bytes, of lines only those that are complete. */
export function waiting(fd: number): number {
  return tryCall("ioctl", fd, FIONREAD, count) < 0 ? 0 : count.readInt32LE();
}

function readAll(fd: number): Buffer {
  const parts: Buffer[] = [];
  for (let n = waiting(fd); n > 0; n = waiting(fd)) {
    if (n > SURELY_ALL_BYTES)
      throw new OperatingError(
        "unprotectable-terminal",
        `${n} bytes wait at a terminal; how many are behind them cannot be told, as this kernel's memory cannot be read`,
        { remedy: "Let the application read what comes from its terminal.", details: { bytes: n } },
      );
    const bytes = Buffer.alloc(n);
    const got = tryCall("read", fd, bytes, n);
    if (got <= 0) break;
    parts.push(bytes.subarray(0, got));
  }
  return Buffer.concat(parts);
}

/** Puts bytes where they will be read next, as if they had come: no echo, no signals, nothing translated once more. */
export function putBack(fd: number, bytes: Buffer): void {
  for (let i = 0; i < bytes.length; i++) call("ioctl", fd, TIOCSTI, bytes.subarray(i, i + 1));
}

/** Runs `body` while the terminal takes input as it comes, and gives output so; lines stay lines. */
function untranslated(slave: number, body: () => void): void {
  const termios = readTermios(slave);
  const plain = Buffer.from(termios);
  plain.writeUInt32LE(0, 0);
  plain.writeUInt32LE(0, OUTPUT_FLAGS_AT);
  plain.writeUInt32LE(termios.readUInt32LE(LOCAL_FLAGS_AT) & ICANON, LOCAL_FLAGS_AT);
  // Nothing is erased by what was typed behind a "next literally".
  for (let at = CHARACTERS_AT; at < CHARACTERS_AT + CHARACTERS; at++)
    if (isCanonical(termios) && at !== END_OF_FILE_AT && at !== END_OF_LINE_AT) plain[at] = 0;
  setTermios(slave, plain);
  try {
    body();
  } finally {
    setTermios(slave, termios);
  }
}

export function putIntoSlave(slave: number, bytes: Buffer): void {
  if (bytes.length > 0) untranslated(slave, () => putBack(slave, bytes));
}

/**
 * How the kernel's pieces hold most (tty_buffer.c): one that was made for so many bytes takes twice as many, and more of them are made as
 * long as they have not taken the limit of a pseudo-terminal. So: whole small ones up to it, and then the largest.
 */
const SMALL_PIECE_BYTES = 256;
const LARGE_PIECE_BYTES = 1792;
const LIMIT_BYTES = 8192;

/** What is behind that, as if it was being written at `fd`, the other side: the line discipline takes it when it has room. */
export function sendBehind(fd: number, bytes: Buffer): void {
  const flags = statusFlags(fd);
  setStatusFlags(fd, flags | O.nonBlock);
  for (let at = 0; at < bytes.length; ) {
    const most = at < 2 * LIMIT_BYTES ? SMALL_PIECE_BYTES : LARGE_PIECE_BYTES;
    at += call("write", fd, bytes.subarray(at), Math.min(most, bytes.length - at));
  }
  setStatusFlags(fd, flags);
}

/** The same for what programs in the terminal have written: it has been translated. */
export function printBehind(slave: number, bytes: Buffer): void {
  if (bytes.length > 0) untranslated(slave, () => sendBehind(slave, bytes));
}

/** Typed and not read yet. `slave` must not block. */
export function peekSlave(slave: number): Buffer {
  events(slave);
  if (waiting(slave) === 0) return Buffer.alloc(0);
  const bytes = readAll(slave);
  putIntoSlave(slave, bytes);
  return bytes;
}

/** Written by programs in the terminal and not read by its owner yet. */
export function peekMaster(master: number, packets: boolean): Buffer {
  events(master);
  if (waiting(master) === 0) return Buffer.alloc(0);
  const mode = Buffer.alloc(4);
  if (packets) call("ioctl", master, TIOCPKT, mode);
  try {
    const bytes = readAll(master);
    putBack(master, bytes);
    return bytes;
  } finally {
    mode.writeInt32LE(1);
    if (packets) call("ioctl", master, TIOCPKT, mode);
  }
}
