/**
 * One directory tree of the application as the clones know it, and the way to what it is now. A pass looks (look.ts) and then
 * tells (tell.ts).
 */
import type { FileChange } from "./change.ts";
import { Budget, type EmitChange } from "./content.ts";
import { KnownTree, type TreeOptions } from "./known.ts";
import { Look } from "./look.ts";
import { Copy, type Newcomer, sendWhole, structure } from "./newcomer.ts";
import type { Node } from "./node.ts";
import type { Follower, Noticed } from "./noticed.ts";
import { Tell } from "./tell.ts";

export interface PassLimits {
  /** At most so many new names are taken, and so many files looked at that may have changed. */
  names?: number;
  budget?: Budget;
  /** New files stay empty: their content is the caller's to send. */
  contentLater?: boolean;
}

export class Tree {
  readonly #known: KnownTree;
  readonly #look: Look;
  /**
   * Inodes that are, or were since the last stop, mapped shared with a page that can be written without any sign: looked at
   * while the application runs or not, they are compared in the stop.
   */
  #mapped = new Set<number>();

  constructor(options: TreeOptions, follower?: Follower) {
    this.#known = new KnownTree(options, follower);
    this.#look = new Look(this.#known);
  }

  get size(): number {
    return this.#known.paths.size;
  }

  close(): void {
    this.#look.reset();
    this.#known.close();
  }

  /** The clones know nothing any more. */
  reset(): void {
    this.#look.reset();
    this.#known.reset();
  }

  /** Nothing that the log told so far can be relied upon. */
  distrust(): void {
    this.#known.distrust();
  }

  /** Regular files as they are known now, for a copy of their content; `missing`: those that no clone has yet. */
  regularFiles(missing: boolean): Node[] {
    return [...this.#known.files.values()].filter((node) => node.kind === "file" && !(missing && node.complete));
  }

  #version = 0;

  /** Grows with each name that comes or goes. */
  get version(): number {
    return this.#version;
  }

  /** Numbers of inodes that came in the last pass, where clones are to have the same. */
  get newNumbers(): readonly number[] {
    return this.#look.numbers;
  }

  /** A directory with a name in it, seen by the last pass, that is too far down to be told of. */
  get unreachable(): string | undefined {
    return this.#look.unreachable;
  }

  /** Path in this tree of a path in the application's view; undefined when it lies elsewhere. */
  inner(path: string): string | undefined {
    return this.#known.inner(path);
  }

  /** Path in the application's view. */
  outer(path: string): string {
    return this.#known.outer(path);
  }

  /**
   * In the stop, after the pass: only these paths (of this tree) are mapped shared. A page of one that cannot be written now may
   * become writable again without a sign (mprotect), so that what was written once stays compared while it is mapped.
   */
  mappingsKnown(paths: Iterable<string>): void {
    const still = new Set<number>();
    for (const path of paths) {
      const node = this.#known.paths.get(path);
      if (node && (!node.followed || this.#mapped.has(node.inode))) still.add(node.inode);
    }
    this.#mapped = still;
  }

  /**
   * Brings the clones to what the tree is now.
   * @param mapped paths (of this tree) whose content may change without any sign: mapped shared and writable
   * @returns whether something is left for another pass: names beyond `limits.names`, bytes beyond `limits.budget`
   */
  pass(noticed: Noticed, mapped: Iterable<string>, emit: EmitChange, limits: PassLimits = {}): boolean {
    const { names = Number.POSITIVE_INFINITY, budget = new Budget(), contentLater = false } = limits;
    const known = this.#known;
    const examine = known.suspects;
    known.suspects = new Set();
    // Noticed after its time of change was last read or not: what is told of may have come after that time was set.
    for (const inode of noticed.inodes ?? []) {
      const node = known.byInode.get(inode);
      if (node) examine.add(node);
    }
    const written = this.#keepRanges(noticed, examine);
    const isLeft = this.#leaveSome(examine, names);
    const seen = this.#look.run(noticed.inodes === undefined || known.hasUntraced, examine, names);
    this.#version += seen.come.size + seen.gone.size;
    const { running } = noticed;
    const compared = this.#toCompare(noticed, mapped);
    if (seen.come.size + seen.gone.size + seen.changed.size + compared.size > 0)
      new Tell(known, { seen, compared, running, contentLater, budget }, emit).run();
    for (const node of written) if (node.pending.length > 0) known.suspects.add(node);
    // A time of change may be set before the change is made; the log tells afterwards.
    if (running) for (const node of seen.changed) if (!node.followed) known.suspects.add(node);
    return isLeft || this.#look.isWaiting || budget.isSpent;
  }

  /**
   * Files beyond the limit are the next pass's. Not directories: who has moved is to be seen where he left and where he came. Nor what no
   * log tells of: as long as the application runs it has to be looked at in every pass, and there would be no last one.
   */
  #leaveSome(examine: Set<Node>, most: number): boolean {
    let files = 0;
    for (const node of examine) {
      if (node.kind === "directory" || !node.followed || files++ < most) continue;
      examine.delete(node);
      this.#known.suspects.add(node);
    }
    return files > most;
  }

  #toCompare({ mapped, running }: Noticed, paths: Iterable<string>): Set<Node> {
    const compared = new Set<Node>();
    for (const path of paths) {
      const node = this.#known.paths.get(path);
      if (!node?.content) continue;
      compared.add(node);
      this.#mapped.add(node.inode);
    }
    for (const inode of mapped) this.#mapped.add(inode);
    for (const inode of running ? mapped : this.#mapped) {
      const node = this.#known.byInode.get(inode);
      if (node?.content) compared.add(node);
    }
    return compared;
  }

  /** Until they are sent, ranges belong to the node: it may have no name at this moment. */
  #keepRanges(noticed: Noticed, examine: Set<Node>): Node[] {
    const nodes: Node[] = [];
    for (const [inode, ranges] of noticed.ranges) {
      const node = this.#known.byInode.get(inode);
      if (!node?.content) continue;
      node.pending.push(...ranges);
      examine.add(node);
      nodes.push(node);
    }
    return nodes;
  }

  /** All names, as steps for a clone that has none. */
  structure(): Generator<FileChange> {
    return structure(this.#known);
  }

  /** All of a file that no clone has, piece by piece; yields bytes. Not all of it when the file is gone. */
  sendWhole(node: Node, emit: EmitChange): Generator<number> {
    return sendWhole(this.#known, node, emit);
  }

  copy(newcomer: Newcomer, everybody: EmitChange): Copy {
    return new Copy(this.#known, newcomer, everybody);
  }
}
