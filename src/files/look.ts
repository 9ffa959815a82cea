/**
 * The looking half of a pass: which names came, which went, which inodes changed, against what the clones know. Whatever changes
 * while it looks is found by the next one, for every status is taken before what it stands for is read.
 */
import { closeDescriptor } from "../kernel/calls.ts";
import {
  ERRNO_FILES,
  O_DIRECTORY,
  O_NOATIME,
  O_NOFOLLOW,
  O_RDONLY,
  readEntries,
  readHandle,
  Status,
  tryOpenBelow,
  tryReadLink,
} from "../kernel/files.ts";
import type { FileTime } from "./change.ts";
import { join, type KnownTree, nameOf, parentOf } from "./known.ts";
import { kindOf, Node } from "./node.ts";

/** What a pass has seen. */
export interface Seen {
  come: Map<string, Node>;
  gone: Map<string, Node>;
  changed: Set<Node>;
}

/** Times of change are taken from a clock that ticks every 1–10 ms. */
const TICK_MS = 30;

export class Look {
  readonly #known: KnownTree;
  readonly #status = new Status();
  #seen: Seen = nothing();
  #examine = new Set<Node>();
  /** New names that this pass may still take; those that must wait, with their directories. */
  #room = 0;
  #waiting: Array<[directory: Node, name: string]> = [];
  /** Names taken away in this pass because another inode has their number: something else may stand there now. */
  #replaced: string[] = [];
  #seenMs = 0;
  /** Numbers of inodes that came in this pass, where that is of interest. */
  readonly numbers: number[] = [];
  /** Has a name that no call from the tree's root can reach. */
  unreachable: string | undefined;

  constructor(known: KnownTree) {
    this.#known = known;
  }

  /** Whether names are left for the next pass. */
  get isWaiting(): boolean {
    return this.#waiting.length > 0;
  }

  reset(): void {
    this.#waiting = [];
  }

  /**
   * @param all every name is looked at; else only those of `examine`
   * @param examine what may have changed whatever its times say
   * @param room at most so many new names are taken, the rest waits
   */
  run(all: boolean, examine: Set<Node>, room: number): Seen {
    this.#seen = nothing();
    this.unreachable = undefined;
    this.numbers.length = 0;
    this.#examine = examine;
    this.#room = room;
    this.#seenMs = Date.now();
    this.#replaced = [];
    this.#look(all);
    this.#lookAtReplaced();
    return this.#seen;
  }

