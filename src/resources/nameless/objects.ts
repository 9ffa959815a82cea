/** The files without a name of a clone that does not live yet: kept open by this process, which fills them. */
import { call, closeDescriptor, cString, makeMemory, openInRoot, openPath, tryCall } from "../../kernel/calls.ts";
import { checked, SystemCallError } from "../../kernel/errors.ts";
import { OperatingError } from "../../kernel/failure.ts";
import {
  AT_EMPTY_PATH,
  ERRNO_FILES,
  nextData,
  O_DIRECTORY,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  openBelow,
  readAt,
  Status,
  writeAt,
} from "../../kernel/files.ts";
import { hugeMemoryFlags, writeHuge } from "../../kernel/huge-pages.ts";
import { lackingHugePages } from "../memory/lacking.ts";
import { inodeOf, MEMFD, type ObjectOperation } from "./state.ts";

const MFD_ALLOW_SEALING = 2;
/** With O_DIRECTORY in it. */
const O_TMPFILE = 0o20200000;
const FALLOC_PUNCH_HOLE_KEEP_SIZE = 3;
const SEEK_END = 2;
const AT_FDCWD = -100;
const AT_SYMLINK_FOLLOW = 0x400;
const ZEROS = Buffer.alloc(1 << 20);

interface Held {
  fd: number;
  /** On a disk: gets the name that it had when it is mapped or the application lives, to lose it at once. */
  unnamed: boolean;
  mapped: boolean;
  /** Bytes of a page, where they are huge. */
  huge: number | undefined;
  path: string;
  /** It has another number than the primary's. */
  misses: boolean;
}

/** Numbers of files on the application's own disk. */
export interface NamelessNumbers {
  /** The highest there is. */
  readonly last: number;
  /** Whether what is at this path lies there. */
  covers(path: string): boolean;
  /** What is made gets this number if it is free; undefined: one that no file of the primary's has. */
  with<T>(inode: number | undefined, make: () => T): T;
  /** It has another number for good. */
  missed(path: string, inode: number): void;
}

const status = new Status();

export class Objects {
  readonly #rootFd: number;
  readonly #held = new Map<string, Held>();
  readonly #numbers: NamelessNumbers | undefined;
  /** Let go of before the primary told that they are gone. */
  readonly #released = new Set<string>();

  readonly #isMapped: (id: string) => boolean;
  /** The primary has them no more; here somebody may have them mapped, until his layout follows. */
  readonly #ending = new Set<string>();

  /**
   * @param rootFd the application's root directory
   * @param isMapped whether any process of the clone has it mapped
   * @param numbers of its files, on a disk of its own
   */
  constructor(rootFd: number, isMapped: (id: string) => boolean, numbers?: NamelessNumbers) {
    this.#rootFd = rootFd;
    this.#isMapped = isMapped;
    this.#numbers = numbers;
  }

  get count(): number {
    return this.#held.size;
  }

