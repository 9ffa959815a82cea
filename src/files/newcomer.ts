/**
 * What a clone gets that has nothing, beside the passes that others get: all names at once, then attributes and content piece by
 * piece. What changes meanwhile, the passes tell to everybody, the newcomer among them.
 */
import { closeDescriptor } from "../kernel/calls.ts";
import { nextData } from "../kernel/files.ts";
import { CHUNK_BYTES, type FileChange } from "./change.ts";
import { type EmitChange, isSentToItsEnd, sendPiece } from "./content.ts";
import type { KnownTree } from "./known.ts";
import type { Node } from "./node.ts";
import { blockOf, digestsOf, type Lacking, OFFER_BLOCK_BYTES } from "./offer.ts";
import { creation, sendAttributes } from "./tell.ts";

export interface Newcomer {
  /** To it alone. */
  emit: EmitChange;
  /** After each piece: waits for the network, the rate, other work. */
  pause: () => Promise<void>;
  /** Its answers to offers; undefined: it gives none, so that everything is sent. */
  answers?: Answers | undefined;
  /** It has content of an earlier time, so that every file is worth an offer. */
  holds?: boolean;
  /** So many bytes of files have been dealt with, these of them not sent because it had them. */
  progress?: (bytes: number, kept: number) => void;
}

/** Answers of a clone as they come in; `next` waits for one, `fail` ends all waiting. */
export class Answers {
  readonly #come: Lacking[] = [];
  #error: Error | undefined;
  #wake: () => void = () => {};

  push(answer: Lacking): void {
    this.#come.push(answer);
    this.#wake();
  }

  fail(error: Error): void {
    this.#error = error;
    this.#wake();
  }

