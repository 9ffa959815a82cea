/** Calls on files by directory descriptor and raw path: names are bytes (latin1 strings), links are never followed. */
import { call, tryCall } from "./calls.ts";
import { checked } from "./errors.ts";

export const AT_EMPTY_PATH = 0x1000;
const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_REMOVEDIR = 0x200;
export const O_RDONLY = 0;
export const O_WRONLY = 1;
export const O_RDWR = 2;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_NOCTTY = 0o400;
export const O_NONBLOCK = 0o4000;
export const O_DIRECTORY = 0o200000;
export const O_NOFOLLOW = 0o400000;
export const O_NOATIME = 0o1000000;
export const O_CLOEXEC = 0o2000000;
export const O_PATH = 0o10000000;
export const MODE_TYPE = 0o170000;
export const TYPE_BITS = {
  file: 0o100000,
  directory: 0o040000,
  symlink: 0o120000,
  character: 0o020000,
} as const;

export const ERRNO_FILES = {
  noEntry: -2,
  exists: -17,
  notDirectory: -20,
  isDirectory: -21,
  nameTooLong: -36,
  loop: -40,
  notEmpty: -39,
} as const;

const STATX_BYTES = 256;
/** Basic facts and the time of birth. */
const STATX_WANTED = 0x7ff | 0x800;

export function rawPath(path: string): Buffer {
  return Buffer.from(path + "\0", "latin1");
}

/** A path of one byte a character, as /proc/PID/maps is read, as text; what is not UTF-8 in it is lost. */
export function pathText(path: string): string {
  return Buffer.from(path, "latin1").toString();
}

/** A struct statx that is filled again and again: reading it costs no garbage. */
export class Status {
  readonly #b = Buffer.alloc(STATX_BYTES);

  /** 0 or −errno; path "" means the descriptor itself. */
  read(directoryFd: number, path: string): number {
    const flags = path === "" ? AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW : AT_SYMLINK_NOFOLLOW;
    return tryCall("statx", directoryFd, rawPath(path), flags, STATX_WANTED, this.#b);
  }

  #wide(at: number): number {
    return this.#b.readUInt32LE(at) + this.#b.readInt32LE(at + 4) * 2 ** 32;
  }

