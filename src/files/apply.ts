/**
 * The clone's side: each step through the merged view of the clone's stage, so that the overlay does its copying and hiding.
 * Symbolic links are never followed. A step that was taken already does no harm; one that cannot be taken throws. A step that
 * takes long (a directory goes with all that is in it) is taken in pieces: the standby gives signs of life between them.
 */
import { closeDescriptor, tryCall } from "../kernel/calls.ts";
import { checked } from "../kernel/errors.ts";
import {
  AT_REMOVEDIR,
  ERRNO_FILES,
  listExtended,
  MODE_TYPE,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  openBelow,
  rawPath,
  removeExtended,
  Status,
  setExtended,
  setOwner,
  setTimes,
  TYPE_BITS,
  tryOpenBelow,
  writeAt,
} from "../kernel/files.ts";
import { WriteBehind } from "../kernel/write-behind.ts";
import { ASIDE, type Attributes, type FileChange, type FileOperation } from "./change.ts";
import { emptied } from "./empty.ts";
import type { Numbered } from "./numbered.ts";
import { type Lacking, OFFER_BLOCK_BYTES, offeredBlocks } from "./offer.ts";

/** Where offered blocks may already be; see kept.ts. */
export interface OfferedBlocks {
  /** The bytes of that block of that file, if their digest is this one; valid until the next call. */
  find(path: string, at: number, length: number, digest: Buffer): Buffer | undefined;
  /** Nothing more is offered of a file. */
  done(path: string): void;
}

export interface FileApplyOptions {
  blocks?: OfferedBlocks | undefined;
  answer?: (lacking: Lacking) => void;
  /** Of a clone on a disk of its own. */
  numbered?: Numbered | undefined;
  /** Writes of so many bytes and more are made by a thread of their own, while what comes next is received. */
  behindBytes?: number;
}

const PUNCH_HOLE_KEEP_SIZE = 3;
/**
 * Written in one call. For more the page cache takes large folios, and those come from what a guest has given back to its
 * hypervisor (free page reporting, of whole page blocks): it faults in 4 KiB by 4 KiB, at a fifteenth of the speed.
 */
const WRITE_BYTES = 64 << 10;
/** Shorter ones are done before a thread would have begun. */
const BEHIND_BYTES = 256 << 10;
/** Kept by the overlay, or by a security module that the standby may not have. */
const NOT_OURS = /^(trusted\.overlay\.|security\.(selinux|ima|evm)$)/;

export class FileApply {
  readonly #rootFd: number;
  readonly #options: FileApplyOptions;
  readonly #status = new Status();
  /** The directory used last: steps come in its order. */
  #directory: { path: string; fd: number } | undefined;
  /** The file written last. */
  #file: { path: string; fd: number } | undefined;
  /** Of large writes to that file; all are done before any other step begins. */
  readonly #behind = new WriteBehind();

  /** @param rootFd O_PATH descriptor of the clone's root (`Stage.rootFd`); stays the caller's */
  constructor(rootFd: number, options: FileApplyOptions = {}) {
    this.#rootFd = rootFd;
    this.#options = options;
  }

  close(): void {
    this.#behind.close();
    this.#forget();
  }

  /** Waits until the steps taken so far are in the files. @throws SystemCallError for the first that could not be taken */
  settle(): void {
    this.#behind.settle();
  }

  #forget(): void {
    this.#forgetFile();
    closeDescriptor(this.#directory?.fd ?? -1);
    this.#directory = undefined;
  }

  #forgetFile(): void {
    // A step that had paused may go on while a large write of another is under way.
    this.settle();
    closeDescriptor(this.#file?.fd ?? -1);
    this.#file = undefined;
  }

  /** As `steps`, in one go and settled. */
  apply(operation: FileOperation): void {
    for (const _pause of this.steps(operation));
    this.settle();
  }