  apply(operation: ObjectOperation): void {
    if (operation.op === "object") this.#released.delete(operation.id);
    else if (this.#released.has(operation.id)) return;
    switch (operation.op) {
      case "object":
        this.#resize(operation);
        return;
      case "object-bytes":
        write(this.#get(operation.id), operation.bytes, operation.offset);
        return;
      case "object-hole":
        clear(this.#get(operation.id).fd, operation.from, operation.to);
        return;
      case "object-end":
        this.#end(operation.id);
        return;
    }
  }

  get(id: string): { fd: number; unnamed: boolean } | undefined {
    const held = this.#held.get(id);
    if (held?.misses) this.#makeAgain(held, id);
    return held;
  }

  /** Another file has this number on the primary by now. False: none here has it, or it is mapped still. */
  letGo(inode: number): boolean {
    for (const [id, held] of this.#held) {
      if (!held.unnamed || held.mapped || inodeOf(id) !== inode || held.misses) continue;
      this.#ending.delete(id);
      this.#held.delete(id);
      this.#released.add(id);
      closeDescriptor(held.fd);
      return true;
    }
    return false;
  }

  /** What had its number when it came is gone. */
  #makeAgain(held: Held, id: string): void {
    const made = this.#makeUnnamed(held.path, id);
    if (made.misses || held.mapped) {
      closeDescriptor(made.fd);
      this.#numbers!.missed(held.path, inodeOf(id));
      return;
    }
    copy(held.fd, made.fd);
    closeDescriptor(held.fd);
    Object.assign(held, { fd: made.fd, misses: false });
  }

  /**
   * The descriptor behind shared mappings of `bytes` or more; it stays this object's.
   * @param huge bytes of a page, where they are huge
   */
  map(id: string, path: string, bytes: number, huge?: number): number {
    this.#replaceEnding(id);
    const held = this.#held.get(id) ?? this.#hold(id, path, false, huge);
    held.mapped = true;
    if (call("lseek", held.fd, 0, SEEK_END) < bytes) call("ftruncate", held.fd, bytes);
    return held.fd;
  }

  /** The descriptor behind private mappings; what is mapped so shows the name that it had. It stays this object's. */
  behind(id: string): number {
    const held = this.#get(id);
    held.mapped = true;
    if (held.unnamed) this.#showName(held);
    return held.fd;
  }

  /** The same of a program: nobody can write to what is executed, this process neither from here on. */
  program(id: string): number {
    const fd = this.behind(id);
    const held = this.#get(id);
    held.fd = openPath(`/proc/self/fd/${fd}`, O_RDONLY);
    closeDescriptor(fd);
    return held.fd;
  }

  #resize(operation: Extract<ObjectOperation, { op: "object" }>): void {
    const { size, access } = operation;
    const { fd } = this.#take(operation);
    call("ftruncate", fd, size);
    if (access === undefined) return;
    call("fchmod", fd, access.mode);
    tryCall("fchownat", fd, Buffer.from("\0"), access.uid, access.gid, AT_EMPTY_PATH);
  }

  /** Opened by the name that it had, or one beside it, which is gone again at once: links in /proc tell it from then on. */
  #showName(held: Held): void {
    const from = cString(`/proc/self/fd/${held.fd}`);
    const make = () =>
      this.#linkBeside(held.path, (fd, name) => {
        const made = tryCall("linkat", AT_FDCWD, from, fd, cString(name), AT_SYMLINK_FOLLOW);
        if (made === ERRNO_FILES.exists) return undefined;
        checked(made, "linkat", held.path);
        try {
          return openBelow(fd, Buffer.from(name).toString("latin1"), O_RDWR);
        } finally {
          tryCall("unlinkat", fd, cString(name), 0);
        }
      });
    const named = this.#numbers ? this.#numbers.with(undefined, make) : make();
    closeDescriptor(held.fd);
    held.fd = named;
    held.unnamed = false;
  }

  /** @param link to a name in a directory; undefined: there is one */
  #linkBeside(path: string, link: (directoryFd: number, name: string) => number | undefined): number {
    const at = path.lastIndexOf("/") + 1;
    const directory = this.#nearest(path, O_PATH | O_DIRECTORY);
    try {
      for (let n = 0; ; n++) {
        const fd = link(directory, n === 0 ? path.slice(at) : `${path.slice(at)}.~${n}`);
        if (fd !== undefined) return fd;
      }
    } finally {
      closeDescriptor(directory);
    }
  }

  #get(id: string): Held {
    const held = this.#held.get(id);
    if (!held)
      throw new OperatingError(
        "checkpoint-inconsistent",
        `The checkpoint has content of file ${id}, which it never made`,
      );
    return held;
  }

  #take({ id, path, huge }: { id: string; path: string; huge?: number }): Held {
    this.#replaceEnding(id);
    return this.#held.get(id) ?? this.#hold(id, path, huge === undefined && !path.startsWith(MEMFD), huge);
  }

  #hold(id: string, path: string, unnamed: boolean, huge?: number): Held {
    const name = path.replace(/ \(deleted\)$/, "").replace(/^\/(memfd:)?/, "");
    const flags = MFD_ALLOW_SEALING + (huge === undefined ? 0 : hugeMemoryFlags(huge));
    const { fd, misses } = unnamed ? this.#makeUnnamed(path, id) : { fd: makeObject(name, flags, huge), misses: false };
    const held = { fd, unnamed, mapped: false, huge, path, misses };
    this.#held.set(id, held);
    return held;
  }

  #makeUnnamed(path: string, id: string): { fd: number; misses: boolean } {
    const numbers = this.#numbers;
    if (!numbers?.covers(path)) return { fd: this.#makeBeside(path), misses: false };
    // In the root, for another directory might be copied into the layer by that, and take the number.
    const make = () => openInRoot(this.#rootFd, "/", O_TMPFILE | O_RDWR, 0o600);
    const inode = inodeOf(id);
    const fd = numbers.with(inode, make);
    checked(status.read(fd, ""), "statx", path);
    // A file of the node's own that was never changed, which has a number of the node's.
    if (status.inode === inode || inode > numbers.last) return { fd, misses: false };
    closeDescriptor(fd);
    return { fd: numbers.with(undefined, make), misses: true };
  }

  #makeBeside(path: string): number {
    return this.#nearest(path, O_TMPFILE | O_RDWR, 0o600);
  }

  /** Opens its directory, or the nearest above that is there. */
  #nearest(path: string, flags: number, mode = 0): number {
    for (let directory = path; ; ) {
      directory = directory.slice(0, directory.lastIndexOf("/"));
      try {
        return openInRoot(this.#rootFd, directory || "/", flags, mode);
      } catch (error) {
        const gone = error instanceof SystemCallError && (error.code === "ENOENT" || error.code === "ENOTDIR");
        if (!gone || directory === "") throw error;
      }
    }
  }

  #end(id: string): void {
    if (!this.#held.has(id)) return;
    this.#ending.add(id);
    this.#let(id);
  }

  /** After a layout: what was only mapped still and is not any more goes. */
  settle(): void {
    for (const id of this.#ending) this.#let(id);
  }

  #let(id: string): void {
    if (!this.#isMapped(id)) this.#close(id);
  }

  /** The same number is another object now; who has the old one mapped keeps it without this process. */
  #replaceEnding(id: string): void {
    if (this.#ending.has(id)) this.#close(id);
  }

  #close(id: string): void {
    this.#ending.delete(id);
    closeDescriptor(this.#held.get(id)?.fd ?? -1);
    this.#held.delete(id);
  }

  /** From here on only the application's processes hold them. Idempotent. */
  release(): void {
    for (const { fd } of this.#held.values()) closeDescriptor(fd);
    this.#held.clear();
    this.#ending.clear();
  }
}

function write({ fd, huge }: Held, bytes: Buffer, offset: number): void {
  if (huge === undefined) {
    writeAt(fd, bytes, offset);
    return;
  }
  try {
    writeHuge(fd, bytes, offset, huge);
  } catch (error) {
    throw lackingHugePages(huge, bytes.length, error);
  }
}

function makeObject(name: string, flags: number, huge: number | undefined): number {
  try {
    return makeMemory(name, flags);
  } catch (error) {
    throw huge === undefined ? error : lackingHugePages(huge, huge, error);
  }
}

function copy(from: number, to: number): void {
  const size = call("lseek", from, 0, SEEK_END);
  call("ftruncate", to, size);
  for (let at = nextData(from, 0, size); at < size; at = nextData(from, at, size)) {
    const piece = Buffer.alloc(Math.min(ZEROS.length, size - at));
    writeAt(to, piece.subarray(0, readAt(from, piece, at)), at);
    at += piece.length;
  }
}

/** Where a file system cannot make holes, zeros do. */
function clear(fd: number, from: number, to: number): void {
  if (tryCall("fallocate", fd, FALLOC_PUNCH_HOLE_KEEP_SIZE, from, to - from) >= 0) return;
  const end = Math.min(to, call("lseek", fd, 0, SEEK_END));
  for (let at = from; at < end; at += ZEROS.length) writeAt(fd, ZEROS.subarray(0, end - at), at);
}
