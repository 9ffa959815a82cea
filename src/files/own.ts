/**
 * The application's own files on this node: what it has created or changed, from wherever they are kept, under the paths that it
 * knows them by. Read from outside, whether it runs, is a clone, or has ended. No link is followed that is not resolved here.
 */
import { closeDescriptor, openPath } from "../kernel/calls.ts";
import { checked } from "../kernel/errors.ts";
import { OperatingError } from "../kernel/failure.ts";
import {
  ERRNO_FILES,
  O_DIRECTORY,
  O_NOATIME,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  readEntries,
  Status,
  tryOpenBelow,
  tryReadLink,
} from "../kernel/files.ts";
import { join, nameOf, parentOf } from "./known.ts";
import { showName } from "./names.ts";
import { kindOf } from "./node.ts";

/** A directory on this node that holds a part of the application's files. */
export interface FilePlace {
  /** What the application sees it as: "/" or e.g. "/dev/shm". */
  at: string;
  directory: string;
}

export type FileType = "file" | "directory" | "symlink" | "fifo" | "socket" | "character-device" | "block-device";

export interface FileEntry {
  /** As `showName` tells it. */
  name: string;
  type: FileType;
  /** Bytes. */
  size: number;
  /** Bytes that it takes on the disk: less than `size` where it has holes. */
  allocated: number;
  /** Permissions, octal: "0644". */
  mode: string;
  uid: number;
  gid: number;
  /** RFC 3339 */
  modified: string;
  /** Of a symbolic link: where it leads. */
  target?: string;
}

/** By the four bits of the mode that tell it (inode(7)). */
const TYPES: Record<number, FileType> = {
  1: "fifo",
  2: "character-device",
  4: "directory",
  6: "block-device",
  8: "file",
  10: "symlink",
  12: "socket",
};
const MOST_LINKS = 40;
/** So many names are looked at before others have their turn. */
const TURN = 500;

export class OwnFiles {
  /** The longest first: what is mounted hides what it is mounted on. */
  readonly #places: Array<FilePlace & { fd: number }> = [];
  readonly #opened: number[] = [];
  readonly #status = new Status();

  /** @throws SystemCallError when a place is not there */
  constructor(places: readonly FilePlace[]) {
    try {
      for (const place of [...places].sort((a, b) => b.at.length - a.at.length))
        this.#places.push({ ...place, fd: openPath(place.directory, O_RDONLY | O_DIRECTORY) });
    } catch (error) {
      this.close();
      throw error;
    }
  }