  #look(all: boolean): void {
    const root = this.#known.paths.get("");
    if (!root) {
      if (this.#status.read(this.#known.rootFd, "") >= 0) this.#arrive("");
      return;
    }
    const waiting = this.#waiting;
    this.#waiting = [];
    if (all) this.#visit("", root, true);
    // A directory before what is in it: it may be gone with all of that.
    const nodes = all ? [] : [...this.#examine].sort((a, b) => rank(a) - rank(b));
    for (const node of nodes)
      for (const path of [...node.paths]) if (this.#known.paths.get(path) === node) this.#visit(path, node, false);
    for (const [i, [node, name]] of waiting.entries()) {
      if (this.#room <= 0) {
        this.#waiting = this.#waiting.concat(waiting.slice(i));
        break;
      }
      const path = node.path;
      if (path !== undefined && this.#known.paths.get(path) === node) this.#lookAtName(path, node, name, true);
    }
  }

  /** In the same pass, for it may be the stop's: the directory's own look may be over, or has passed them by for their number. */
  #lookAtReplaced(): void {
    for (let path = this.#replaced.pop(); path !== undefined; path = this.#replaced.pop()) {
      const directory = parentOf(path);
      const parent = this.#known.paths.get(directory);
      // A symbolic link may have come in the directory's place: what it leads to is not in this one.
      if (parent?.kind === "directory" && !this.#known.paths.has(path))
        this.#lookAtName(directory, parent, nameOf(path), true);
    }
  }

  #visit(path: string, node: Node, deep: boolean): void {
    const status = this.#status;
    if (status.read(this.#known.rootFd, path) < 0) this.#leave(path);
    else if (this.#isStill(node, path)) this.#compare(path, node, deep);
    else {
      this.#leave(path);
      this.#arrive(path);
    }
  }

  /** Whether it is the node that `#status` tells of, read at `path`. */
  #isStill(node: Node, path: string): boolean {
    if (kindOf(this.#status) !== node.kind) return false;
    if (node.kind === "whiteout") return true;
    if (this.#status.key !== node.key) return false;
    return node.handle === undefined || readHandle(this.#known.rootFd, path) === node.handle;
  }

  /** `#status` is that of the node at `path`. */
  #compare(path: string, node: Node, deep: boolean): void {
    if (node.kind === "whiteout") return;
    const { mappedByAccess } = this.#known.options;
    const changed =
      this.#examine.has(node) ||
      !node.isAsKnown(this.#status) ||
      (mappedByAccess === true && node.kind === "file" && !node.isUntouched(this.#status));
    if (changed) this.#note(node);
    if (node.kind !== "directory") return;
    if (changed) this.#readDirectory(path, node, deep);
    else if (deep)
      for (const name of [...node.children]) {
        const child = this.#known.paths.get(join(path, name));
        if (child) this.#visit(join(path, name), child, true);
      }
  }

  #note(node: Node): void {
    node.update(this.#status);
    if (node.isDax) this.#known.follow(node);
    const { exactTimes, mappedByAccess } = this.#known.options;
    const unsure =
      (!exactTimes && this.#isRecent([node.changedSeconds, node.changedNs])) ||
      (mappedByAccess && this.#isRecent(node.accessed));
    if (unsure) this.#known.suspects.add(node);
    this.#seen.changed.add(node);
  }

  #isRecent([seconds, ns]: FileTime): boolean {
    return seconds * 1000 + ns / 1e6 >= this.#seenMs - TICK_MS;
  }

  #readDirectory(path: string, node: Node, deep: boolean): void {
    const fd = tryOpenBelow(this.#known.rootFd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME);
    if (fd < 0) {
      this.#known.suspects.add(node);
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
      const known = this.#known.paths.get(join(path, name));
      // The log tells of a new inode under an old number, too.
      if (!deep && known?.followed && known.inode === inode) continue;
      this.#lookAtName(path, node, name, deep);
    }
  }

  #lookAtName(directory: string, parent: Node, name: string, deep: boolean): void {
    // It has gone while names were read in it.
    if (this.#known.paths.get(directory) !== parent) return;
    const path = join(directory, name);
    const known = this.#known.paths.get(path);
    if (!known && this.#room <= 0) {
      this.#waiting.push([parent, name]);
      return;
    }
    const found = this.#status.read(this.#known.rootFd, path);
    if (found < 0) {
      if (found === ERRNO_FILES.nameTooLong) this.unreachable = directory;
      this.#known.suspects.add(parent);
      if (known) this.#leave(path);
      return;
    }
    if (known && this.#isStill(known, path)) {
      this.#compare(path, known, deep);
      return;
    }
    if (known) this.#leave(path);
    this.#arrive(path);
  }

  /** A name is not there any more, nor is anything below it. */
  #leave(path: string): void {
    const node = this.#known.paths.get(path);
    if (!node) return;
    for (const name of [...node.children]) this.#leave(join(path, name));
    this.#known.paths.delete(path);
    this.#known.paths.get(parentOf(path))?.children.delete(nameOf(path));
    node.paths.delete(path);
    if (this.#seen.come.get(path) === node) this.#seen.come.delete(path);
    else this.#seen.gone.set(path, node);
  }

  /** A new name; `#status` is what stands there. */
  #arrive(path: string): void {
    this.#room--;
    const kind = kindOf(this.#status);
    const keyed = kind !== "directory" && kind !== "whiteout";
    let node = keyed ? this.#known.files.get(this.#status.key) : undefined;
    if (node && this.#isStill(node, path)) this.#note(node);
    else {
      node = new Node(this.#status);
      if (kind !== "whiteout" && this.#isRecent([this.#status.bornSeconds, this.#status.bornNs]))
        node.handle = readHandle(this.#known.rootFd, path);
      if (kind === "symlink" && !this.#readTarget(node, path)) return;
      if (kind !== "whiteout") this.#replaces(node);
      // Its own directory may have been the one with its number.
      if (path !== "" && !this.#known.paths.has(parentOf(path))) return;
      if (keyed) this.#known.files.set(node.key, node);
      if (kind !== "whiteout") {
        if (this.#known.options.numbers) this.numbers.push(node.inode);
        this.#known.byInode.set(node.inode, node);
        this.#known.follow(node);
        // What happened between the status and the log's attention is not in the log.
        if (node.followed && (this.#status.read(this.#known.rootFd, path) < 0 || !this.#isStill(node, path))) {
          const parent = this.#known.paths.get(parentOf(path));
          if (parent) this.#known.suspects.add(parent);
        } else this.#note(node);
      }
    }
    this.#known.paths.set(path, node);
    node.paths.add(path);
    if (path !== "") this.#known.paths.get(parentOf(path))?.children.add(nameOf(path));
    this.#seen.come.set(path, node);
    if (kind === "directory") {
      node.fresh = path !== "" && this.#known.isFresh(path);
      this.#readDirectory(path, node, true);
    }
  }

  /**
   * Who had its number before is gone, seen to be or not: his names go before this one comes, or a clone could not give it the
   * number. What stands there now is looked at again.
   */
  #replaces(node: Node): void {
    const before = this.#known.options.numbers ? this.#known.byInode.get(node.inode) : undefined;
    if (!before) return;
    for (const path of [...before.paths]) {
      this.#leave(path);
      this.#replaced.push(path);
      const parent = this.#known.paths.get(parentOf(path));
      if (parent) this.#known.suspects.add(parent);
    }
  }

  /** False when the name leads elsewhere by now: then its directory is looked at again. */
  #readTarget(node: Node, path: string): boolean {
    node.target = this.#known.withHandle(node, path, (_, fd) => tryReadLink(fd, "")) ?? "";
    this.#known.suspects.delete(node);
    const parent = this.#known.paths.get(parentOf(path));
    if (node.target === "" && parent) this.#known.suspects.add(parent);
    return node.target !== "";
  }
}

function nothing(): Seen {
  return { come: new Map(), gone: new Map(), changed: new Set() };
}

/** Directories first, from the top down. */
function rank(node: Node): number {
  return node.kind === "directory" ? (node.path?.length ?? 0) : Number.MAX_SAFE_INTEGER;
}
