/** The primary's side: what the application's files have become, as steps for the clones. */
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { closeDescriptor, openPath } from "../kernel/calls.ts";
import { OperatingError } from "../kernel/failure.ts";
import { isMemoryOnly } from "../kernel/file-systems.ts";
import { O_CREAT, O_RDWR, openBelow, Status, writeAt } from "../kernel/files.ts";
import type { InodeNumbers } from "../stage/inode-numbers.ts";
import { layerPaths } from "../stage/root.ts";
import type { FileChange, FileOperation } from "./change.ts";
import { Budget } from "./content.ts";
import { FileLog } from "./log.ts";
import type { Newcomer } from "./newcomer.ts";
import type { Node } from "./node.ts";
import { everything, type Noticed } from "./noticed.ts";
import { type PassLimits, Tree } from "./tree.ts";

export interface FileCaptureOptions {
  /** The application's, with its layer in it; see stage/root.ts. */
  filesDirectory: string;
  /** Of the disk that the layer lies on, if it has one of its own: the clones' files get the same numbers. */
  numbers?: InodeNumbers | undefined;
  /** Root of this node's own files, which show through the layer. */
  lower?: string;
  /** Host pid of the application's init: its /dev/shm is a tree of its own. */
  init?: number;
  /** Paths at which something lies over the layer: volumes, scratch space. */
  mounts?: readonly string[];
  /** Directories of the node's that the application sees at paths of its own; their changes belong to its files. */
  volumes?: ReadonlyArray<{ path: string; directory: string }>;
  /** False: compare, even where the kernel could tell the ranges. A log given stays the caller's. */
  log?: FileLog | false | undefined;
}

export interface CutHints {
  /** Paths, as the application sees them, that some process has mapped shared and writable: compared each time. */
  mapped?: Iterable<string>;
}

/** A clone that gets everything. */
export interface FileNewcomer extends Omit<Newcomer, "emit"> {
  /** To it alone. */
  emit: EmitOperation;
  /** What it has been sent so far. */
  sentBytes: () => number;
  /** Files that come next; returns them. */
  expect: (files: Node[]) => Node[];
}

export type EmitOperation = (operation: FileOperation) => void;

export class FileCapture {
  readonly #options: FileCaptureOptions;
  #started: Started | undefined;

  /** Nothing is watched until the first copy: that takes time which a switch does not have. */
  constructor(options: FileCaptureOptions) {
    this.#options = options;
  }

  #start(): Started {
    const { filesDirectory, lower = "/", init } = this.#options;
    const { upper: directory } = layerPaths(filesDirectory);
    const { log, missing, own } = this.#openLog(directory);
    const exactTimes = hasExactTimes(filesDirectory);
    const layer = new Tree(
      {
        directory,
        at: "/",
        lower,
        mounts: (this.#options.mounts ?? []).map(latin1),
        exactTimes,
        mappedByAccess: isMemoryOnly(directory),
        numbers: this.#options.numbers !== undefined,
      },
      log,
    );
    const trees = [layer];
    // A file system of its own.
    const shared = `/proc/${init}/root/dev/shm`;
    if (init !== undefined)
      trees.push(new Tree({ directory: shared, at: "/dev/shm", exactTimes: false, mappedByAccess: true }));
    const logs = new Map(log ? [[layer, log]] : []);
    const ownLogs = log && own ? [log] : [];
    for (const volume of this.#options.volumes ?? []) {
      const { log: ofVolume } = this.#options.log === undefined ? openLog(volume.directory) : {};
      const at = latin1(volume.path);
      // No trial of how exact its times are: it is the user's directory.
      const mappedByAccess = isMemoryOnly(volume.directory);
      const tree = new Tree({ directory: volume.directory, at, exactTimes: false, mappedByAccess }, ofVolume);
      trees.push(tree);
      if (ofVolume) logs.set(tree, ofVolume);
      if (ofVolume) ownLogs.push(ofVolume);
    }
    this.#started = { trees, logs, ownLogs, missing };
    return this.#started;
  }

