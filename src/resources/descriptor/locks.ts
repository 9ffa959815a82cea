/** Locks and leases of files (fcntl(2), flock(2)) as fdinfo shows them, and the calls that take them again. */
import type { RemoteCall } from "../../kernel/remote.ts";

/**
 * @kind lock
 * @kept POSIX, open-description and flock locks, leases; each with the one who holds it.
 * @unkept the place in the queue of those who wait for a lock: they ask anew.
 */
export interface FileLock {
  /** POSIX locks are a process's, OFD and flock locks and leases an open file description's. */
  type: "POSIX" | "OFDLCK" | "FLOCK" | "LEASE";
  write: boolean;
  start: number;
  /** The last byte; −1: to the end, wherever that is. */
  end: number;
}

const LINE = /^lock:\s+\d+: (POSIX|OFDLCK|FLOCK|LEASE)\s+\w+\s+(READ|WRITE)\s+-?\d+ \S+ (\d+) (\d+|EOF)$/gm;
const F_SETLK = 6;
const F_OFD_SETLK = 37;
const F_SETLEASE = 1024;
const LOCK_SH_NB = 5;
const LOCK_EX_NB = 6;
const FLOCK_BYTES = 32;

/**
 * The locks that a descriptor's fdinfo shows. /proc/locks, which has all of the machine's in one file, is no cheap look ahead:
 * the kernel stops every taker of locks for it and waits for all processors, milliseconds each time.
 */
export function locksIn(info: string): FileLock[] {
  if (!info.includes("lock:")) return [];
  return [...info.matchAll(LINE)].map(([, type, mode, start, end]) => ({
    type: type as FileLock["type"],
    write: mode === "WRITE",
    start: Number(start),
    end: end === "EOF" ? -1 : Number(end),
  }));
}

/** Calls to make in the process, once all its descriptors are in place: closing one would give POSIX locks up again. */
export function lockCalls(fd: number, locks: FileLock[], put: (bytes: Buffer) => number): RemoteCall[] {
  return locks.map(({ type, write, start, end }): RemoteCall => {
    if (type === "FLOCK") return ["flock", fd, write ? LOCK_EX_NB : LOCK_SH_NB];
    if (type === "LEASE") return ["fcntl", fd, F_SETLEASE, write ? 1 : 0];
    const lock = Buffer.alloc(FLOCK_BYTES);
    lock.writeInt16LE(write ? 1 : 0, 0);
    lock.writeBigInt64LE(BigInt(start), 8);
    lock.writeBigInt64LE(end < 0 ? 0n : BigInt(end - start + 1), 16);
    return ["fcntl", fd, type === "POSIX" ? F_SETLK : F_OFD_SETLK, put(lock)];
  });
}
