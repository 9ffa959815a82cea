/**
 * A program or library that a clone's node lacks, or has another version of: sent whole, with what leads to it, and put into the
 * clone's layer, where it lies over the node's own. From then on it is one of the application's files.
 */
import { createHash } from "node:crypto";
import { closeDescriptor } from "../kernel/calls.ts";
import { OperatingError } from "../kernel/failure.ts";
import {
  ERRNO_FILES,
  O_DIRECTORY,
  O_NOATIME,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_RDONLY,
  readAt,
  readEntries,
  Status,
  tryOpenBelow,
  tryReadLink,
} from "../kernel/files.ts";
import { type Attributes, CHUNK_BYTES, type FileChange } from "./change.ts";
import { parentOf } from "./known.ts";
import { kindOf, Node } from "./node.ts";

interface Link {
  path: string;
  target: string;
  attributes: Attributes;
}

export type ProgramPart =
  | {
      type: "begin";
      path: string;
      size: number;
      attributes: Attributes;
      /** All directories on the way, the uppermost first. */
      directories: Array<[path: string, attributes: Attributes]>;
      /** Symbolic links beside it that lead to it: a library's names. */
      links: Link[];
    }
  | { type: "bytes"; at: number; bytes: Buffer }
  /** SHA-256 of all of it. */
  | { type: "end"; digest: Buffer };

const MOST_LINKS = 8;

/** The parts of a file as the application sees it; none when it is not there any more. */
export function* programParts(rootFd: number, path: string): Generator<ProgramPart> {
  const fd = tryOpenBelow(rootFd, path, O_RDONLY | O_NOFOLLOW | O_NOATIME | O_NONBLOCK);
  if (fd < 0) return;
  try {
    const status = new Status();
    if (status.read(fd, "") < 0 || kindOf(status) !== "file") return;
    const { size } = status;
    const attributes = new Node(status).attributes(`/proc/self/fd/${fd}`);
    yield { type: "begin", path, size, attributes, directories: wayTo(rootFd, path), links: linksTo(rootFd, path) };
    const hash = createHash("sha256");
    for (let at = 0; at < size; ) {
      const bytes = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, size - at));
      const read = bytes.subarray(0, readAt(fd, bytes, at));
      // Shorter by now: the clone's check finds that.
      if (read.length === 0) break;
      hash.update(read);
      yield { type: "bytes", at, bytes: read };
      at += read.length;
    }
    yield { type: "end", digest: hash.digest() };
  } finally {
    closeDescriptor(fd);
  }
}

function wayTo(rootFd: number, path: string): Array<[string, Attributes]> {
  const names = path.split("/").slice(1, -1);
  return names.map((_, i) => {
    const directory = `/${names.slice(0, i + 1).join("/")}`;
    return [directory, directoryAttributes(rootFd, directory)];
  });
}

function directoryAttributes(rootFd: number, path: string): Attributes {
  const fd = tryOpenBelow(rootFd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (fd < 0) throw notSendable(path, "it cannot be read on the primary");
  try {
    const status = new Status();
    status.read(fd, "");
    return new Node(status).attributes(`/proc/self/fd/${fd}`);
  } finally {
    closeDescriptor(fd);
  }
}

/** In the same directory, over other links there or not. */
function linksTo(rootFd: number, path: string): Link[] {
  const directory = parentOf(path);
  const fd = tryOpenBelow(rootFd, directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (fd < 0) return [];
  try {
    const targets = new Map([...readEntries(fd).keys()].map((name) => [name, tryReadLink(fd, name)]));
    const name = path.slice(directory.length + 1);
    const status = new Status();
    return [...targets].flatMap(([link, target]): Link[] => {
      if (target === "" || !leadsTo(targets, link, name) || status.read(fd, link) < 0) return [];
      return [{ path: `${directory}/${link}`, target, attributes: new Node(status).attributes("") }];
    });
  } finally {
    closeDescriptor(fd);
  }
}

function leadsTo(targets: Map<string, string>, link: string, name: string): boolean {
  let at = link;
  for (let i = 0; i < MOST_LINKS; i++) {
    const target = targets.get(at);
    if (!target) return at === name;
    at = target.startsWith("./") ? target.slice(2) : target;
  }
  return false;
}

/** The clone's side: parts become steps of the clone's files. */
export class ProgramTaker {
  readonly #rootFd: number;
  readonly #apply: (change: FileChange) => void;
  readonly #status = new Status();
  #taking: { path: string; attributes: Attributes } | undefined;
  #hash = createHash("sha256");

  /** @param rootFd of the clone's root @param apply takes a step in the clone's files */
  constructor(rootFd: number, apply: (change: FileChange) => void) {
    this.#rootFd = rootFd;
    this.#apply = apply;
  }

  /** @throws OperatingError `program-differs` where its place is taken, or what came is not what was sent */
  take(part: ProgramPart): void {
    if (part.type === "begin") this.#begin(part);
    else if (!this.#taking) throw new Error("A part of a program came before its beginning");
    else if (part.type === "bytes") {
      this.#hash.update(part.bytes);
      this.#apply({ type: "write", path: this.#taking.path, at: part.at, bytes: part.bytes });
    } else this.#end(part.digest, this.#taking);
  }

  #begin({ path, size, attributes, directories, links }: Extract<ProgramPart, { type: "begin" }>): void {
    for (const [directory, own] of directories) this.#makeWay(directory, own);
    this.#apply({ type: "file", path });
    this.#apply({ type: "size", path, size });
    for (const link of links) this.#makeLink(link);
    this.#hash = createHash("sha256");
    this.#taking = { path, attributes };
  }

  #makeWay(path: string, attributes: Attributes): void {
    const found = this.#status.read(this.#rootFd, path.slice(1));
    if (found === ERRNO_FILES.noEntry) {
      this.#apply({ type: "directory", path, fresh: false });
      this.#apply({ type: "attributes", path, attributes });
    } else if (found < 0 || kindOf(this.#status) !== "directory")
      throw notSendable(path, "it is no directory on this node");
  }

  #makeLink({ path, target, attributes }: Link): void {
    if (tryReadLink(this.#rootFd, path.slice(1)) === target) return;
    this.#apply({ type: "symlink", path, target });
    this.#apply({ type: "attributes", path, attributes });
  }

  #end(digest: Buffer, { path, attributes }: { path: string; attributes: Attributes }): void {
    this.#taking = undefined;
    if (!this.#hash.digest().equals(digest)) throw notSendable(path, "what came is not what the primary has");
    this.#apply({ type: "attributes", path, attributes });
  }
}

function notSendable(path: string, why: string): OperatingError {
  return new OperatingError("program-differs", `"${path}" cannot be brought to this node: ${why}`, {
    remedy: "Install the same version of the program on all nodes of the application.",
    details: { path },
  });
}
