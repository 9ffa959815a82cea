/** What waits to be read at one side of a pseudo-terminal. It can only be looked at by reading it and putting it back. */
import { call, tryCall } from "../../kernel/calls.ts";

const FIONREAD = 0x541b;
const TIOCSTI = 0x5412;
const TIOCPKT = 0x5420;
const TCGETS2 = 0x802c542a;
const TCSETS2 = 0x402c542b;
export const TERMIOS_BYTES = 44;
const LOCAL_FLAGS_AT = 12;
const ICANON = 2;
const POLLIN = 1;

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

/** poll(2) events of a terminal; also waits for what another side has written to arrive (n_tty_poll). */
export function events(fd: number): number {
  question.writeInt32LE(fd, 0);
  question.writeInt32LE(POLLIN, 4);
  call("poll", question, 1, 0);
  return question.readInt16LE(6);
}

function waiting(fd: number): number {
  return tryCall("ioctl", fd, FIONREAD, count) < 0 ? 0 : count.readInt32LE();
}

function readAll(fd: number): Buffer {
  const parts: Buffer[] = [];
  for (let n = waiting(fd); n > 0; n = waiting(fd)) {
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

/** Runs `body` while the terminal takes input as it comes; lines stay lines. */
function untranslated(slave: number, body: () => void): void {
  const termios = readTermios(slave);
  const plain = Buffer.from(termios);
  plain.writeUInt32LE(0, 0);
  plain.writeUInt32LE(termios.readUInt32LE(LOCAL_FLAGS_AT) & ICANON, LOCAL_FLAGS_AT);
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
