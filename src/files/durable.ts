/**
 * What a checkpoint changed in files, brought to the disk before anybody counts on it: every file and directory that a step
 * touched (fsync(2): a name is on the disk when its directory is), then the record that says which checkpoint that was.
 */
import { constants } from "node:fs";
import { type FileHandle, lstat, open, rename } from "node:fs/promises";
import { dirname } from "node:path";
import type { FileChange } from "./change.ts";
import { parentOf } from "./known.ts";

/** So many at a time: one commit of the file system's journal serves them all. */
const AT_A_TIME = 32;

export interface DurableRecord {
  epoch: number;
  term: number;
  /** RFC 3339 */
  at: string;
}

/** Brings one path to the disk. Paths that are gone by now need nothing: their directory is brought there as well. */
export type Sync = (path: Buffer) => Promise<void>;

export class DurableFiles {
  readonly #root: string;
  readonly #record: string;
  readonly #sync: Sync;
  /** Paths (latin1) of files and directories that have changed. */
  #touched = new Set<string>();

  /**
   * @param root directory as which this process reaches the clone's root
   * @param record file that tells of the last checkpoint that is on the disk
   */
  constructor(root: string, record: string, sync: Sync = syncPath) {
    this.#root = root;
    this.#record = record;
    this.#sync = sync;
  }

  /** A step that is applied. */
  note(change: FileChange): void {
    switch (change.type) {
      case "write":
      case "zero":
      case "offer":
      case "size":
      case "attributes":
        this.#touched.add(change.path);
        return;
      case "move":
      case "link":
        this.#touched.add(parentOf(change.from)).add(parentOf(change.to)).add(change.to);
        return;
      case "directory":
      case "file":
        this.#touched.add(parentOf(change.path)).add(change.path);
        return;
      case "remove":
      case "symlink":
      case "special":
        this.#touched.add(parentOf(change.path));
        return;
      case "settle":
        this.#touched.add(change.path === "/" ? "" : change.path);
        return;
      default:
        change satisfies never;
    }
  }

  /** Resolves when all that was noted before, and then the record, is on the disk. */
  async commit(record: DurableRecord): Promise<void> {
    const paths = [...this.#touched];
    this.#touched = new Set();
    for (let i = 0; i < paths.length; i += AT_A_TIME) {
      const some = paths.slice(i, i + AT_A_TIME);
      await Promise.all(some.map((path) => this.#sync(Buffer.from(`${this.#root}${path || "/"}`, "latin1"))));
    }
    const made = `${this.#record}.new`;
    const file = await open(made, "w", 0o600);
    try {
      await file.writeFile(JSON.stringify(record));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(made, this.#record);
    await syncPath(Buffer.from(dirname(this.#record)));
  }
}

async function syncPath(path: Buffer): Promise<void> {
  let handle: FileHandle;
  try {
    const status = await lstat(path);
    // The others are all in their directory; and the opening of a device does things.
    if (!status.isFile() && !status.isDirectory()) return;
    handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return;
    throw error;
  }
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
