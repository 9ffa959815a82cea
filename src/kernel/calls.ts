/** Plain system calls, typed: each throws SystemCallError, returns what the call returns. */
import { type Argument, addon } from "./addon.ts";
import { checked } from "./errors.ts";
import { ERRNO, NR } from "./numbers.ts";

/** Any call by its number's name; throws on −errno. */
export function call(name: keyof typeof NR, ...args: Argument[]): number {
  return checked(addon.syscall(NR[name], ...args), name);
}

/** As `call`, but −errno is returned. */
export function tryCall(name: keyof typeof NR, ...args: Argument[]): number {
  return addon.syscall(NR[name], ...args);
}

export function cString(text: string): Buffer {
  return Buffer.from(text + "\0");
}

/** Address of a buffer's first byte; keep the buffer alive while the kernel may use it. */
export function addressOf(buffer: NodeJS.ArrayBufferView): number {
  return addon.addressOf(buffer);
}

export function closeDescriptor(fd: number): void {
  if (fd >= 0) addon.syscall(NR.close, fd);
}

const O_CLOEXEC = 0o2000000;

/** Opens by path with O_CLOEXEC added; returns the descriptor. */
export function openPath(path: string, flags: number, mode = 0): number {
  return checked(addon.syscall(NR.open, cString(path), flags | O_CLOEXEC, mode), "open", path);
}

const F_GETFL = 3;
const F_SETFL = 4;
const O_LARGEFILE = 0o100000;

/** O_* of an open file description, see fcntl(2); without O_LARGEFILE, which a 64-bit kernel adds by itself. */
export function statusFlags(fd: number): number {
  return call("fcntl", fd, F_GETFL, 0) & ~O_LARGEFILE;
}

/** Of those only some can be changed, see F_SETFL in fcntl(2); others are passed over. */
export function setStatusFlags(fd: number, flags: number): void {
  call("fcntl", fd, F_SETFL, flags);
}

/** A pidfd for a process (not a thread). */
export function pidfdOpen(pid: number): number {
  return checked(addon.syscall(NR.pidfd_open, pid, 0), "pidfd_open", pid);
}

/** A duplicate, in this process, of another process's descriptor: same open file description. */
export function pidfdGetfd(pidfd: number, fd: number): number {
  return checked(addon.syscall(NR.pidfd_getfd, pidfd, fd, 0), "pidfd_getfd", fd);
}

/**
 * Starts a program without the event loop's knowledge: whoever calls waits for it.
 * @param descriptors [from, to …]: what it gets
 * @returns its pid
 */
export function spawn(path: string, argv: string[], descriptors: Int32Array): number {
  return checked(addon.spawn(path, argv, descriptors), "execve", path);
}

const MFD_CLOEXEC = 1;

/** Memory that has a descriptor, of a size of its own; closed at exec. */
export function makeMemory(name: string, flags = 0): number {
  return call("memfd_create", cString(name), MFD_CLOEXEC | flags);
}

/** Writes "FD\0LINK\0" of each entry of an opened /proc/PID/fd; returns the bytes used. */
export function readDescriptorTable(directoryFd: number, out: Buffer, pid: number): number {
  return checked(addon.descriptorTable(directoryFd, out), "read of the descriptors", pid);
}

/** As `readDescriptorTable`, of some descriptors only. */
export function readDescriptorLinks(directoryFd: number, fds: Int32Array, out: Buffer, pid: number): number {
  return checked(addon.linksOf(directoryFd, fds, out), "readlink of descriptors", pid);
}

/**
 * Runs a BPF iterator once. Its records are a head of `headBytes`, whose last word tells how many bytes follow it.
 * @returns the bytes of heads, or −1 when there is more than fits into them or into what follows them
 */
export function readWalk(linkFd: number, heads: Buffer, rest: Buffer, headBytes: number): number {
  const n = addon.walk(linkFd, heads, rest, headBytes);
  return n === ERRNO.noSpace ? -1 : checked(n, "bpf", "walk");
}

const KCMP_FILE = 0;

/** Whether two descriptors of two processes are one open file description. */
export function sameOpenFile(pidA: number, fdA: number, pidB: number, fdB: number): boolean {
  return call("kcmp", pidA, pidB, KCMP_FILE, fdA, fdB) === 0;
}

const OPEN_HOW_BYTES = 24;
const RESOLVE_IN_ROOT = 0x10;

/**
 * Opens a path as if `rootFd` were the root directory, symbolic links included (openat2, kernel 5.6).
 * @param path text, or its bytes where it need not be UTF-8
 */
export function openInRoot(rootFd: number, path: string | Buffer, flags: number, mode = 0): number {
  const how = Buffer.alloc(OPEN_HOW_BYTES);
  how.writeBigUInt64LE(BigInt(flags | O_CLOEXEC), 0);
  how.writeBigUInt64LE(BigInt(mode), 8);
  how.writeBigUInt64LE(BigInt(RESOLVE_IN_ROOT), 16);
  const name = typeof path === "string" ? cString(path) : Buffer.concat([path, Buffer.alloc(1)]);
  return checked(addon.syscall(NR.openat2, rootFd, name, how, OPEN_HOW_BYTES), "openat2", String(path));
}

/** Reads a descriptor from offset 0 (a /proc file is made anew by that) into a reused buffer that grows. */
export class Reader {
  #buffer = Buffer.alloc(16384);
  readonly fd: number;

  constructor(fd: number) {
    this.fd = fd;
  }

  /** A view of the content, valid until the next call. */
  read(): Buffer {
    let length = 0;
    for (;;) {
      const n = addon.syscall(NR.pread64, this.fd, this.#buffer.subarray(length), this.#buffer.length - length, length);
      checked(n, "pread");
      length += n;
      if (n === 0) return this.#buffer.subarray(0, length);
      if (length === this.#buffer.length) this.#buffer = Buffer.concat([this.#buffer, Buffer.alloc(length)]);
    }
  }

  close(): void {
    closeDescriptor(this.fd);
  }
}
