/** One directory tree as the clones know it: which inode every name led to, and how to reach each of them on this node. */
import { closeDescriptor, openPath } from "../kernel/calls.ts";
import {
  bareTree,
  O_DIRECTORY,
  O_NOATIME,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  Status,
  tryOpenBelow,
} from "../kernel/files.ts";
import { isOpaque, kindOf, type Node } from "./node.ts";
import type { Follower } from "./noticed.ts";

export interface TreeOptions {
  /** Where the tree's own files are on this node: the overlay's upper directory. */
  directory: string;
  /** What the application sees it as: "/" or e.g. "/dev/shm". */
  at: string;
  /** Root of the layer below, whose directories show through; none for a file system of its own. */
  lower?: string;
  /** Paths in the application's view at which something else is mounted. */
  mounts?: readonly string[];
  /** A change always gives a new time of change once the old one was looked at (multigrain timestamps, kernel 6.13). */
  exactTimes: boolean;
  /** Writes through mappings show in no time of change, but mappings in the time of access: see isMemoryOnly. */
  mappedByAccess?: boolean;
  /** The clones' files get the same inode numbers. */
  numbers?: boolean;
}

export const join = (directory: string, name: string) => (directory === "" ? name : `${directory}/${name}`);
export const parentOf = (path: string) => path.slice(0, Math.max(0, path.lastIndexOf("/")));
export const nameOf = (path: string) => path.slice(path.lastIndexOf("/") + 1);

export class KnownTree {
  readonly options: TreeOptions;
  readonly rootFd: number;
  readonly #lowerFd: number;
  readonly #other = new Status();
  /** By path in this tree; "" is its root. */
  readonly paths = new Map<string, Node>();
  /** Everything but directories and whiteouts, by identity. */
  readonly files = new Map<string, Node>();
  readonly byInode = new Map<number, Node>();
  readonly #follower: Follower | undefined;
  /** Their times of change may not show the next change: looked at by the next pass in any case. */
  suspects = new Set<Node>();
  /** Of some files nobody tells that they change: all are looked at each time. */
  hasUntraced = false;

  constructor(options: TreeOptions, follower?: Follower) {
    this.options = options;
    this.#follower = follower;
    this.rootFd = openPath(options.directory, O_RDONLY | O_DIRECTORY);
    this.#lowerFd = options.lower === undefined ? -1 : bareTree(options.lower);
  }

  close(): void {
    this.reset();
    closeDescriptor(this.rootFd);
    closeDescriptor(this.#lowerFd);
  }

  /** The clones know nothing any more. */
  reset(): void {
    for (const inode of this.byInode.keys()) this.#follower?.unfollow(inode);
    this.paths.clear();
    this.files.clear();
    this.byInode.clear();
    this.suspects.clear();
    this.hasUntraced = false;
  }

  /** Nothing that the log told so far can be relied upon. */
  distrust(): void {
    for (const node of this.byInode.values()) {
      if (node.content && node.complete) {
        node.complete = false;
        node.content.forget();
      }
      this.follow(node);
    }
  }

  /** Path in the application's view. */
  outer(path: string): string {
    const { at } = this.options;
    return path === "" ? at : at === "/" ? `/${path}` : `${at}/${path}`;
  }

  /** Path in this tree of a path in the application's view; undefined when it lies elsewhere. */
  inner(path: string): string | undefined {
    const { at } = this.options;
    if (at === "/") return path.slice(1);
    return path === at ? "" : path.startsWith(`${at}/`) ? path.slice(at.length + 1) : undefined;
  }

  /** A descriptor, or negative when the file is not there any more. */
  openFile(node: Node): number {
    const path = node.path;
    if (path === undefined) return -1;
    const fd = tryOpenBelow(this.rootFd, path, O_RDONLY | O_NOFOLLOW | O_NOATIME | O_NONBLOCK);
    // Another may have its name by now; the next pass sees that.
    if (fd < 0 || (this.#other.read(fd, "") >= 0 && this.#other.key === node.key)) return fd;
    closeDescriptor(fd);
    return -1;
  }

  /** Extended attributes go by path: this one leads to the very inode, whatever has its name by now. */
  withHandle<T>(node: Node, path: string, body: (hostPath: string, fd: number) => T): T | undefined {
    const fd = tryOpenBelow(this.rootFd, path, O_PATH | O_NOFOLLOW);
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
    this.suspects.add(node);
    return undefined;
  }

  /** What is written with DAX has no tracepoint: such a file is compared. */
  follow(node: Node): void {
    if (!this.#follower || node.kind === "whiteout") return;
    if (!node.isDax) node.followed = this.#follower.follow(node.inode);
    this.hasUntraced ||= node.isDax;
    if (node.isDax && node.followed) {
      this.#follower.unfollow(node.inode);
      node.followed = false;
      node.content?.forget();
    }
  }

  /** Of what is told of as made: its number, where clones are to have that. */
  numberOf(node: Node): { inode?: number } {
    return this.options.numbers ? { inode: node.inode } : {};
  }

  /** Nothing of the node's own directory of that name shows in it. */
  isFresh(path: string): boolean {
    // Made anew, it would take the mount with it: in another mount namespace a mount keeps no directory from being removed.
    const outer = this.outer(path);
    if (this.options.mounts?.some((mount) => mount === outer || mount.startsWith(`${outer}/`))) return false;
    if (this.#lowerFd < 0 || this.paths.get(parentOf(path))?.fresh) return true;
    if (isOpaque(`${this.options.directory}/${path}`)) return true;
    return this.#other.read(this.#lowerFd, path) < 0 || kindOf(this.#other) !== "directory";
  }

  /** The node's own files have something of that name: those of a standby are likely to be alike. */
  hasBelow(path: string): boolean {
    return this.#lowerFd >= 0 && this.#other.read(this.#lowerFd, path) >= 0 && this.#other.size > 0;
  }

  /** An inode that has no name any more. */
  forget(node: Node): void {
    if (node.paths.size > 0) return;
    if (this.files.get(node.key) === node) this.files.delete(node.key);
    if (this.byInode.get(node.inode) !== node) return;
    this.byInode.delete(node.inode);
    this.#follower?.unfollow(node.inode);
  }
}
