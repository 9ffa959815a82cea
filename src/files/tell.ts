/** The telling half of a pass: names out of the way, directories, names into place, content, attributes. */
import { closeDescriptor } from "../kernel/calls.ts";
import { ASIDE, type FileChange } from "./change.ts";
import { type Budget, type EmitChange, merged } from "./content.ts";
import { join, type KnownTree, parentOf } from "./known.ts";
import type { Seen } from "./look.ts";
import type { Node } from "./node.ts";

export interface Telling {
  seen: Seen;
  /** Their content is compared whatever their times say. */
  compared: Set<Node>;
  /** The application runs: what is not there may still come. */
  running: boolean;
  /** New files stay empty: their content is sent by somebody else. */
  contentLater: boolean;
  /** Of bytes that the log tells of; what it is not enough for is left to the next pass. */
  budget: Budget;
}

export class Tell {
  readonly #known: KnownTree;
  readonly #emit: EmitChange;
  readonly #telling: Telling;

  constructor(known: KnownTree, telling: Telling, emit: EmitChange) {
    this.#known = known;
    this.#telling = telling;
    this.#emit = emit;
  }

  run(): void {
    const { seen, compared, contentLater } = this.#telling;
    const touched = this.#tellNames();
    const written = new Set<Node>();
    for (const node of new Set([...seen.changed, ...compared]))
      if (node.content && (node.complete || !contentLater) && this.#sendContent(node)) written.add(node);
    for (const node of new Set([...seen.changed, ...written, ...touched])) {
      // They come with its content, after which they would have to be set again.
      if (contentLater && node.content && !node.complete && node.size > 0) continue;
      const path = node.path;
      const force = written.has(node) || touched.has(node) || (path !== undefined && seen.come.get(path) === node);
      sendAttributes(this.#known, node, force, this.#emit);
    }
  }

  /** Returns directories whose times this changes on the clones. */
  #tellNames(): Set<Node> {
    const { come, gone } = this.#telling.seen;
    const touched = new Set<Node>();
    for (const path of [...come.keys(), ...gone.keys()]) {
      const parent = path === "" ? undefined : this.#known.paths.get(parentOf(path));
      if (parent) touched.add(parent);
    }
    const aside = this.#putAside();
    this.#removeGone();
    this.#place(aside);
    if (aside.size > 0) {
      this.#emit({ type: "settle", path: this.#known.outer("") });
      const root = this.#known.paths.get("");
      if (root) touched.add(root);
    }
    for (const node of gone.values()) this.#known.forget(node);
    return touched;
  }

  /** Inodes that keep no name but get another: out of the way, so that any exchange of names works. */
  #putAside(): Map<Node, string> {
    const aside = new Map<Node, string>();
    const coming = new Set(this.#telling.seen.come.values());
    for (const [path, node] of this.#telling.seen.gone) {
      if (node.kind === "directory" || node.kind === "whiteout" || aside.has(node) || !coming.has(node)) continue;
      if ([...node.paths].some((other) => this.#telling.seen.come.get(other) !== node)) continue;
      const to = this.#known.outer(join(ASIDE, String(aside.size)));
      aside.set(node, to);
      this.#emit({ type: "move", from: this.#known.outer(path), to });
      this.#telling.seen.gone.delete(path);
    }
    return aside;
  }

  #removeGone(): void {
    for (const [path, node] of this.#telling.seen.gone) {
      // What stood in a directory that is gone goes with it; a directory of the same name may have come since.
      if (path !== "" && this.#telling.seen.gone.has(parentOf(path))) continue;
      if (node.kind !== "whiteout") this.#emit({ type: "remove", path: this.#known.outer(path) });
    }
  }

  #place(aside: Map<Node, string>): void {
    const placed = new Set<Node>();
    const placedAt = new Set<string>();
    for (const path of [...this.#telling.seen.come.keys()].sort()) {
      const node = this.#telling.seen.come.get(path)!;
      const outer = this.#known.outer(path);
      const standing = [...node.paths].find(
        (other) => other !== path && (this.#telling.seen.come.get(other) !== node || placedAt.has(other)),
      );
      const from = aside.get(node);
      if (node.kind === "directory") {
        if (path !== "") this.#emit(creation(this.#known, node, outer));
      } else if (node.kind === "whiteout") this.#emit({ type: "remove", path: outer });
      else if (from !== undefined && !placed.has(node)) this.#emit({ type: "move", from, to: outer });
      else if (standing !== undefined) this.#emit({ type: "link", from: this.#known.outer(standing), to: outer });
      else this.#emit(creation(this.#known, node, outer));
      placed.add(node);
      placedAt.add(path);
    }
  }

  /** Whether anything of the file had to be sent. */
  #sendContent(node: Node): boolean {
    const content = node.content!;
    const compare = this.#telling.compared.has(node);
    const path = node.path;
    if (path === undefined) return false;
    let sent = false;
    const tell = (change: FileChange) => {
      sent = true;
      this.#emit(change);
    };
    const fd = this.#known.openFile(node);
    if (fd < 0) {
      this.#known.suspects.add(node);
      return false;
    }
    try {
      const { followed, size } = node;
      if (followed && !compare) {
        if (!node.complete) node.pending = [[0, size]];
        this.#sendRanges(node, fd, path, tell);
      } else content.compare(fd, size, this.#known.outer(path), tell, !followed || compare);
      // What is beyond the size in the stop comes with the size, if at all (`ranges`).
      if (!this.#telling.running) node.pending = [];
      node.complete = true;
    } finally {
      closeDescriptor(fd);
    }
    return sent;
  }

  #sendRanges(node: Node, fd: number, path: string, tell: EmitChange): void {
    const { budget } = this.#telling;
    node.pending = node.content!.ranges(fd, node.size, this.#known.outer(path), merged(node.pending), tell, budget);
    if (budget.isSpent && node.pending.length > 0) this.#known.suspects.add(node);
  }
}

/** `always`: even where they are as last sent; then to those alone who need that, `newcomer`. */
export function sendAttributes(
  known: KnownTree,
  node: Node,
  always: boolean,
  emit: EmitChange,
  newcomer: EmitChange = emit,
): void {
  const path = node.path;
  if (path === undefined || node.kind === "whiteout") return;
  const taken = known.withHandle(node, path, (handle) => node.takeAttributes(handle));
  if (!taken || (taken.asSent && !always)) return;
  const tell = taken.asSent ? newcomer : emit;
  tell({ type: "attributes", path: known.outer(path), attributes: taken.attributes });
}

export function creation(known: KnownTree, node: Node, path: string): FileChange {
  const number = known.numberOf(node);
  if (node.kind === "directory") return { type: "directory", path, fresh: node.fresh, ...number };
  if (node.kind === "file") return { type: "file", path, ...number };
  if (node.kind === "symlink") return { type: "symlink", path, target: node.target, ...number };
  return { type: "special", path, mode: node.mode, device: node.device, ...number };
}
