/** The files without a name of a clone that does not live yet: kept open by this process, which fills them. */
import { call, closeDescriptor, makeMemory, openInRoot, tryCall } from "../../kernel/calls.ts";
import { SystemCallError } from "../../kernel/errors.ts";
import { OperatingError } from "../../kernel/failure.ts";
import { O_RDWR, writeAt } from "../../kernel/files.ts";
import { hugeMemoryFlags, writeHuge } from "../../kernel/huge-pages.ts";
import { lackingHugePages } from "../memory/lacking.ts";
import { MEMFD, type ObjectOperation } from "./state.ts";

const MFD_ALLOW_SEALING = 2;
/** With O_DIRECTORY in it. */
const O_TMPFILE = 0o20200000;
const FALLOC_PUNCH_HOLE_KEEP_SIZE = 3;
const SEEK_END = 2;
const ZEROS = Buffer.alloc(1 << 20);

interface Held {
  fd: number;
  /** On a disk: gets the name that it had when the application lives, to lose it at once. */
  unnamed: boolean;
  mapped: boolean;
  /** Bytes of a page, where they are huge. */
  huge: number | undefined;
}

export class Objects {
  readonly #rootFd: number;
  readonly #held = new Map<string, Held>();

  /** @param rootFd the application's root directory */
  constructor(rootFd: number) {
    this.#rootFd = rootFd;
  }

  apply(operation: ObjectOperation): void {
    switch (operation.op) {
      case "object":
        call("ftruncate", this.#take(operation).fd, operation.size);
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
    return this.#held.get(id);
  }

  /**
   * The descriptor behind shared mappings of `bytes` or more; it stays this object's.
   * @param huge bytes of a page, where they are huge
   */
  map(id: string, path: string, bytes: number, huge?: number): number {
    const held = this.#held.get(id) ?? this.#hold(id, path, false, huge);
    held.mapped = true;
    if (call("lseek", held.fd, 0, SEEK_END) < bytes) call("ftruncate", held.fd, bytes);
    return held.fd;
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
    return this.#held.get(id) ?? this.#hold(id, path, huge === undefined && !path.startsWith(MEMFD), huge);
  }

  #hold(id: string, path: string, unnamed: boolean, huge?: number): Held {
    const name = path.replace(/ \(deleted\)$/, "").replace(/^\/(memfd:)?/, "");
    const flags = MFD_ALLOW_SEALING + (huge === undefined ? 0 : hugeMemoryFlags(huge));
    const fd = unnamed ? this.#makeUnnamed(path) : makeObject(name, flags, huge);
    const held = { fd, unnamed, mapped: false, huge };
    this.#held.set(id, held);
    return held;
  }

  /** In its directory, or in the nearest above that is there. */
  #makeUnnamed(path: string): number {
    for (let directory = path; ; ) {
      directory = directory.slice(0, directory.lastIndexOf("/"));
      try {
        return openInRoot(this.#rootFd, directory || "/", O_TMPFILE | O_RDWR, 0o600);
      } catch (error) {
        const gone = error instanceof SystemCallError && (error.code === "ENOENT" || error.code === "ENOTDIR");
        if (!gone || directory === "") throw error;
      }
    }
  }

  #end(id: string): void {
    const held = this.#held.get(id);
    // Of huge pages there are few: what nobody has mapped any more goes.
    if (!held || (held.mapped && held.huge === undefined)) return;
    this.#held.delete(id);
    closeDescriptor(held.fd);
  }

  /** From here on only the application's processes hold them. Idempotent. */
  release(): void {
    for (const { fd } of this.#held.values()) closeDescriptor(fd);
    this.#held.clear();
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

/** Where a file system cannot make holes, zeros do. */
function clear(fd: number, from: number, to: number): void {
  if (tryCall("fallocate", fd, FALLOC_PUNCH_HOLE_KEEP_SIZE, from, to - from) >= 0) return;
  const end = Math.min(to, call("lseek", fd, 0, SEEK_END));
  for (let at = from; at < end; at += ZEROS.length) writeAt(fd, ZEROS.subarray(0, end - at), at);
}
