/** The primary's side: what the application's files have become, as steps for the clones. */
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { closeDescriptor, openPath } from "../kernel/calls.ts";
import { OperatingError } from "../kernel/failure.ts";
import { O_CREAT, O_RDWR, openBelow, Status, writeAt } from "../kernel/files.ts";
import type { FileChange, FileOperation } from "./change.ts";
import { FileLog } from "./log.ts";
import { EVERYTHING, type Noticed, Tree } from "./tree.ts";

export interface FileCaptureOptions {
  /** Directory with the layer's `upper`; see stage/root.ts. */
  filesDirectory: string;
  /** Root of this node's own files, which show through the layer. */
  lower?: string;
  /** Host pid of the application's init: its /dev/shm is a tree of its own. */
  init?: number;
  /** False: compare, even where the kernel could tell the ranges. A log given stays the caller's. */
  log?: FileLog | false;
}

export interface CutHints {
  /** Paths, as the application sees them, that some process has mapped shared and writable: compared each time. */
  mapped?: Iterable<string>;
}

export type EmitOperation = (operation: FileOperation) => void;

export class FileCapture {
  readonly #layer: Tree;
  /** Directories of the application's that are file systems of their own. */
  readonly #others: Tree[];
  readonly #log: FileLog | undefined;
  #ownsLog = false;
  /** Why there is no log; undefined when there is one. */
  readonly logMissing: string | undefined;

  constructor(options: FileCaptureOptions) {
    const { filesDirectory, lower = "/", init } = options;
    const directory = join(filesDirectory, "upper");
    const opened = this.#open(options.log, directory);
    this.#log = opened.log;
    this.logMissing = opened.missing;
    const exactTimes = hasExactTimes(filesDirectory);
    this.#layer = new Tree({ directory, at: "/", lower, exactTimes }, this.#log);
    const shared = `/proc/${init}/root/dev/shm`;
    this.#others = init === undefined ? [] : [new Tree({ directory: shared, at: "/dev/shm", exactTimes: false })];
  }

  #open(wanted: FileLog | false | undefined, directory: string): { log?: FileLog; missing?: string } {
    if (wanted === false) return { missing: "not wanted" };
    if (wanted) return { log: wanted };
    const opened = openLog(directory);
    this.#ownsLog = opened.log !== undefined;
    return opened;
  }

  get #trees(): Tree[] {
    return [this.#layer, ...this.#others];
  }

  /** The clones know nothing any more: the next pass sends everything. */
  reset(): void {
    for (const tree of this.#trees) tree.reset();
  }

  close(): void {
    for (const tree of this.#trees) tree.close();
    if (this.#ownsLog) this.#log?.close();
  }

  /** Steps for a clone that joins others: all names and attributes, files without their bytes; `copyAll` then sends those. */
  *introduce(): Generator<FileOperation> {
    for (const tree of this.#trees) for (const change of tree.structure()) yield { op: "file", change };
  }

  /**
   * All content while the application runs, piece by piece, to every clone: after `reset` when there is none, else after
   * `introduce`. Other passes may go on between the pieces. `drained` is awaited after each piece.
   */
  async copyAll(
    emit: EmitOperation,
    drained: () => Promise<void>,
    progress: (leftBytes: number) => void = () => {},
  ): Promise<void> {
    const tell = (change: FileChange) => emit({ op: "file", change });
    for (const tree of this.#trees) {
      tree.pass(this.#notice(tree, true), [], tell, true);
      await drained();
      const files = tree.regularFiles();
      let left = files.reduce((sum, node) => sum + node.size, 0);
      let since = 0;
      for (const node of files) {
        const fd = tree.openFile(node);
        if (fd < 0) continue;
        try {
          if (!node.complete) tree.begin(node, tell);
          const path = () => (node.path === undefined ? undefined : tree.outer(node.path));
          for (const bytes of node.content!.all(fd, path, tell)) {
            left -= bytes;
            since += bytes;
            if (since < PIECE_BYTES) continue;
            since = 0;
            progress(left);
            await drained();
          }
        } finally {
          closeDescriptor(fd);
        }
        node.complete = true;
        tree.attributesOf(node, tell);
      }
    }
    progress(0);
  }

  /** While the application runs: sends ahead what has changed, so that the cut finds little. */
  preDump(emit: EmitOperation, hints: CutHints = {}): void {
    this.#pass((change) => emit({ op: "file", change }), hints, true);
  }

  /** In the stop: everything that has changed since, with its bytes as of now. */
  cut(hints: CutHints = {}): FileOperation[] {
    const operations: FileOperation[] = [];
    this.#pass((change) => operations.push({ op: "file", change }), hints, false);
    return operations;
  }

  #notice(tree: Tree, running: boolean): Noticed {
    if (tree !== this.#layer || !this.#log) return EVERYTHING;
    const noticed = this.#log.take(running);
    if (!noticed) {
      tree.distrust();
      return EVERYTHING;
    }
    return noticed;
  }

  #pass(tell: (change: FileChange) => void, hints: CutHints, running: boolean): void {
    for (const tree of this.#trees) {
      const mapped = [...(hints.mapped ?? [])].flatMap((path) => tree.inner(path) ?? []);
      tree.pass(this.#notice(tree, running), mapped, tell);
    }
  }
}

/** The log for what is on the directory's file system, or why there can be none. */
export function openLog(directory: string): { log?: FileLog; missing?: string } {
  const fd = openPath(directory, 0);
  try {
    const status = new Status();
    status.read(fd, "");
    return { log: new FileLog(directory, { major: status.ownMajor, minor: status.ownMinor }) };
  } catch (error) {
    if (error instanceof OperatingError) return { missing: error.message };
    throw error;
  } finally {
    closeDescriptor(fd);
  }
}

const PIECE_BYTES = 1 << 20;

/**
 * Whether two changes of one file in quick succession, the first of them looked at, have different times of change here
 * (multigrain timestamps: kernel 6.13, ext4, xfs, btrfs, tmpfs).
 */
export function hasExactTimes(directory: string): boolean {
  const own = mkdtempSync(join(directory, "probe-"));
  const root = openPath(own, 0);
  const fd = openBelow(root, "file", O_CREAT | O_RDWR, 0o600);
  try {
    const status = new Status();
    const seen = new Set<string>();
    for (let i = 0; i < 8; i++) {
      writeAt(fd, Buffer.from([i]), 0);
      status.read(root, "file");
      seen.add(`${status.changedSeconds}.${status.changedNs}`);
    }
    return seen.size === 8;
  } finally {
    closeDescriptor(fd);
    closeDescriptor(root);
    rmSync(own, { recursive: true });
  }
}
