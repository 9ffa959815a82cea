/**
 * One directory tree of the application as the clones know it, and the way to what it is now. A pass looks (look.ts) and then
 * tells (tell.ts).
 */
import type { FileChange } from "./change.ts";
import type { EmitChange } from "./content.ts";
import { KnownTree, type TreeOptions } from "./known.ts";
import { Look } from "./look.ts";
import { sendWhole, structure } from "./newcomer.ts";
import type { Node } from "./node.ts";
import type { Follower, Noticed } from "./noticed.ts";
import { Tell } from "./tell.ts";

export class Tree {
  readonly #known: KnownTree;
  readonly #look: Look;

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

  /** Regular files as they are known now, for a copy of their content. */
  regularFiles(): Node[] {
    return [...this.#known.files.values()].filter((node) => node.kind === "file");
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
   * Brings the clones to what the tree is now.
   * @param mapped paths (of this tree) whose content may change without any sign: mapped shared and writable
   * @param first for the first copy: new files stay empty, their content is the caller's to send; and at most so many new
   *   names are taken, the rest waits for the next pass
   * @returns whether names are waiting
   */
  pass(noticed: Noticed, mapped: Iterable<string>, emit: EmitChange, first?: { names: number }): boolean {
    const known = this.#known;
    const examine = known.suspects;
    known.suspects = new Set();
    // Noticed after its time of change was last read or not: what is told of may have come after that time was set.
    for (const inode of noticed.inodes ?? []) {
      const node = known.byInode.get(inode);
      if (node) examine.add(node);
    }
    const written = this.#keepRanges(noticed, examine);
    const seen = this.#look.run(noticed.inodes === undefined, examine, first?.names ?? Number.POSITIVE_INFINITY);
    const compared = new Set<Node>();
    for (const path of mapped) {
      const node = known.paths.get(path);
      if (node?.content) compared.add(node);
    }
    const { running } = noticed;
    if (seen.come.size + seen.gone.size + seen.changed.size + compared.size > 0)
      new Tell(known, { seen, compared, running, contentLater: first !== undefined }, emit).run();
    for (const node of written) if (node.pending.length > 0) known.suspects.add(node);
    // A time of change may be set before the change is made; the log tells afterwards.
    if (running) for (const node of seen.changed) if (!node.followed) known.suspects.add(node);
    return this.#look.isWaiting;
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

  /** All that there is but the files' bytes, as steps for a clone that has nothing. */
  structure(): Generator<FileChange> {
    return structure(this.#known);
  }

  /** All of a file, piece by piece, beside passes; yields bytes. The pass that finds it gone tells that, too. */
  sendWhole(node: Node, emit: EmitChange): Generator<number> {
    return sendWhole(this.#known, node, emit);
  }
}