  get links(): number {
    return this.#b.readUInt32LE(16);
  }
  get uid(): number {
    return this.#b.readUInt32LE(20);
  }
  get gid(): number {
    return this.#b.readUInt32LE(24);
  }
  get mode(): number {
    return this.#b.readUInt16LE(28);
  }
  get inode(): number {
    return this.#b.readUInt32LE(32) + this.#b.readUInt32LE(36) * 2 ** 32;
  }
  /** Of files below a layer on another disk the highest bits are set: more than a number can hold exactly. */
  get exactInode(): bigint {
    return this.#b.readBigUInt64LE(32);
  }
  get size(): number {
    return this.#wide(40);
  }
  /** Of 512 bytes, that it takes on the disk. */
  get blocks(): number {
    return this.#wide(48);
  }
  get accessedSeconds(): number {
    return this.#wide(64);
  }
  get accessedNs(): number {
    return this.#b.readUInt32LE(72);
  }
  get changedSeconds(): number {
    return this.#wide(96);
  }
  get changedNs(): number {
    return this.#b.readUInt32LE(104);
  }
  get modifiedSeconds(): number {
    return this.#wide(112);
  }
  get modifiedNs(): number {
    return this.#b.readUInt32LE(120);
  }
  get deviceMajor(): number {
    return this.#b.readUInt32LE(128);
  }
  get deviceMinor(): number {
    return this.#b.readUInt32LE(132);
  }
  /** Of the file system that the inode is on. */
  get ownMajor(): number {
    return this.#b.readUInt32LE(136);
  }
  get ownMinor(): number {
    return this.#b.readUInt32LE(140);
  }
  /** Writes reach the disk without the page cache. */
  get isDax(): boolean {
    return (this.#b.readUInt32LE(8) & 0x200000) !== 0;
  }
  get bornSeconds(): number {
    return this.#wide(80);
  }
  get bornNs(): number {
    return this.#b.readUInt32LE(88);
  }
  /**
   * The inode number is used again for new files; with the time of birth it is unique, but for what was born in the same tick of the
   * file system's clock: see `readHandle`.
   */
  get key(): string {
    return `${this.inode}/${this.bornSeconds}.${this.bornNs}`;
  }
}

const HANDLE_BYTES = 128;
const handle = Buffer.alloc(8 + HANDLE_BYTES);
const mountId = Buffer.alloc(8);

/**
 * What tells an inode from all that had its number before (name_to_handle_at(2): number and generation, on ext4). Undefined where the file
 * system has no such thing, or the name is gone.
 */
export function readHandle(directoryFd: number, path: string): string | undefined {
  handle.writeUInt32LE(HANDLE_BYTES, 0);
  const flags = path === "" ? AT_EMPTY_PATH : 0;
  if (tryCall("name_to_handle_at", directoryFd, rawPath(path), handle, mountId, flags) < 0) return undefined;
  return handle.toString("latin1", 4, 8 + handle.readUInt32LE(0));
}

const entries = Buffer.alloc(64 * 1024);

/**
 * Names in an open directory and their inode numbers, without "." and "..", in the directory's order; none any more once it
 * is removed.
 */
export function readEntries(fd: number): Map<string, number> {
  const found = new Map<string, number>();
  call("lseek", fd, 0, 0);
  for (;;) {
    const n = tryCall("getdents64", fd, entries, entries.length);
    if (n === 0 || n === ERRNO_FILES.noEntry) return found;
    checked(n, "getdents64", fd);
    for (let at = 0; at < n; at += entries.readUInt16LE(at + 16)) {
      const name = entries.toString("latin1", at + 19, entries.indexOf(0, at + 19));
      if (name !== "." && name !== "..")
        found.set(name, entries.readUInt32LE(at) + entries.readUInt32LE(at + 4) * 2 ** 32);
    }
  }
}

const target = Buffer.alloc(4096);

/** Where a symbolic link leads; empty when it is not there any more. */
export function tryReadLink(directoryFd: number, path: string): string {
  const n = tryCall("readlinkat", directoryFd, rawPath(path), target, target.length);
  return target.toString("latin1", 0, Math.max(0, n));
}

const list = Buffer.alloc(65536);
const value = Buffer.alloc(65536);

/** Names of extended attributes of an absolute path, links followed; empty where there are none or none can be. */
/** @param of a path, or an open descriptor (not O_PATH) */
export function listExtended(of: string | number): string[] {
  const n =
    typeof of === "number"
      ? tryCall("flistxattr", of, list, list.length)
      : tryCall("listxattr", rawPath(of), list, list.length);
  return n <= 0 ? [] : list.toString("latin1", 0, n - 1).split("\0");
}

export function getExtended(path: string, name: string): Buffer | undefined {
  const n = tryCall("getxattr", rawPath(path), rawPath(name), value, value.length);
  return n < 0 ? undefined : Buffer.from(value.subarray(0, n));
}

export function setExtended(path: string, name: string, content: Buffer): number {
  return tryCall("setxattr", rawPath(path), rawPath(name), content, content.length, 0);
}

export function removeExtended(path: string, name: string): number {
  return tryCall("removexattr", rawPath(path), rawPath(name));
}

/** Reads until the buffer is full or the file ends. */
export function readAt(fd: number, into: Buffer, at: number): number {
  let done = 0;
  while (done < into.length) {
    const n = call("pread64", fd, into.subarray(done), into.length - done, at + done);
    if (n === 0) break;
    done += n;
  }
  return done;
}

export function writeAt(fd: number, bytes: Buffer, at: number): void {
  for (let done = 0; done < bytes.length; )
    done += call("pwrite64", fd, bytes.subarray(done), bytes.length - done, at + done);
}

const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const ENXIO = -6;

/** Where the next data begins at or after an offset; `size` when only a hole is left. */
export function nextData(fd: number, at: number, size: number): number {
  const n = tryCall("lseek", fd, at, SEEK_DATA);
  return n === ENXIO ? size : n < 0 ? at : Math.min(n, size);
}

export function nextHole(fd: number, at: number, size: number): number {
  const n = tryCall("lseek", fd, at, SEEK_HOLE);
  return n < 0 ? size : Math.min(n, size);
}

const times = Buffer.alloc(32);

/** Sets both times of a name, a link itself. */
export function setTimes(
  directoryFd: number,
  path: string,
  accessed: [number, number],
  modified: [number, number],
): void {
  [accessed, modified].forEach(([seconds, nanoseconds], i) => {
    times.writeBigInt64LE(BigInt(seconds), i * 16);
    times.writeBigInt64LE(BigInt(nanoseconds), i * 16 + 8);
  });
  call("utimensat", directoryFd, rawPath(path), times, AT_SYMLINK_NOFOLLOW);
}

export function setOwner(directoryFd: number, path: string, uid: number, gid: number): void {
  call("fchownat", directoryFd, rawPath(path), uid, gid, AT_SYMLINK_NOFOLLOW);
}

const OPEN_HOW_BYTES = 24;
const how = Buffer.alloc(OPEN_HOW_BYTES);
const RESOLVE_NO_SYMLINKS = 4;
const RESOLVE_IN_ROOT = 0x10;

/**
 * Opens below `rootFd` as if it were the root, and refuses symbolic links on the way (openat2, kernel 5.6). "" is the root
 * itself. A descriptor or −errno.
 */
export function tryOpenBelow(rootFd: number, path: string, flags: number, mode = 0): number {
  how.writeBigUInt64LE(BigInt(flags | O_CLOEXEC), 0);
  how.writeBigUInt64LE(BigInt(mode), 8);
  how.writeBigUInt64LE(BigInt(RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS), 16);
  return tryCall("openat2", rootFd, rawPath(path === "" ? "." : path), how, OPEN_HOW_BYTES);
}

export function openBelow(rootFd: number, path: string, flags: number, mode = 0): number {
  return checked(tryOpenBelow(rootFd, path, flags, mode), "openat2", path);
}

const OPEN_TREE_CLONE = 1;

/** A directory's mount alone, without what is mounted on it: what an overlay sees of its lower layer. The caller closes it. */
export function bareTree(path: string): number {
  const AT_FDCWD = -100;
  return call("open_tree", AT_FDCWD, rawPath(path), OPEN_TREE_CLONE | O_CLOEXEC);
}
