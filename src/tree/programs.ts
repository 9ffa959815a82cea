/**
 * The node's own files that an application has mapped: programs, libraries, data. A clone maps its node's files of the same names, so
 * these must be the same. What the primary has is told with each checkpoint that maps something new, and looked at before it counts;
 * what a clone's node lacks or has another version of is sent (files/program-file.ts).
 */
import { createHash } from "node:crypto";
import { existsSync, readSync } from "node:fs";
import { OperatingError } from "../kernel/failure.ts";
import { pathText } from "../kernel/files.ts";
import type { Area, Backing, FileBacking } from "../resources/memory/layout.ts";
import { buildIdOf } from "./files.ts";
import { lookAtFile } from "./regular-file.ts";

const PIECE_BYTES = 4096;
/** Of a file with more pieces, so many of them spread over it, the first and the last among them, are looked at. */
const MOST_PIECES = 1024;

export interface Program {
  /** As the application sees it. */
  path: string;
  size: number;
  /** Hexadecimal: the build id, which stands for the whole, or of a file without one a digest of its content. */
  identity: string;
}

export interface ProgramsOptions {
  rootFd: number;
  /** The application's own layer: what is in it comes to clones with its files. */
  layer: string;
  /** Paths of mounts that the application was given. */
  mounts: readonly string[];
}

/** What the primary has mapped. */
export class MappedPrograms {
  readonly #options: ProgramsOptions;
  /** Undefined: it is not the node's. */
  readonly #known = new Map<string, Program | undefined>();
  #seen = new WeakSet<readonly Area[]>();

  constructor(options: ProgramsOptions) {
    this.#options = options;
  }

  reset(): void {
    this.#known.clear();
    this.#seen = new WeakSet();
  }

  /** Those that are mapped in these, whether they were told of or not. */
  all(layouts: Iterable<readonly Area[]>): Program[] {
    const mapped = new Set<string>();
    for (const areas of layouts)
      for (const { backing } of areas) if (isNodes(backing)) mapped.add(pathText(backing.path));
    return [...mapped].flatMap((path) => (this.#known.has(path) ? this.#known.get(path) : this.#identify(path)) ?? []);
  }

  /** @returns those that were not there before */
  take(layouts: Iterable<readonly Area[]>): Program[] {
    const found: Program[] = [];
    for (const areas of layouts) {
      if (this.#seen.has(areas)) continue;
      this.#seen.add(areas);
      for (const { backing } of areas) {
        const path = isNodes(backing) ? pathText(backing.path) : undefined;
        if (path === undefined || this.#known.has(path)) continue;
        const program = this.#identify(path);
        this.#known.set(path, program);
        if (program) found.push(program);
      }
    }
    return found;
  }

  #identify(path: string): Program | undefined {
    const { rootFd, layer, mounts } = this.#options;
    if (mounts.some((mount) => path.startsWith(`${mount}/`))) return undefined;
    const program = programAt(rootFd, path);
    // Looked at last: it may have become the application's own meanwhile.
    return existsSync(layer + path) ? undefined : program;
  }
}

function isNodes(backing: Backing): backing is FileBacking {
  return backing.type === "file" && backing.id === undefined;
}

/** Undefined for what is not there or no regular file. */
export function programAt(rootFd: number, path: string): Program | undefined {
  return lookAtFile(rootFd, path, (fd, { size }) => ({ path, size, identity: buildIdOf(fd) ?? digestOf(fd, size) }));
}

function digestOf(fd: number, size: number): string {
  const hash = createHash("sha256");
  const piece = Buffer.allocUnsafe(PIECE_BYTES);
  const last = Math.ceil(size / PIECE_BYTES) - 1;
  const step = Math.max(1, last / (MOST_PIECES - 1));
  for (let at = 0; Math.round(at) <= last; at += step)
    hash.update(piece.subarray(0, readSync(fd, piece, 0, PIECE_BYTES, Math.round(at) * PIECE_BYTES)));
  return hash.digest("hex");
}

/** On a standby: those that are not there, or are others. */
export function differingPrograms(rootFd: number, programs: readonly Program[]): Program[] {
  return programs.filter(({ path, size, identity }) => {
    const here = programAt(rootFd, path);
    return here?.size !== size || here.identity !== identity;
  });
}

/** One that must be the same here, and is not. */
export function programDiffers(rootFd: number, { path }: Program): OperatingError {
  const here = programAt(rootFd, path);
  return new OperatingError(
    "program-differs",
    here ? `"${path}" on this node is another than the primary's` : `"${path}" is not on this node`,
    { remedy: "Install the same version of the program on all nodes of the application.", details: { path } },
  );
}
