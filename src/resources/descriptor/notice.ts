/** Who is told by a signal that a descriptor has become ready (O_ASYNC, F_SETOWN, F_SETSIG; fcntl(2)). */
import { call } from "../../kernel/calls.ts";
import { SystemCallError } from "../../kernel/errors.ts";
import { readStatus, virtualPid } from "../../kernel/procfs.ts";
import type { RemoteCall } from "../../kernel/remote.ts";

/**
 * @kind descriptor
 * @kept who is told by which signal that it has become ready (O_ASYNC, F_SETOWN, F_SETSIG).
 */
export interface Notice {
  /** F_OWNER_TID, F_OWNER_PID, F_OWNER_PGRP: 0, 1, 2. */
  type: number;
  /** As the application sees it. */
  pid: number;
  /** 0: SIGIO */
  signal: number;
  /** O_* flags of the description. */
  flags: number;
}

export const O_ASYNC = 0o20000;
const F_SETFL = 4;
const F_SETSIG = 10;
const F_GETSIG = 11;
const F_SETOWN_EX = 15;
const F_GETOWN_EX = 16;

/** @param fd a duplicate in this process */
export function noticeOf(fd: number, flags: number): Notice | undefined {
  const owner = Buffer.alloc(8);
  call("fcntl", fd, F_GETOWN_EX, owner);
  const pid = owner.readInt32LE(4);
  if (pid === 0) return undefined;
  const signal = call("fcntl", fd, F_GETSIG, 0);
  try {
    return { type: owner.readInt32LE(0), pid: virtualPid(readStatus(pid)), signal, flags };
  } catch (error) {
    // Who was told has ended: nobody is told any more.
    if (error instanceof SystemCallError && error.code === "ENOENT") return undefined;
    throw error;
  }
}

/** Calls to make in the process whose descriptor it is: signals name its number. */
export function noticeCalls(fd: number, notice: Notice, put: (bytes: Buffer) => number): RemoteCall[] {
  const owner = Buffer.alloc(8);
  owner.writeInt32LE(notice.type, 0);
  owner.writeInt32LE(notice.pid, 4);
  return [
    ["fcntl", fd, F_SETFL, notice.flags & ~O_ASYNC],
    ["fcntl", fd, F_SETOWN_EX, put(owner)],
    ["fcntl", fd, F_SETSIG, notice.signal],
    ["fcntl", fd, F_SETFL, notice.flags],
  ];
}
