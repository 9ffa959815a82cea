/** Locks and leases of files (fcntl(2), flock(2)) as fdinfo shows them, and the calls that take them again. */
import { descriptorInfo, readSmall } from "../../kernel/procfs.ts";
import type { RemoteCall } from "../../kernel/remote.ts";

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
 * Lines of /proc/locks that may be the application's. Where they are as before, its locks are: a look at every descriptor costs
 * much more. Descriptions' locks have no pid, or that of who took them, who may be gone.
 */
export function lockLines(isOwn: (pid: number) => boolean): string {
  const text = readSmall("/proc/locks");
  return text
    .split("\n")
    .filter((line) => {
      const [, type, , , pid] = line.split(/\s+/);
      return type === "FLOCK" || type === "OFDLCK" || type === "LEASE" || isOwn(Number(pid));
    })
    .map((line) => line.slice(line.indexOf(":")))
    .sort()
    .join("\n");
}

export function locksOf(pid: number, fd: number): FileLock[] {
  return [...descriptorInfo(pid, fd).matchAll(LINE)].map(([, type, mode, start, end]) => ({
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
