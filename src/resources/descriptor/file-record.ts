/** What walks over open files tell of each: a head, then a stamp, which is another whenever anything happened to it. */
import type { OpenFile } from "./open-files.ts";

/**
 * {u64 struct file, u64 inode number, u64 file operations, u64 other than 0 from the first lock on that anybody took on the inode,
 * u32 descriptor, u32 flags, u32 mode, u32 bytes of the stamp}
 */
export const HEAD_BYTES = 48;
export const HEAD = { file: 0, inode: 8, operations: 16, locks: 24, fd: 32, flags: 36, mode: 40, stamp: 44 } as const;

/** {u64 position, u64 counter of an eventfd, or head and tail of a pipe, u64 bytes at its tail, u64 its size; 1: look at it} */
export const PLAIN_STAMP_BYTES = 32;
export const PLAIN = { position: 0, counter: 8, tail: 8, head: 12, offset: 16, length: 20, rest: 24 } as const;
export const UNSETTLED = 1;

/** Where the kernel keeps what they are made of, except for TCP sockets: see ../tcp/stamp.ts. */
export const PLAIN_FIELDS = [
  "file.f_inode",
  "file.f_op",
  "file.f_flags",
  "inode.i_ino",
  "inode.i_mode",
  "inode.i_flctx",
  "inode.i_pipe",
  "file.f_pos",
  "file.private_data",
  "eventfd_ctx.count",
  "pipe_inode_info.head",
  "pipe_inode_info.tail",
  "pipe_inode_info.ring_size",
  "pipe_inode_info.bufs",
  "pipe_buffer",
  "pipe_buffer.offset",
  "pipe_buffer.len",
  "pipe_buffer.flags",
] as const;

export const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFIFO = 0o010000;
export const S_IFSOCK = 0o140000;
/** PIPE_BUF_FLAG_PACKET, PIPE_BUF_FLAG_CAN_MERGE: written by write(2); what was spliced may change in its place. */
export const WRITTEN = 0x18;

/** Whether a plain stamp, when it is the one of before, tells that nothing has happened. */
export function isSettled(stamp: Buffer): boolean {
  return stamp.readUInt32LE(PLAIN.rest) !== UNSETTLED;
}

/** What the head at `at` says. */
export function openFile(heads: Buffer, at: number): OpenFile {
  return {
    file: heads.readBigUInt64LE(at + HEAD.file),
    fd: heads.readUInt32LE(at + HEAD.fd),
    flags: heads.readUInt32LE(at + HEAD.flags),
    mayBeLocked: heads.readBigUInt64LE(at + HEAD.locks) !== 0n,
  };
}
