/** Classic filters on sockets: SO_ATTACH_FILTER, see socket(7). */
import { addon } from "./addon.ts";
import { checked } from "./errors.ts";
import { NR } from "./numbers.ts";
import { SO, SOL_SOCKET } from "./socket.ts";

const INSTRUCTION_BYTES = 8;
const MOST_INSTRUCTIONS = 4096;
const SO_LOCK_FILTER = 44;
const EACCES = -13;
const code = Buffer.alloc(MOST_INSTRUCTIONS * INSTRUCTION_BYTES);
const length = Buffer.alloc(4);

/** Its instructions; empty without one. "extended": one that cannot be read back, made for bpf(2). */
export function readFilter(fd: number): Buffer | "extended" {
  length.writeUInt32LE(MOST_INSTRUCTIONS);
  const result = addon.syscall(NR.getsockopt, fd, SOL_SOCKET, SO.attachFilter, code, length);
  if (result === EACCES) return "extended";
  checked(result, "getsockopt(SO_GET_FILTER)", fd);
  return Buffer.from(code.subarray(0, length.readUInt32LE() * INSTRUCTION_BYTES));
}

export function attachFilter(fd: number, filter: Buffer): void {
  if (filter.length === 0) return;
  const program = Buffer.alloc(16);
  program.writeUInt16LE(filter.length / INSTRUCTION_BYTES, 0);
  program.writeBigUInt64LE(BigInt(addon.addressOf(filter)), 8);
  const result = addon.syscall(NR.setsockopt, fd, SOL_SOCKET, SO.attachFilter, program, program.length);
  checked(result, "setsockopt(SO_ATTACH_FILTER)", fd);
}

/** From then on nobody may change it. */
export const LOCK_FILTER: readonly [level: number, option: number] = [SOL_SOCKET, SO_LOCK_FILTER];
