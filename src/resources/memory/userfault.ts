/**
 * A userfaultfd of another process that write-protects asynchronously (userfaultfd(2), kernel 6.7): the kernel itself notes what
 * is written, PAGEMAP_SCAN asks it.
 */
import { call, closeDescriptor, pidfdGetfd, pidfdOpen, tryCall } from "../../kernel/calls.ts";
import { checked, SystemCallError } from "../../kernel/errors.ts";
import { ERRNO } from "../../kernel/numbers.ts";
import { readSmall } from "../../kernel/procfs.ts";
import type { Remote } from "../../kernel/remote.ts";

const API = 0xc018aa3f;
const REGISTER = 0xc020aa00;
const UNREGISTER = 0x8010aa01;
const WRITEPROTECT = 0xc018aa06;
const VERSION = 0xaan;
const FEATURE_WP_UNPOPULATED = 1n << 13n;
const FEATURE_WP_ASYNC = 1n << 15n;
const REGISTER_MODE_WP = 2n;
const WRITEPROTECT_MODE_WP = 1n;
const USER_MODE_ONLY = 1;
const O_CLOEXEC_NONBLOCK = 0o2004000;

/**
 * Without CAP_SYS_PTRACE a process gets only one for faults of user code, unless vm.unprivileged_userfaultfd allows more. That
 * makes no difference here: the kernel itself resolves what it reports asynchronously.
 */
function openIn(remote: Remote): number {
  const fd = remote.tryCall("userfaultfd", O_CLOEXEC_NONBLOCK);
  return fd === ERRNO.perm
    ? remote.call("userfaultfd", O_CLOEXEC_NONBLOCK | USER_MODE_ONLY)
    : checked(fd, "userfaultfd");
}

export class Userfault {
  readonly #pid: number;
  readonly #fd: number;
  /** struct uffdio_register, uffdio_writeprotect: range and mode. */
  readonly #range = Buffer.alloc(32);

  private constructor(pid: number, fd: number) {
    this.#pid = pid;
    this.#fd = fd;
  }

  /** @param remote a stopped thread of the process. Errors: EBUSY (the application watches its own memory) */
  static open(pid: number, remote: Remote): Userfault {
    const theirs = openIn(remote);
    const pidfd = pidfdOpen(pid);
    let fd: number;
    try {
      fd = pidfdGetfd(pidfd, theirs);
    } finally {
      closeDescriptor(pidfd);
      remote.call("close", theirs);
    }
    const api = Buffer.alloc(24);
    api.writeBigUInt64LE(VERSION, 0);
    api.writeBigUInt64LE(FEATURE_WP_ASYNC | FEATURE_WP_UNPOPULATED, 8);
    const opened = new Userfault(pid, fd);
    try {
      call("ioctl", fd, API, api);
    } catch (error) {
      opened.close();
      throw error;
    }
    return opened;
  }

  #set(start: bigint, end: bigint, mode: bigint): Buffer {
    this.#range.writeBigUInt64LE(start, 0);
    this.#range.writeBigUInt64LE(end - start, 8);
    this.#range.writeBigUInt64LE(mode, 16);
    return this.#range;
  }

  /** From here on the range is watched; 0 or −errno (−EPERM: shared memory that may never be written; −ESRCH: it has ended). */
  register(start: bigint, end: bigint): number {
    const r = tryCall("ioctl", this.#fd, REGISTER, this.#set(start, end, REGISTER_MODE_WP));
    // Of a memory that is gone the kernel says the same (fs/userfaultfd.c, mmget_not_zero).
    return r === ERRNO.noMemory && !hasMemory(this.#pid) ? ERRNO.srch : r;
  }

  /** Takes the last registration back. */
  unregister(): void {
    tryCall("ioctl", this.#fd, UNREGISTER, this.#range);
  }

  /** Protects all of a range, pages that are not there yet included. */
  protect(start: number, end: number): void {
    const range = this.#set(BigInt(start), BigInt(end), WRITEPROTECT_MODE_WP);
    const result = tryCall("ioctl", this.#fd, WRITEPROTECT, range);
    checked(result, "ioctl(UFFDIO_WRITEPROTECT)", `pid ${this.#pid}, 0x${start.toString(16)}`);
  }

  /** Takes protection off a range: all of it counts as written. */
  unprotect(start: number, end: number): void {
    const result = tryCall("ioctl", this.#fd, WRITEPROTECT, this.#set(BigInt(start), BigInt(end), 0n));
    checked(result, "ioctl(UFFDIO_WRITEPROTECT)", `pid ${this.#pid}, 0x${start.toString(16)}`);
  }

  /** The kernel takes all protection off by itself. */
  close(): void {
    closeDescriptor(this.#fd);
  }
}

function hasMemory(pid: number): boolean {
  try {
    return readSmall(`/proc/${pid}/maps`) !== "";
  } catch (error) {
    if (error instanceof SystemCallError && (error.code === "ENOENT" || error.code === "ESRCH")) return false;
    throw error;
  }
}