  /**
   * Other operations may be applied in its pauses, but for the same paths. A large write may be under way still when it returns, and
   * fail in a later step or in `settle`; its `release` is called here. @throws SystemCallError with call, path and cause
   */
  *steps({ change }: FileOperation): Generator<void, void> {
    const { behindBytes = BEHIND_BYTES } = this.#options;
    if (change.type === "write" && change.bytes.length >= behindBytes) {
      this.#writeBehind(change);
      return;
    }
    this.settle();
    switch (change.type) {
      case "write":
        this.#write(change.path, change.bytes, change.at);
        return;
      case "zero":
        yield* this.#zero(change.path, change.at, change.length);
        return;
      case "offer":
        this.#takeOffered(change);
        return;
      case "size":
        checked(tryCall("ftruncate", this.#open(change.path), change.size), "ftruncate", change.path);
        return;
      case "attributes":
        this.#setAttributes(change.path, change.attributes);
        return;
      case "file":
      case "symlink":
      case "special":
      case "link":
        // What holds the new name stays what it is.
        this.#forgetFile();
        yield* this.#applyName(change);
        return;
      default:
        this.#forget();
        yield* this.#applyName(change);
    }
  }

  *#applyName(
    change: Exclude<FileChange, { type: "write" | "zero" | "size" | "offer" | "attributes" }>,
  ): Generator<void, void> {
    switch (change.type) {
      case "remove":
        yield* this.#remove(change.path);
        return;
      case "move":
        yield* this.#move(change.from, change.to);
        return;
      case "link":
        yield* this.#remove(change.to);
        this.#link(change.from, change.to);
        return;
      case "directory":
        yield* this.#makeDirectory(change.path, change.fresh, change.inode);
        return;
      case "file": {
        // Mostly nothing stands there.
        if (this.#options.numbered === undefined && this.#create(change.path) !== ERRNO_FILES.exists) return;
        yield* this.#remove(change.path);
        yield* this.#make(change.path, change.inode, () => checked(this.#create(change.path), "openat2", change.path));
        return;
      }
      case "symlink": {
        yield* this.#remove(change.path);
        yield* this.#make(change.path, change.inode, () => {
          const [fd, name] = this.#at(change.path);
          checked(tryCall("symlinkat", rawPath(change.target), fd, name), "symlinkat", change.path);
        });
        return;
      }
      case "special": {
        yield* this.#remove(change.path);
        const [major, minor] = change.device;
        const device = ((major & 0xfff) << 8) | (minor & 0xff) | ((minor & 0xfff00) << 12);
        yield* this.#make(change.path, change.inode, () => {
          const [fd, name] = this.#at(change.path);
          checked(tryCall("mknodat", fd, name, change.mode, device), "mknodat", change.path);
        });
        return;
      }
      case "settle": {
        const [fd, name] = this.#at(`${change.path === "/" ? "" : change.path}/${ASIDE}`);
        const result = tryCall("unlinkat", fd, name, AT_REMOVEDIR);
        if (result !== ERRNO_FILES.noEntry) checked(result, "unlinkat", change.path);
        return;
      }
      default:
        change satisfies never;
    }
  }

  /** Descriptor of the directory that a path lies in, and the name there. */
  #at(path: string): [fd: number, name: Buffer] {
    const slash = path.lastIndexOf("/");
    const parent = path.slice(0, slash);
    if (this.#directory?.path !== parent) {
      closeDescriptor(this.#directory?.fd ?? -1);
      this.#directory = undefined;
      this.#directory = { path: parent, fd: openBelow(this.#rootFd, parent, O_PATH | O_DIRECTORY) };
    }
    return [this.#directory.fd, rawPath(path.slice(slash + 1) || ".")];
  }

  /** An empty file, and the one written last. Nothing happens where something stands: returns EEXIST then. */
  #create(path: string): number {
    const [fd, raw] = this.#at(path);
    const flags = O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW;
    const made = tryOpenBelow(fd, raw.toString("latin1", 0, raw.length - 1), flags, 0o600);
    if (made === ERRNO_FILES.exists || made === ERRNO_FILES.loop) return ERRNO_FILES.exists;
    checked(made, "openat2", path);
    this.#forgetFile();
    this.#file = { path, fd: made };
    return made;
  }

  #open(path: string): number {
    if (this.#file?.path === path) return this.#file.fd;
    this.#forgetFile();
    const fd = openBelow(this.#rootFd, path, O_RDWR | O_NOFOLLOW | O_NONBLOCK);
    this.#file = { path, fd };
    return fd;
  }

  #write(path: string, bytes: Buffer, at: number): void {
    const fd = this.#open(path);
    for (let done = 0; done < bytes.length; done += WRITE_BYTES)
      writeAt(fd, bytes.subarray(done, done + WRITE_BYTES), at + done);
  }

  #writeBehind(change: Extract<FileChange, { type: "write" }>): void {
    const { path, at, bytes, release } = change;
    const fd = this.#open(path);
    // It has what it releases from now on.
    delete change.release;
    this.#behind.write(fd, { path, at, bytes, release });
  }

  #takeOffered({ path, id, at, length, digests, last }: Extract<FileChange, { type: "offer" }>): void {
    const { blocks, answer } = this.#options;
    const lacking: number[] = [];
    for (const { index, digest } of offeredBlocks(digests)) {
      const place = at + index * OFFER_BLOCK_BYTES;
      const bytes = blocks?.find(path, place, Math.min(OFFER_BLOCK_BYTES, at + length - place), digest);
      if (bytes) writeAt(this.#open(path), bytes, place);
      else lacking.push(index);
    }
    if (last) blocks?.done(path);
    answer?.({ id, blocks: lacking });
  }

  *#zero(path: string, at: number, length: number): Generator<void, void> {
    if (tryCall("fallocate", this.#open(path), PUNCH_HOLE_KEEP_SIZE, at, length) >= 0) return;
    // Not every file system makes holes.
    const zeros = Buffer.alloc(Math.min(length, 1 << 20));
    for (let done = 0; done < length; done += zeros.length) {
      writeAt(this.#open(path), zeros.subarray(0, Math.min(zeros.length, length - done)), at + done);
      yield;
    }
  }

  *#remove(path: string): Generator<void, void> {
    const result = this.#unlink(path, 0);
    if (result >= 0 || result === ERRNO_FILES.noEntry) return;
    if (result !== ERRNO_FILES.isDirectory) checked(result, "unlinkat", path);
    yield* emptied(openBelow(this.#rootFd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    checked(this.#unlink(path, AT_REMOVEDIR), "unlinkat", path);
  }

  #unlink(path: string, flags: number): number {
    const [fd, name] = this.#at(path);
    return tryCall("unlinkat", fd, name, flags);
  }

  /** With its number, where the clone has a disk of its own. */
  *#make(path: string, inode: number | undefined, make: () => void, removal = 0): Generator<void, void> {
    const { numbered } = this.#options;
    if (!numbered) {
      make();
      return;
    }
    const found = () => {
      const [fd, raw] = this.#at(path);
      checked(this.#status.read(fd, raw.toString("latin1", 0, raw.length - 1)), "statx", path);
      return this.#status.inode;
    };
    const undo = () => {
      this.#forget();
      checked(this.#unlink(path, removal), "unlinkat", path);
    };
    yield* numbered.make({ path, make, found, undo }, inode);
  }

  *#makeDirectory(path: string, fresh: boolean, inode: number | undefined): Generator<void, void> {
    if (fresh) yield* this.#remove(path);
    else if (this.#stands(path)) {
      if (this.#isDirectory(path)) return this.#copyUp(path, inode);
      yield* this.#remove(path);
    }
    yield* this.#make(path, inode, () => checked(this.#mkdir(path), "mkdirat", path), AT_REMOVEDIR);
  }

  /** A directory of the node's own gets its number in the layer now, and not another with what is made in it. */
  #copyUp(path: string, inode: number | undefined): void {
    const { numbered } = this.#options;
    if (!numbered || inode === undefined) return;
    const [fd, name] = this.#at(path);
    const mode = this.#status.mode & ~MODE_TYPE;
    numbered.around(inode, () => checked(tryCall("fchmodat", fd, name, mode), "fchmodat", path));
  }

  #stands(path: string): boolean {
    const [fd, raw] = this.#at(path);
    const result = this.#status.read(fd, raw.toString("latin1", 0, raw.length - 1));
    if (result !== ERRNO_FILES.noEntry) checked(result, "statx", path);
    return result >= 0;
  }

  #mkdir(path: string): number {
    const [fd, name] = this.#at(path);
    return tryCall("mkdirat", fd, name, 0o700);
  }

  #isDirectory(path: string): boolean {
    const [fd, name] = this.#at(path);
    checked(this.#status.read(fd, name.toString("latin1", 0, name.length - 1)), "statx", path);
    return (this.#status.mode & MODE_TYPE) === TYPE_BITS.directory;
  }

  *#move(from: string, to: string): Generator<void, void> {
    const aside = to.lastIndexOf(`/${ASIDE}/`);
    if (aside >= 0) {
      const [fd, name] = this.#at(`${to.slice(0, aside)}/${ASIDE}`);
      const result = tryCall("mkdirat", fd, name, 0o700);
      if (result !== ERRNO_FILES.exists) checked(result, "mkdirat", to);
    } else {
      // No file takes the place of a directory by a rename; one of the node's own may show there.
      yield* this.#remove(to);
    }
    this.#pair(from, to, (fromFd, fromName, toFd, toName) => {
      checked(tryCall("renameat", fromFd, fromName, toFd, toName), "renameat", `${from} to ${to}`);
    });
  }

  #link(from: string, to: string): void {
    this.#pair(from, to, (fromFd, fromName, toFd, toName) => {
      checked(tryCall("linkat", fromFd, fromName, toFd, toName, 0), "linkat", `${from} to ${to}`);
    });
  }

  #pair(from: string, to: string, body: (fromFd: number, from: Buffer, toFd: number, to: Buffer) => void): void {
    const slash = from.lastIndexOf("/");
    const fromFd = openBelow(this.#rootFd, from.slice(0, slash), O_PATH | O_DIRECTORY);
    try {
      const [toFd, toName] = this.#at(to);
      body(fromFd, rawPath(from.slice(slash + 1)), toFd, toName);
    } finally {
      closeDescriptor(fromFd);
    }
  }

  #setAttributes(path: string, { mode, uid, gid, extended, accessed, modified }: Attributes): void {
    const [fd, raw] = this.#at(path);
    const name = raw.toString("latin1", 0, raw.length - 1);
    const status = this.#status;
    checked(status.read(fd, name), "statx", path);
    // The owner first: changing it clears set-id bits and file capabilities.
    const isOther = status.uid !== uid || status.gid !== gid;
    if (isOther) setOwner(fd, name, uid, gid);
    if ((status.mode & MODE_TYPE) !== TYPE_BITS.symlink) {
      if (isOther || (status.mode & ~MODE_TYPE) !== mode) checked(tryCall("fchmodat", fd, raw, mode), "fchmodat", path);
      this.#setExtended(path, extended);
    }
    setTimes(fd, name, accessed, modified);
  }

  #setExtended(path: string, wanted: Array<[string, Buffer]>): void {
    const open = this.#file?.path === path ? this.#file.fd : undefined;
    const handle = open ?? tryOpenBelow(this.#rootFd, path, O_PATH | O_NOFOLLOW);
    checked(handle, "openat2", path);
    try {
      // The attribute calls take no O_PATH descriptor, but follow this link to exactly that inode.
      const at = `/proc/self/fd/${handle}`;
      for (const name of listExtended(open ?? at))
        if (!NOT_OURS.test(name) && !wanted.some(([other]) => other === name))
          checked(removeExtended(at, name), "removexattr", path);
      for (const [name, value] of wanted)
        if (!NOT_OURS.test(name)) checked(setExtended(at, name, value), "setxattr", path);
    } finally {
      if (open === undefined) closeDescriptor(handle);
    }
  }
}

/** Bytes of an operation's data, for figures and limits. */
export function dataBytes(change: FileChange): number {
  return change.type === "write" ? change.bytes.length : 0;
}
