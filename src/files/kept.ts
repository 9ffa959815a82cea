/**
 * Files of a layer that was given up, kept until the clone that comes next is in sync: what is in them need not be sent again.
 * They are never taken for the application's files; only blocks whose digest is the wanted one are read out of them.
 *
 * `DIRECTORY/0`, `1` … are layers in the order in which they were given up; the next clone begins by making one of them.
 */
import { existsSync, mkdirSync, readdirSync, renameSync, rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { closeDescriptor, openPath, tryCall } from "../kernel/calls.ts";
import { checked } from "../kernel/errors.ts";
import {
  bareTree,
  MODE_TYPE,
  nextData,
  O_DIRECTORY,
  O_NOATIME,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  openBelow,
  rawPath,
  readAt,
  readEntries,
  Status,
  TYPE_BITS,
  tryOpenBelow,
} from "../kernel/files.ts";
import { diskPaths } from "../stage/disk.ts";
import { layerPaths } from "../stage/root.ts";
import type { OfferedBlocks } from "./apply.ts";
import { emptied } from "./empty.ts";
import { keepImage, openImages, removeImages } from "./kept-images.ts";
import { digestOf, OFFER_BLOCK_BYTES } from "./offer.ts";

/** Another file system; a full one. */
const CANNOT_KEEP = new Set(["EXDEV", "ENOSPC", "EDQUOT"]);

/** Takes a layer's upper directory out of the way. Both must be on one file system; nothing may be mounted over it any more. */
export function keepLayer(upper: string, directory: string): void {
  if (!existsSync(upper)) return;
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    renameSync(upper, join(directory, String(1 + Math.max(-1, ...generations(directory)))));
  } catch (error) {
    // What cannot be kept is sent again.
    if (!CANNOT_KEEP.has((error as NodeJS.ErrnoException).code ?? "")) throw error;
  }
}

/** Takes out of the way what an application or a clone had in its files: its layer, or the disk that it lies on. */
export async function putAside(filesDirectory: string, directory: string): Promise<void> {
  if (existsSync(diskPaths(filesDirectory).mounted)) await keepImage(filesDirectory, directory);
  else keepLayer(layerPaths(filesDirectory).upper, directory);
}

function generations(directory: string): number[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .sort((a, b) => a - b);
}

const DIRECTORY = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
const block = Buffer.allocUnsafeSlow(OFFER_BLOCK_BYTES);

export class KeptFiles implements OfferedBlocks {
  readonly #directory: string;
  /** What was kept, if anything, and the node's own files. */
  readonly #keptFd: number;
  readonly #imageFds: readonly number[];
  readonly #lowerFd: number;
  readonly #status = new Status();
  #open: { path: string; fds: number[] } | undefined;

  /** With disks that were kept. */
  static async open(directory: string): Promise<KeptFiles> {
    return new KeptFiles(directory, "/", await openImages(directory));
  }

  constructor(directory: string, lower = "/", imageFds: readonly number[] = []) {
    this.#directory = directory;
    this.#imageFds = imageFds;
    const [first, ...later] = generations(directory).map((n) => openPath(join(directory, String(n)), DIRECTORY));
    for (const next of later) {
      merge(first!, next);
      for (const _pause of emptied(next));
    }
    for (const n of generations(directory).slice(1)) rmdirSync(join(directory, String(n)));
    this.#keptFd = first ?? -1;
    this.#lowerFd = bareTree(lower);
  }

  /** Something was kept. */
  get holds(): boolean {
    return this.#keptFd >= 0 || this.#imageFds.length > 0;
  }

  get #keptFds(): number[] {
    return [...(this.#keptFd < 0 ? [] : [this.#keptFd]), ...this.#imageFds];
  }

  find(path: string, at: number, length: number, digest: Buffer): Buffer | undefined {
    for (const fd of this.#files(path)) {
      if (nextData(fd, at, at + length) >= at + length) continue;
      const bytes = block.subarray(0, length);
      if (readAt(fd, bytes, at) === length && digestOf(bytes).equals(digest)) return bytes;
    }
    return undefined;
  }

  #files(path: string): number[] {
    if (this.#open?.path === path) return this.#open.fds;
    this.#forget();
    const flags = O_RDONLY | O_NOFOLLOW | O_NOATIME | O_NONBLOCK;
    const fds = [...this.#keptFds, this.#lowerFd]
      .map((root) => tryOpenBelow(root, path.slice(1), flags))
      .filter((fd) => fd >= 0 && this.#isRegular(fd));
    this.#open = { path, fds };
    return fds;
  }

  #isRegular(fd: number): boolean {
    if (this.#status.read(fd, "") >= 0 && (this.#status.mode & MODE_TYPE) === TYPE_BITS.file) return true;
    closeDescriptor(fd);
    return false;
  }

  #forget(): void {
    for (const fd of this.#open?.fds ?? []) closeDescriptor(fd);
    this.#open = undefined;
  }

  /** The clone's own file has all of that by now: should the clone be given up, that one is kept. */
  done(path: string): void {
    this.#forget();
    const slash = path.lastIndexOf("/");
    for (const root of this.#keptFds) {
      // What was kept is the application's: a link in it may lead anywhere.
      const parent = tryOpenBelow(root, path.slice(1, Math.max(1, slash)), O_PATH | O_DIRECTORY | O_NOFOLLOW);
      if (parent < 0) continue;
      tryCall("unlinkat", parent, rawPath(path.slice(slash + 1)), 0);
      closeDescriptor(parent);
    }
  }

  close(): void {
    this.#forget();
    for (const fd of this.#keptFds) closeDescriptor(fd);
    closeDescriptor(this.#lowerFd);
  }

  /** The clone is in sync: all of it goes, a little at a time. */
  async remove(): Promise<void> {
    this.#forget();
    closeDescriptor(this.#lowerFd);
    if (this.#keptFd >= 0) {
      for (const _pause of emptied(this.#keptFd)) await new Promise(setImmediate);
    }
    await removeImages(this.#directory, this.#imageFds);
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

const from = new Status();
const into = new Status();
const typeOf = (status: Status) => status.mode & MODE_TYPE;

/** Regular files of a later layer into an earlier one. Of two, the one with more in it stays. */
function merge(intoFd: number, fromFd: number): void {
  for (const name of readEntries(fromFd).keys()) {
    checked(from.read(fromFd, name), "statx", name);
    const raw = rawPath(name);
    const known = into.read(intoFd, name) >= 0;
    if (typeOf(from) === TYPE_BITS.directory) {
      if (known && typeOf(into) !== TYPE_BITS.directory) checked(tryCall("unlinkat", intoFd, raw, 0), "unlinkat", name);
      if (!known || typeOf(into) !== TYPE_BITS.directory)
        checked(tryCall("mkdirat", intoFd, raw, 0o700), "mkdirat", name);
      const pair = [openBelow(intoFd, name, DIRECTORY), openBelow(fromFd, name, DIRECTORY)] as const;
      merge(...pair);
      pair.forEach(closeDescriptor);
    } else if (
      typeOf(from) === TYPE_BITS.file &&
      !(known && (typeOf(into) === TYPE_BITS.directory || into.blocks >= from.blocks))
    )
      checked(tryCall("renameat", fromFd, raw, intoFd, raw), "renameat", name);
  }
}