  #openLog(directory: string): { log?: FileLog; missing?: string; own: boolean } {
    const { log } = this.#options;
    if (log === false) return { missing: "not wanted", own: false };
    return log ? { log, own: false } : { ...openLog(directory), own: true };
  }

  /** Grows with every name that comes or goes, as far as passes have found them; undefined before the first copy. */
  get version(): number | undefined {
    return this.#started?.trees.reduce((sum, tree) => sum + tree.version, 0);
  }

  /** Whether `version` tells of the names of what is at this path of the application's view: not of what is in scratch space. */
  covers(path: string): boolean {
    const [layer, ...others] = this.#trees;
    if (others.some((tree) => tree.inner(path) !== undefined)) return true;
    const isElsewhere = this.#options.mounts?.some((mount) => path === mount || path.startsWith(`${mount}/`));
    return !isElsewhere && layer?.inner(path) !== undefined;
  }

  /** Why changes are found by comparing; undefined when the kernel's log tells them, or before the first copy. */
  get logMissing(): string | undefined {
    return this.#started?.missing;
  }

  get #trees(): Tree[] {
    return (this.#started ?? this.#start()).trees;
  }

  /** The clones know nothing any more: the next copy sends everything. */
  reset(): void {
    for (const tree of this.#started?.trees ?? []) tree.reset();
  }

  close(): void {
    for (const tree of this.#started?.trees ?? []) tree.close();
    for (const log of this.#started?.ownLogs ?? []) log.close();
    this.#started = undefined;
  }

  /**
   * To a clone that joins others: all names as of this call. What the passes tell from here on has to reach it afterwards; then
   * `copyAll` sends the rest.
   */
  async introduce(emit: EmitOperation, pause: () => Promise<void>, namesAtOnce = NAMES_AT_ONCE): Promise<void> {
    const structures = this.#trees.map((tree) => tree.structure());
    let names = 0;
    for (const structure of structures)
      for (const change of structure) {
        emit({ op: "file", change });
        if (++names % namesAtOnce === 0) await pause();
      }
  }

  /**
   * Everything while the application runs, piece by piece, to one clone. When it is alone (after `reset`): the bulk, then what
   * the log has gathered meanwhile, again until that is little. When it joins others (after `introduce`), what changes is part of
   * the checkpoints that all of them get.
   * @param others to all clones; undefined when there are no others
   */
  async copyAll(newcomer: FileNewcomer, others?: EmitOperation): Promise<void> {
    const emit = (change: FileChange) => newcomer.emit({ op: "file", change });
    const everybody = others ? (change: FileChange) => others({ op: "file", change }) : emit;
    const to = { ...newcomer, emit };
    const copies = this.#trees.map((tree) => ({ tree, copy: tree.copy(to, everybody) }));
    if (others) {
      for (const { tree, copy } of copies) await copy.content(newcomer.expect(tree.regularFiles(false)));
      for (const { copy } of copies) await copy.attributes();
      return;
    }
    let before = Number.POSITIVE_INFINITY;
    for (let round = 0; round < MOST_ROUNDS; round++) {
      const sent = newcomer.sentBytes();
      for (const { tree, copy } of copies) {
        const pass = () => {
          const more = tree.pass(this.#notice(tree, true), [], emit, firstLimits());
          if (tree.newNumbers.length > 0) this.#options.numbers?.passBeyond(tree.newNumbers);
          return more;
        };
        while (pass()) await newcomer.pause();
        await copy.content(newcomer.expect(tree.regularFiles(true)));
      }
      const now = newcomer.sentBytes() - sent;
      if (now < LITTLE_BYTES || now > ROUND_WORTH * before) return;
      before = now;
    }
  }

  /**
   * While the application runs: sends ahead what has changed, so that the cut finds little. A part of it only, when that is
   * much; returns whether more is left for another call.
   */
  preDump(emit: EmitOperation, hints: CutHints = {}, namesAtOnce = NAMES_AHEAD): boolean {
    const limits = { budget: new Budget(PASS_BYTES), names: namesAtOnce };
    return this.#pass((change) => emit({ op: "file", change }), hints, true, limits);
  }

  /** In the stop: everything that has changed since, with its bytes as of now. */
  cut(hints: CutHints = {}): FileOperation[] {
    const operations: FileOperation[] = [];
    this.#pass((change) => operations.push({ op: "file", change }), hints, false, {});
    return operations;
  }

  /**
   * After the cut, whose steps stay what they are.
   * @throws OperatingError `unprotectable-path`
   */
  checkPaths(): void {
    const directory = this.#trees.map((tree) => tree.unreachable).find((path) => path !== undefined);
    if (directory !== undefined)
      throw new OperatingError(
        "unprotectable-path",
        `The application has a path that is too long, in "/${directory}"`,
        {
          remedy:
            "Longer than 4095 bytes is more than the kernel takes at once, and more than is kept: move it further up.",
          details: { directory },
        },
      );
  }

  /**
   * In the stop, after the cut.
   * @param paths of all files, as the application sees them, that any process has mapped shared; whether it may write or not
   */
  mappingsKnown(paths: readonly string[]): void {
    for (const tree of this.#trees) tree.mappingsKnown(paths.flatMap((path) => tree.inner(path) ?? []));
  }

  #notice(tree: Tree, running: boolean): Noticed {
    const log = this.#started!.logs.get(tree);
    if (!log) return everything(running);
    const noticed = log.take(running);
    if (noticed) return noticed;
    tree.distrust();
    return everything(running);
  }

  #pass(tell: (change: FileChange) => void, hints: CutHints, running: boolean, limits: PassLimits): boolean {
    let more = false;
    for (const tree of this.#trees) {
      const mapped = [...(hints.mapped ?? [])].flatMap((path) => tree.inner(path) ?? []);
      const noticed = this.#notice(tree, running);
      // Without a log every pass looks at everything: many small ones would take longer.
      const { names, ...others } = limits;
      const own = noticed.inodes === undefined || names === undefined ? others : limits;
      if (tree.pass(noticed, mapped, tell, own)) more = true;
      if (tree.newNumbers.length > 0) this.#options.numbers?.passBeyond(tree.newNumbers);
    }
    return more;
  }
}

/** Of the specification, as names are kept here. */
function latin1(path: string): string {
  return Buffer.from(path).toString("latin1");
}

interface Started {
  /** The application's layer over the node's files first. */
  trees: Tree[];
  logs: Map<Tree, FileLog>;
  /** Of these, those that are this capture's. */
  ownLogs: FileLog[];
  /** Why the layer has none. */
  missing: string | undefined;
}

/** Of what a pass sends while the application runs, others use the event loop and the network, too: names, bytes. */
const FIRST_NAMES = 500;
const NAMES_AT_ONCE = 200;
const NAMES_AHEAD = 200;
const PASS_BYTES = 4 << 20;
const firstLimits = () => ({ names: FIRST_NAMES, budget: new Budget(PASS_BYTES), contentLater: true });
/** So little is left to the checkpoint that ends a first copy. */
const LITTLE_BYTES = 1 << 20;
/** A round that sends more than this part of the one before: the application writes as fast as it is copied. */
const ROUND_WORTH = 0.7;
const MOST_ROUNDS = 8;

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
