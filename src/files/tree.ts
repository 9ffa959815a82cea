/**
 * One directory tree of the application as the clones know it, and the way to what it is now. A pass looks (which names came,
 * went, which inodes changed) and then tells: names out of the way, directories, names into place, content, attributes.
 * Whatever changes while a pass looks is found by the next one, for every status is taken before what it stands for is read.
 */
import { closeDescriptor, openPath } from "../kernel/calls.ts";
import {
  bareTree,
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
import { ASIDE, type FileChange } from "./change.ts";
import { type EmitChange, merged, type Range } from "./content.ts";
import { isOpaque, kindOf, Node } from "./node.ts";

export interface TreeOptions {
  /** Where the tree's own files are on this node: the overlay's upper directory. */
  directory: string;
  /** What the application sees it as: "/" or e.g. "/dev/shm". */
  at: string;
  /** Root of the layer below, whose directories show through; none for a file system of its own. */
  lower?: string;
  /** A change always gives a new time of change once the old one was looked at (multigrain timestamps, kernel 6.13). */
  exactTimes: boolean;
}

/** What has been noticed since the last pass. */
export interface Noticed {
  /** Inodes to look at; undefined: all. */
  inodes: Set<number> | undefined;
  /** Ranges written per inode, merged; only for inodes that the log followed all the time. */
  ranges: Map<number, Range[]>;
  /** The application runs: what the log tells of may still be going on. */
  running: boolean;
}

/** The log's side: told of inodes before their content is read. Returns whether it follows them. */
export interface Follower {
  follow(inode: number): boolean;
  unfollow(inode: number): void;
}

/** Nothing tells: look at all. */
export function everything(running: boolean): Noticed {
  return { inodes: undefined, ranges: new Map(), running };
}
/** Times of change are taken from a clock that ticks every 1–10 ms. */
const TICK_MS = 30;

const join = (directory: string, name: string) => (directory === "" ? name : `${directory}/${name}`);
const parentOf = (path: string) => path.slice(0, Math.max(0, path.lastIndexOf("/")));

export class Tree {
  readonly #options: TreeOptions;
  readonly #rootFd: number;
  readonly #lowerFd: number;
  readonly #status = new Status();
  readonly #other = new Status();
  readonly #paths = new Map<string, Node>();
  /** Everything but directories and whiteouts, by identity. */
  readonly #files = new Map<string, Node>();
  readonly #byInode = new Map<number, Node>();
  readonly #follower: Follower | undefined;
  /** Their times of change may not show the next change: looked at by the next pass in any case. */
  #suspects = new Set<Node>();
  // What the current pass has seen.
  #come = new Map<string, Node>();
  #gone = new Map<string, Node>();
  #changed = new Set<Node>();
  #examine = new Set<Node>();
  /** New names that this pass may still take; those that must wait, with their directories. */
  #room = 0;
  #waiting: Array<[directory: Node, name: string]> = [];
  #seenMs = 0;

  constructor(options: TreeOptions, follower?: Follower) {
    this.#options = options;
    this.#follower = follower;
    this.#rootFd = openPath(options.directory, O_RDONLY | O_DIRECTORY);
    this.#lowerFd = options.lower === undefined ? -1 : bareTree(options.lower);
  }

  get size(): number {
    return this.#paths.size;
  }

  close(): void {
    this.reset();
    closeDescriptor(this.#rootFd);
    closeDescriptor(this.#lowerFd);
  }

  /** The clones know nothing any more. */
  reset(): void {
    for (const inode of this.#byInode.keys()) this.#follower?.unfollow(inode);
    this.#paths.clear();
    this.#files.clear();
    this.#byInode.clear();
    this.#suspects.clear();
    this.#waiting = [];
  }

  /** Nothing that the log told so far can be relied upon. */
  distrust(): void {
    for (const node of this.#byInode.values()) {
      if (node.content && node.complete) {
        node.complete = false;
        node.content.forget();
      }
      this.#follow(node);
    }
  }

  /** Regular files as they are known now, for a copy of their content. */
  regularFiles(): Node[] {
    return [...this.#files.values()].filter((node) => node.kind === "file");
  }

  nodeAt(path: string): Node | undefined {
    return this.#paths.get(path);
  }

  /** Path in the application's view. */
  outer(path: string): string {
    const { at } = this.#options;
    return path === "" ? at : at === "/" ? `/${path}` : `${at}/${path}`;
  }

  hostPath(path: string): string {
    return path === "" ? this.#options.directory : `${this.#options.directory}/${path}`;
  }

  /** Path in this tree of a path in the application's view; undefined when it lies elsewhere. */
  inner(path: string): string | undefined {
    const { at } = this.#options;
    if (at === "/") return path.slice(1);
    return path === at ? "" : path.startsWith(`${at}/`) ? path.slice(at.length + 1) : undefined;
  }

  /** A descriptor, or negative when the file is not there any more. */
  openFile(node: Node): number {
    const path = node.path;
    if (path === undefined) return -1;
    const fd = tryOpenBelow(this.#rootFd, path, O_RDONLY | O_NOFOLLOW | O_NOATIME | O_NONBLOCK);
    // Another may have its name by now; the next pass sees that.
    if (fd < 0 || (this.#other.read(fd, "") >= 0 && this.#other.key === node.key)) return fd;
    closeDescriptor(fd);
    return -1;
  }

  /**
   * Brings the clones to what the tree is now.
   * @param mapped paths (of this tree) whose content may change without any sign: mapped shared and writable
   * @param first for the first copy: new files stay empty, their content is the caller's to send; and at most so many new
   *   names are taken, the rest waits for the next pass
   * @returns whether names are waiting
   */
  pass(noticed: Noticed, mapped: Iterable<string>, emit: EmitChange, first?: { names: number }): boolean {
    this.#come = new Map();
    this.#gone = new Map();
    this.#changed = new Set();
    this.#seenMs = Date.now();
    this.#room = first?.names ?? Number.POSITIVE_INFINITY;
    this.#examine = this.#suspects;
    this.#suspects = new Set();
    // Noticed after its time of change was last read or not: what is told of may have come after that time was set.
    for (const inode of noticed.inodes ?? []) {
      const node = this.#byInode.get(inode);
      if (node) this.#examine.add(node);
    }
    const written = this.#keepRanges(noticed);
    this.#look(noticed.inodes === undefined);
    const compared = new Set<Node>();
    for (const path of mapped) {
      const node = this.#paths.get(path);
      if (node?.content) compared.add(node);
    }
    if (this.#come.size + this.#gone.size + this.#changed.size + compared.size > 0)
      this.#tell(noticed, compared, emit, first !== undefined);
    for (const node of written) if (node.pending.length > 0) this.#suspects.add(node);
    // A time of change may be set before the change is made; the log tells afterwards.
    if (noticed.running) for (const node of this.#changed) if (!node.followed) this.#suspects.add(node);
    return this.#waiting.length > 0;
  }

  /** Until they are sent, ranges belong to the node: it may have no name at this moment. */
  #keepRanges(noticed: Noticed): Node[] {
    const nodes: Node[] = [];
    for (const [inode, ranges] of noticed.ranges) {
      const node = this.#byInode.get(inode);
      if (!node?.content) continue;
      node.pending.push(...ranges);
      this.#examine.add(node);
      nodes.push(node);
    }
    return nodes;
  }

  // --- Looking ---

  #look(all: boolean): void {
    const root = this.#paths.get("");
    if (!root) {
      if (this.#status.read(this.#rootFd, "") >= 0) this.#arrive("");
      return;
    }
    const waiting = this.#waiting;
    this.#waiting = [];
    if (all) this.#visit("", root, true);
    // A directory before what is in it: it may be gone with all of that.
    const nodes = all ? [] : [...this.#examine].sort((a, b) => rank(a) - rank(b));
    for (const node of nodes)
      for (const path of [...node.paths]) if (this.#paths.get(path) === node) this.#visit(path, node, false);
    for (const [i, [node, name]] of waiting.entries()) {
      if (this.#room <= 0) {
        this.#waiting = this.#waiting.concat(waiting.slice(i));
        break;
      }
      const path = node.path;
      if (path !== undefined && this.#paths.get(path) === node) this.#lookAtName(path, node, name, true);
    }
  }

  #visit(path: string, node: Node, deep: boolean): void {
    const status = this.#status;
    if (status.read(this.#rootFd, path) < 0) this.#leave(path);
    else if (node.kind === "whiteout" ? kindOf(status) === "whiteout" : status.key === node.key)
      this.#compare(path, node, deep);
    else {
      this.#leave(path);
      this.#arrive(path);
    }
  }

  /** `#status` is that of the node at `path`. */
  #compare(path: string, node: Node, deep: boolean): void {
    if (node.kind === "whiteout") return;
    const changed = this.#examine.has(node) || !node.isAsKnown(this.#status);
    if (changed) this.#note(node);
    if (node.kind !== "directory") return;
    if (changed) this.#readDirectory(path, node, deep);
    else if (deep)
      for (const name of [...node.children]) {
        const child = this.#paths.get(join(path, name));
        if (child) this.#visit(join(path, name), child, true);
      }
  }

  #note(node: Node): void {
    node.update(this.#status);
    const changedMs = node.changedSeconds * 1000 + node.changedNs / 1e6;
    if (!this.#options.exactTimes && changedMs >= this.#seenMs - TICK_MS) this.#suspects.add(node);
    this.#changed.add(node);
  }

  #readDirectory(path: string, node: Node, deep: boolean): void {
    const fd = tryOpenBelow(this.#rootFd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME);
    if (fd < 0) {
      this.#suspects.add(node);
      return;
    }
    let entries: Map<string, number>;
    try {
      entries = readEntries(fd);
    } finally {
      closeDescriptor(fd);
    }
    for (const name of [...node.children]) if (!entries.has(name)) this.#leave(join(path, name));
    for (const [name, inode] of entries) {
      const known = this.#paths.get(join(path, name));
      // The log tells of a new inode under an old number, too.
      if (!deep && known?.followed && known.inode === inode) continue;
      this.#lookAtName(path, node, name, deep);
    }
  }

  #lookAtName(directory: string, parent: Node, name: string, deep: boolean): void {
    const path = join(directory, name);
    const known = this.#paths.get(path);
    if (!known && this.#room <= 0) {
      this.#waiting.push([parent, name]);
      return;
    }
    if (this.#status.read(this.#rootFd, path) < 0) {
      this.#suspects.add(parent);
      if (known) this.#leave(path);
      return;
    }
    const same =
      known && (known.kind === "whiteout" ? kindOf(this.#status) === "whiteout" : known.key === this.#status.key);
    if (same) {
      this.#compare(path, known, deep);
      return;
    }
    if (known) this.#leave(path);
    this.#arrive(path);
  }

  /** A name is not there any more, nor is anything below it. */
  #leave(path: string): void {
    const node = this.#paths.get(path);
    if (!node) return;
    for (const name of [...node.children]) this.#leave(join(path, name));
    this.#paths.delete(path);
    this.#paths.get(parentOf(path))?.children.delete(path.slice(path.lastIndexOf("/") + 1));
    node.paths.delete(path);
    if (this.#come.get(path) === node) this.#come.delete(path);
    else this.#gone.set(path, node);
  }

  /** A new name; `#status` is what stands there. */
  #arrive(path: string): void {
    this.#room--;
    const kind = kindOf(this.#status);
    const keyed = kind !== "directory" && kind !== "whiteout";
    let node = keyed ? this.#files.get(this.#status.key) : undefined;
    if (node) this.#note(node);
    else {
      node = new Node(this.#status);
      if (kind === "symlink" && !this.#readTarget(node, path)) return;
      if (keyed) this.#files.set(node.key, node);
      if (kind !== "whiteout") {
        this.#byInode.set(node.inode, node);
        this.#follow(node);
        // What happened between the status and the log's attention is not in the log.
        if (node.followed && (this.#status.read(this.#rootFd, path) < 0 || this.#status.key !== node.key)) {
          const parent = this.#paths.get(parentOf(path));
          if (parent) this.#suspects.add(parent);
        } else this.#note(node);
      }
    }
    this.#paths.set(path, node);
    node.paths.add(path);
    if (path !== "") this.#paths.get(parentOf(path))?.children.add(path.slice(path.lastIndexOf("/") + 1));
    this.#come.set(path, node);
    if (kind === "directory") {
      node.fresh = path !== "" && this.#isFresh(path);
      this.#readDirectory(path, node, true);
    }
  }

  /** False when the name leads elsewhere by now: then its directory is looked at again. */
  #readTarget(node: Node, path: string): boolean {
    node.target = this.#withHandle(node, path, (_, fd) => tryReadLink(fd, "")) ?? "";
    this.#suspects.delete(node);
    const parent = this.#paths.get(parentOf(path));
    if (node.target === "" && parent) this.#suspects.add(parent);
    return node.target !== "";
  }

  #follow(node: Node): void {
    if (this.#follower && node.kind !== "whiteout") node.followed = this.#follower.follow(node.inode);
  }

  #isFresh(path: string): boolean {
    if (this.#lowerFd < 0 || this.#paths.get(parentOf(path))?.fresh || isOpaque(this.hostPath(path))) return true;
    return this.#other.read(this.#lowerFd, path) < 0 || kindOf(this.#other) !== "directory";
  }

  // --- Telling ---

  #tell(noticed: Noticed, compared: Set<Node>, emit: EmitChange, contentLater: boolean): void {
    const touched = new Set<Node>();
    const touch = (path: string) => {
      const parent = path === "" ? undefined : this.#paths.get(parentOf(path));
      if (parent) touched.add(parent);
    };
    for (const path of [...this.#come.keys(), ...this.#gone.keys()]) touch(path);
    const aside = this.#putAside(emit);
    this.#removeGone(emit);
    this.#place(aside, emit);
    if (aside.size > 0) {
      emit({ type: "settle", path: this.outer("") });
      const root = this.#paths.get("");
      if (root) touched.add(root);
    }
    for (const node of this.#gone.values()) this.#forget(node);
    const written = new Set<Node>();
    for (const node of new Set([...this.#changed, ...compared]))
      if (
        node.content &&
        (node.complete || !contentLater) &&
        this.#sendContent(node, noticed, compared.has(node), emit)
      )
        written.add(node);
    for (const node of new Set([...this.#changed, ...written, ...touched]))
      this.#sendAttributes(node, written.has(node) || touched.has(node), emit);
  }

  #sendAttributes(node: Node, always: boolean, emit: EmitChange): void {
    const path = node.path;
    if (path === undefined || node.kind === "whiteout") return;
    const force = always || this.#come.get(path) === node;
    const attributes = this.#withHandle(node, path, (handle) => node.takeAttributes(handle, force));
    if (attributes) emit({ type: "attributes", path: this.outer(path), attributes });
  }

  /** Extended attributes go by path: this one leads to the very inode, whatever has its name by now. */
  #withHandle<T>(node: Node, path: string, body: (hostPath: string, fd: number) => T): T | undefined {
    const fd = tryOpenBelow(this.#rootFd, path, O_PATH | O_NOFOLLOW);
    if (fd < 0) return this.#lostSight(node);
    try {
      if (this.#other.read(fd, "") < 0 || this.#other.key !== node.key) return this.#lostSight(node);
      return body(`/proc/self/fd/${fd}`, fd);
    } finally {
      closeDescriptor(fd);
    }
  }

  /** Its name leads elsewhere: whatever name it has in the next pass, its attributes go with it. */
  #lostSight(node: Node): undefined {
    node.forgetAttributes();
    this.#suspects.add(node);
    return undefined;
  }

  /** Inodes that keep no name but get another: out of the way, so that any exchange of names works. */
  #putAside(emit: EmitChange): Map<Node, string> {
    const aside = new Map<Node, string>();
    const coming = new Set(this.#come.values());
    for (const [path, node] of this.#gone) {
      if (node.kind === "directory" || node.kind === "whiteout" || aside.has(node) || !coming.has(node)) continue;
      if ([...node.paths].some((other) => this.#come.get(other) !== node)) continue;
      const to = this.outer(join(ASIDE, String(aside.size)));
      aside.set(node, to);
      emit({ type: "move", from: this.outer(path), to });
      this.#gone.delete(path);
    }
    return aside;
  }

  #removeGone(emit: EmitChange): void {
    for (const [path, node] of this.#gone) {
      // What stood in a directory that is gone goes with it; a directory of the same name may have come since.
      if (path !== "" && this.#gone.has(parentOf(path))) continue;
      if (node.kind !== "whiteout") emit({ type: "remove", path: this.outer(path) });
    }
  }

  #place(aside: Map<Node, string>, emit: EmitChange): void {
    const placed = new Set<Node>();
    const placedAt = new Set<string>();
    for (const path of [...this.#come.keys()].sort()) {
      const node = this.#come.get(path)!;
      const outer = this.outer(path);
      const standing = [...node.paths].find(
        (other) => other !== path && (this.#come.get(other) !== node || placedAt.has(other)),
      );
      const from = aside.get(node);
      if (node.kind === "directory") {
        if (path !== "") emit({ type: "directory", path: outer, fresh: node.fresh });
      } else if (node.kind === "whiteout") emit({ type: "remove", path: outer });
      else if (from !== undefined && !placed.has(node)) emit({ type: "move", from, to: outer });
      else if (standing !== undefined) emit({ type: "link", from: this.outer(standing), to: outer });
      else emit(creation(node, outer));
      placed.add(node);
      placedAt.add(path);
    }
  }

  #forget(node: Node): void {
    if (node.paths.size > 0) return;
    if (this.#files.get(node.key) === node) this.#files.delete(node.key);
    if (this.#byInode.get(node.inode) !== node) return;
    this.#byInode.delete(node.inode);
    this.#follower?.unfollow(node.inode);
  }

  /** Whether anything of the file had to be sent. */
  #sendContent(node: Node, noticed: Noticed, compare: boolean, emit: EmitChange): boolean {
    const content = node.content!;
    const path = node.path;
    if (path === undefined) return false;
    let sent = false;
    const tell = (change: FileChange) => {
      sent = true;
      emit(change);
    };
    const fd = this.openFile(node);
    if (fd < 0) {
      this.#suspects.add(node);
      return false;
    }
    try {
      const { followed, complete, size } = node;
      if (followed && complete && !compare) {
        node.pending = content.ranges(fd, size, this.outer(path), merged(node.pending), tell);
      } else content.compare(fd, size, this.outer(path), tell, !followed || compare);
      // What is not there in the stop will not come.
      if (!noticed.running) node.pending = [];
      node.complete = true;
    } finally {
      closeDescriptor(fd);
    }
    return sent;
  }

  // --- A newcomer ---

  /** All that there is but the files' bytes, as steps for a clone that has nothing. */
  *structure(): Generator<FileChange> {
    const told = new Map<Node, string>();
    for (const path of [...this.#paths.keys()].sort()) {
      const node = this.#paths.get(path)!;
      const outer = this.outer(path);
      const other = told.get(node);
      if (node.kind === "directory") {
        if (path !== "") yield { type: "directory", path: outer, fresh: node.fresh };
      } else if (node.kind === "whiteout") yield { type: "remove", path: outer };
      else if (other !== undefined) yield { type: "link", from: other, to: outer };
      else {
        yield creation(node, outer);
        if (node.content) yield { type: "size", path: outer, size: node.content.size };
      }
      told.set(node, outer);
    }
    for (const [node, outer] of told) {
      if (node.kind === "whiteout" || node.path === undefined) continue;
      const attributes = this.#withHandle(node, node.path, (handle) => node.attributes(handle));
      if (attributes) yield { type: "attributes", path: outer, attributes };
    }
  }

  /** All of a file, piece by piece, beside passes; yields bytes. The pass that finds it gone tells that, too. */
  *sendWhole(node: Node, emit: EmitChange): Generator<number> {
    const fd = this.openFile(node);
    if (fd < 0) return;
    const path = () => (node.path === undefined ? undefined : this.outer(node.path));
    try {
      const first = path();
      if (!node.complete && first !== undefined) node.content!.begin(first, node.size, emit, !node.followed);
      yield* node.content!.all(fd, path, emit);
    } finally {
      closeDescriptor(fd);
    }
    node.complete = true;
    if (node.size > 0) this.#sendAttributes(node, true, emit);
  }
}

/** Directories first, from the top down. */
function rank(node: Node): number {
  return node.kind === "directory" ? (node.path?.length ?? 0) : Number.MAX_SAFE_INTEGER;
}

function creation(node: Node, path: string): FileChange {
  if (node.kind === "file") return { type: "file", path };
  if (node.kind === "symlink") return { type: "symlink", path, target: node.target };
  return { type: "special", path, mode: node.mode, device: node.device };
}
