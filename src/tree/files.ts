/** What is known of the files that an application leans on: build ids of ELF files, and whether they are its own. */
import { existsSync, readSync } from "node:fs";
import type { FileIdentity } from "./graph.ts";
import { lookAtFile } from "./regular-file.ts";

const ELF_MAGIC = 0x7f454c46;
const PT_NOTE = 4;
const NT_GNU_BUILD_ID = 3;
const HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
/** Notes are short; what is longer is none of a program file. */
const MOST_NOTE_BYTES = 1 << 16;

function readAt(fd: number, at: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  return bytes.subarray(0, readSync(fd, bytes, 0, length, at));
}

/** The build id in a segment of notes (elf(5)), hexadecimal. */
export function buildIdIn(notes: Buffer): string | undefined {
  const padded = (length: number) => (length + 3) & ~3;
  for (let at = 0; at + 12 <= notes.length; ) {
    const [nameBytes, bytes, type] = [notes.readUInt32LE(at), notes.readUInt32LE(at + 4), notes.readUInt32LE(at + 8)];
    const name = notes.toString("latin1", at + 12, at + 12 + nameBytes);
    const from = at + 12 + padded(nameBytes);
    if (type === NT_GNU_BUILD_ID && name === "GNU\0") return notes.toString("hex", from, from + bytes);
    at = from + padded(bytes);
  }
  return undefined;
}

/** Of an open 64-bit ELF file; undefined for all others. */
export function buildIdOf(fd: number): string | undefined {
  const header = readAt(fd, 0, HEADER_BYTES);
  if (header.length < HEADER_BYTES || header.readUInt32BE() !== ELF_MAGIC || header[4] !== 2) return undefined;
  const table = readAt(fd, Number(header.readBigUInt64LE(32)), header.readUInt16LE(56) * PROGRAM_HEADER_BYTES);
  for (let at = 0; at + PROGRAM_HEADER_BYTES <= table.length; at += PROGRAM_HEADER_BYTES) {
    if (table.readUInt32LE(at) !== PT_NOTE) continue;
    const bytes = Math.min(Number(table.readBigUInt64LE(at + 32)), MOST_NOTE_BYTES);
    const id = buildIdIn(readAt(fd, Number(table.readBigUInt64LE(at + 8)), bytes));
    if (id !== undefined) return id;
  }
  return undefined;
}

/** Looks files up; what was found of one is remembered as long as the file is the same. */
export class ProgramFiles {
  readonly #rootFd: number;
  readonly #layer: string;
  readonly #known = new Map<string, { of: string; buildId: string | undefined }>();

  /** @param layer the application's own layer, see stage/root.ts */
  constructor(rootFd: number, layer: string) {
    this.#rootFd = rootFd;
    this.#layer = layer;
  }

  /** Undefined for what is not there (any more) or no regular file. */
  identify(path: string): FileIdentity | undefined {
    return lookAtFile(this.#rootFd, path, (fd, { dev, ino, size, mtimeMs }) => {
      const isOwn = existsSync(this.#layer + path);
      const of = `${dev} ${ino} ${size} ${mtimeMs}`;
      const known = this.#known.get(path);
      const buildId = known?.of === of ? known.buildId : buildIdOf(fd);
      this.#known.set(path, { of, buildId });
      return { isOwn, ...(buildId === undefined ? {} : { buildId }) };
    });
  }
}