  close(): void {
    for (const { fd } of this.#places.splice(0)) closeDescriptor(fd);
    for (const fd of this.#opened.splice(0)) closeDescriptor(fd);
  }

  /** What stands there; a link itself is not followed, those on the way are. @throws OperatingError `file-unknown` */
  entry(path: string): FileEntry {
    const normal = this.#resolve(path, false);
    if (this.#readStatus(normal) < 0 ? !this.#hasPlaceBelow(normal) : kindOf(this.#status) === "whiteout")
      throw unknown(path);
    return this.#describe(normal);
  }

  /** Whether a directory stands there, links followed. */
  isDirectory(path: string): boolean {
    const normal = this.#resolve(path, true);
    return this.#readStatus(normal) < 0 ? this.#hasPlaceBelow(normal) : kindOf(this.#status) === "directory";
  }

  /** What is in a directory, sorted. @throws OperatingError `file-unknown`, `file-not-directory` */
  async list(path: string): Promise<FileEntry[]> {
    const directory = this.#resolve(path, true);
    const names = this.#names(directory, path);
    const entries: FileEntry[] = [];
    for (const [i, name] of [...names].sort().entries()) {
      if (i % TURN === TURN - 1) await new Promise(setImmediate);
      const inner = join(directory, name);
      if (this.#readStatus(inner) < 0 ? !this.#hasPlaceBelow(inner) : kindOf(this.#status) === "whiteout") continue;
      entries.push(this.#describe(inner));
    }
    return entries;
  }

  /** A descriptor of a regular file, links followed; the caller closes it. @throws OperatingError `file-unknown`, `file-not-regular` */
  open(path: string): { fd: number; size: number } {
    const normal = this.#resolve(path, true);
    // Looked at before it is opened: the opening of a device does things.
    const kind = this.#readStatus(normal) < 0 ? undefined : kindOf(this.#status);
    if (kind === "whiteout" || (kind === undefined && !this.#hasPlaceBelow(normal))) throw unknown(path);
    const [fd, inner] = this.#placeOf(normal);
    const opened = kind === "file" ? tryOpenBelow(fd, inner, O_RDONLY | O_NOFOLLOW | O_NOATIME | O_NONBLOCK) : -1;
    const isFile = opened >= 0 && this.#status.read(opened, "") >= 0 && kindOf(this.#status) === "file";
    if (isFile) return { fd: opened, size: this.#status.size };
    closeDescriptor(opened);
    throw new OperatingError("file-not-regular", `"${showName(path)}" is not a file with content`, {
      details: { path: showName(path) },
    });
  }

  /** A directory and what is mounted below it, as trees of their own; usable until `close`. */
  below(path: string): FilePlace[] {
    const directory = this.#resolve(path, true);
    this.#names(directory, path);
    const [fd, inner] = this.#placeOf(directory);
    const opened = tryOpenBelow(fd, inner, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (opened >= 0) this.#opened.push(opened);
    const mounted = this.#places.filter(({ at }) => at !== "/" && isBelow(at.slice(1), directory));
    return [
      ...(opened < 0 ? [] : [{ at: "/", directory: `/proc/self/fd/${opened}` }]),
      ...mounted.map((place) => ({
        at: place.at.slice(directory === "" ? 0 : directory.length + 1),
        directory: `/proc/self/fd/${place.fd}`,
      })),
    ];
  }

  #hasPlaceBelow(path: string): boolean {
    return this.#places.some(({ at }) => at !== "/" && isBelow(at.slice(1), path));
  }

  /** Path without its leading "/" to the place that has it, and the path there. */
  #placeOf(path: string): [fd: number, inner: string, place: FilePlace] {
    const place = this.#places.find(({ at }) => at === "/" || path === at.slice(1) || isBelow(path, at.slice(1)))!;
    return [place.fd, place.at === "/" ? path : path.slice(place.at.length), place];
  }

  /** 0 or −errno; the status is in `#status`. */
  #readStatus(path: string): number {
    const [fd, inner] = this.#placeOf(path);
    const opened = tryOpenBelow(fd, inner, O_PATH | O_NOFOLLOW);
    if (opened < 0) return opened;
    const result = this.#status.read(opened, "");
    closeDescriptor(opened);
    return result;
  }

  /** The path with every link on the way resolved in the application's own files, without a leading "/". */
  #resolve(path: string, last: boolean): string {
    let done = "";
    let links = 0;
    const rest = path.split("/");
    for (;;) {
      const name = rest.shift();
      if (name === undefined) return done;
      if (name === "" || name === ".") continue;
      if (name === "..") {
        done = parentOf(done);
        continue;
      }
      const next = join(done, name);
      const isLast = rest.every((part) => part === "");
      const target = isLast && !last ? undefined : this.#target(next);
      if (target === undefined) {
        done = next;
        continue;
      }
      if (++links > MOST_LINKS) throw unknown(path);
      if (target.startsWith("/")) done = "";
      rest.unshift(...target.split("/"));
    }
  }

  /** Where the link at that path leads; undefined when it is none. */
  #target(path: string): string | undefined {
    if (this.#readStatus(path) < 0 || kindOf(this.#status) !== "symlink") return undefined;
    const [fd, inner] = this.#placeOf(path);
    const opened = tryOpenBelow(fd, inner, O_PATH | O_NOFOLLOW);
    if (opened < 0) return undefined;
    const target = tryReadLink(opened, "");
    closeDescriptor(opened);
    return target === "" ? undefined : target;
  }

  /** Names in a directory, those of places mounted in it among them. */
  #names(directory: string, asked: string): Set<string> {
    const [fd, inner] = this.#placeOf(directory);
    const mounted = this.#places.filter(({ at }) => at !== "/" && isBelow(at.slice(1), directory));
    const names = new Set(
      mounted.map(({ at }) => at.slice(directory === "" ? 1 : directory.length + 2).split("/")[0]!),
    );
    const opened = tryOpenBelow(fd, inner, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME);
    if (opened < 0) {
      if (names.size > 0) return names;
      if (opened === ERRNO_FILES.noEntry) throw unknown(asked);
      if (opened !== ERRNO_FILES.notDirectory && opened !== ERRNO_FILES.loop) checked(opened, "openat2", asked);
      if (this.#readStatus(directory) < 0 || kindOf(this.#status) === "whiteout") throw unknown(asked);
      throw new OperatingError("file-not-directory", `"${showName(asked)}" is not a directory`, {
        details: { path: showName(asked) },
      });
    }
    try {
      for (const name of readEntries(opened).keys()) names.add(name);
    } finally {
      closeDescriptor(opened);
    }
    return names;
  }

  /** `#status` is that of what stands there, or nothing does but the way to a place. */
  #describe(path: string): FileEntry {
    const name = showName(nameOf(path));
    if (this.#readStatus(path) < 0)
      return { name, type: "directory", size: 0, allocated: 0, mode: "0755", uid: 0, gid: 0, modified: isoTime(0) };
    const { mode, size, blocks, uid, gid, modifiedSeconds } = this.#status;
    const type = TYPES[mode >> 12] ?? "file";
    const target = type === "symlink" ? this.#target(path) : undefined;
    return {
      name,
      type,
      size,
      allocated: blocks * 512,
      mode: (mode & 0o7777).toString(8).padStart(4, "0"),
      uid,
      gid,
      modified: isoTime(modifiedSeconds),
      ...(target !== undefined && { target: showName(target) }),
    };
  }
}

function isBelow(path: string, directory: string): boolean {
  return directory === "" ? path !== "" : path.startsWith(`${directory}/`);
}

function isoTime(seconds: number): string {
  return new Date(seconds * 1000).toISOString();
}

function unknown(path: string): OperatingError {
  return new OperatingError("file-unknown", `"${showName(path)}" is not among the application's own files`, {
    remedy:
      "Its own are those that it created or changed; the node's others show through. See: understudy files NAME ls /",
    details: { path: showName(path) },
  });
}