  take(): Lacking | undefined {
    if (this.#error) throw this.#error;
    return this.#come.shift();
  }

  async next(): Promise<Lacking> {
    for (;;) {
      const answer = this.take();
      if (answer) return answer;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

/** All names as of this call, as steps; those of later changes come after them. */
export function structure(known: KnownTree): Generator<FileChange> {
  // A directory came before what is in it, and names that come again are at the end.
  return steps(known, [...known.paths]);
}

function* steps(known: KnownTree, names: Array<[string, Node]>): Generator<FileChange> {
  const told = new Map<Node, string>();
  for (const [path, node] of names) {
    const outer = known.outer(path);
    const other = told.get(node);
    if (node.kind === "directory") {
      if (path !== "") yield creation(known, node, outer);
    } else if (node.kind === "whiteout") yield { type: "remove", path: outer };
    else if (other !== undefined) yield { type: "link", from: other, to: outer };
    else {
      yield creation(known, node, outer);
      if (node.content) yield { type: "size", path: outer, size: node.content.size };
    }
    told.set(node, outer);
  }
}

/** A file whose content is on its way. */
interface Copying {
  node: Node;
  /** Offers without an answer. */
  open: number;
  ended: boolean;
}

interface Offer {
  copying: Copying;
  at: number;
  length: number;
}

/** Offers that may wait for their answers. */
const MOST_OFFERS = 64;
/** Nodes whose attributes are sent in one go. */
const ATTRIBUTES_AT_ONCE = 100;

/** The files of one tree, to one newcomer. */
export class Copy {
  readonly #known: KnownTree;
  readonly #newcomer: Newcomer;
  readonly #everybody: EmitChange;
  readonly #offers = new Map<number, Offer>();
  #nextOffer = 0;

  /** @param everybody to all clones */
  constructor(known: KnownTree, newcomer: Newcomer, everybody: EmitChange) {
    this.#known = known;
    this.#newcomer = newcomer;
    this.#everybody = everybody;
  }

  /** Content and attributes of these, but for those that the next pass finds under other names. */
  async content(nodes: Iterable<Node>): Promise<void> {
    for (const node of nodes) await this.#file(node);
    while (this.#offers.size > 0) await this.#answered(await this.#newcomer.answers!.next());
  }

  /** Attributes of everything, directories after what is in them. */
  async attributes(): Promise<void> {
    let sent = 0;
    for (const node of new Set(this.#known.paths.values())) {
      sendAttributes(this.#known, node, true, this.#everybody, this.#newcomer.emit);
      if (++sent % ATTRIBUTES_AT_ONCE === 0) await this.#newcomer.pause();
    }
  }

  /** To all clones; each has other times then, and is to get the right ones. */
  #writer(node: Node): EmitChange {
    return (change) => {
      node.forgetAttributes();
      this.#everybody(change);
    };
  }

  #pathOf(node: Node): string | undefined {
    return node.path === undefined ? undefined : this.#known.outer(node.path);
  }

  async #file(node: Node): Promise<void> {
    const content = node.content!;
    const fd = this.#known.openFile(node);
    if (fd < 0) return this.#missed(node);
    const copying: Copying = { node, open: 0, ended: false };
    try {
      const path = this.#pathOf(node);
      if (path === undefined) return;
      let size: FileChange | undefined;
      const tellSize = () => {
        if (size !== undefined) this.#newcomer.emit(size);
        size = undefined;
      };
      const keepSize = (change: FileChange) => {
        size = change;
      };
      if (!node.complete) {
        content.empty(path, this.#newcomer.emit);
        content.begin(path, node.size, keepSize, !node.followed);
      }
      const offers = this.#isOffered(node);
      for (let at = 0; at < content.size; at += CHUNK_BYTES) {
        if (content.skipsHoles) at = Math.max(at, wholePieces(nextData(fd, at, content.size)));
        const current = this.#pathOf(node);
        if (current === undefined || at >= content.size) break;
        const piece = content.piece(fd, at, current, node.complete ? this.#writer(node) : undefined);
        // Of a small file the only write makes it as long as it is.
        if (!offers && piece.length === content.size && isSentToItsEnd(piece)) size = undefined;
        tellSize();
        if (offers) await this.#offer(copying, current, at, piece);
        else {
          sendPiece(current, at, piece, this.#newcomer.emit);
          this.#newcomer.progress?.(piece.length, 0);
        }
        await this.#newcomer.pause();
      }
      tellSize();
    } finally {
      closeDescriptor(fd);
    }
    node.complete = true;
    copying.ended = true;
    this.#finish(copying);
  }

  /** Its name leads elsewhere by now: from where the next pass finds it, all of it goes to everybody. */
  #missed(node: Node): void {
    const path = this.#pathOf(node);
    if (path === undefined) return;
    node.complete = false;
    node.content!.forget();
    this.#known.suspects.add(node);
    // What it has got already must not shine through where there are zeros now.
    for (const size of [0, node.content!.size]) this.#newcomer.emit({ type: "size", path, size });
  }

  /** Nothing is worth a question that takes longer than the bytes. */
  #isOffered(node: Node): boolean {
    if (!this.#newcomer.answers || node.size === 0 || node.path === undefined) return false;
    return this.#newcomer.holds === true || this.#known.hasBelow(node.path);
  }

  async #offer(copying: Copying, path: string, at: number, piece: Buffer): Promise<void> {
    const id = this.#nextOffer++;
    const last = at + piece.length >= copying.node.content!.size;
    this.#offers.set(id, { copying, at, length: piece.length });
    copying.open++;
    this.#newcomer.emit({ type: "offer", path, id, at, length: piece.length, digests: digestsOf(piece), last });
    for (;;) {
      const { answers } = this.#newcomer;
      const answer = this.#offers.size >= MOST_OFFERS ? await answers!.next() : answers!.take();
      if (!answer) return;
      await this.#answered(answer);
    }
  }

  /** The blocks that it lacks, as they are now. */
  async #answered({ id, blocks }: Lacking): Promise<void> {
    const offer = this.#offers.get(id);
    if (!offer) return;
    this.#offers.delete(id);
    const { copying, at, length } = offer;
    const lacks = new Set(blocks);
    if (lacks.size > 0) this.#sendBlocks(copying.node, at, lacks);
    const sent = Math.min(length, lacks.size * OFFER_BLOCK_BYTES);
    this.#newcomer.progress?.(length, length - sent);
    copying.open--;
    this.#finish(copying);
    if (lacks.size > 0) await this.#newcomer.pause();
  }

  #sendBlocks(node: Node, at: number, blocks: Set<number>): void {
    const path = this.#pathOf(node);
    const content = node.content!;
    const fd = this.#known.openFile(node);
    if (fd < 0) {
      this.#missed(node);
      return;
    }
    try {
      if (path === undefined || at >= content.size) return;
      const piece = content.piece(fd, at, path, this.#writer(node));
      for (const index of blocks)
        sendPiece(path, at + index * OFFER_BLOCK_BYTES, blockOf(piece, index), this.#newcomer.emit);
    } finally {
      closeDescriptor(fd);
    }
  }

  /** Attributes come after the last write. */
  #finish({ node, open, ended }: Copying): void {
    if (!ended || open > 0 || node.content!.size === 0) return;
    sendAttributes(this.#known, node, true, this.#everybody, this.#newcomer.emit);
  }
}

/** All of a file that no clone has, and its attributes. */
export function* sendWhole(known: KnownTree, node: Node, emit: EmitChange): Generator<number> {
  const content = node.content!;
  const fd = known.openFile(node);
  if (fd < 0 || node.path === undefined) return;
  const path = known.outer(node.path);
  try {
    content.begin(path, node.size, emit, !node.followed);
    for (let at = 0; at < content.size; at += CHUNK_BYTES) {
      const piece = content.piece(fd, at, path);
      sendPiece(path, at, piece, emit);
      yield piece.length;
    }
  } finally {
    closeDescriptor(fd);
  }
  node.complete = true;
  sendAttributes(known, node, true, emit);
}

const wholePieces = (bytes: number) => Math.floor(bytes / CHUNK_BYTES) * CHUNK_BYTES;
