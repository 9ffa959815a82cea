/**
 * Follows what is in files without a name. Writes by write(2) leave no trace but the file's times, and memory mapped for a
 * moment leaves none but the time of access: when these have moved, the file is compared with the digests of its pages. What
 * processes write through memory that stays mapped comes with their pages.
 */
import { closeDescriptor, makeMemory } from "../../kernel/calls.ts";
import { nextData, nextHole, readAt, Status, writeAt } from "../../kernel/files.ts";
import { type Differences, Digests, PIECE_BYTES, pageUp } from "../memory/digests.ts";
import type { Access, ObjectOperation } from "./state.ts";

/** A file as it is found at one moment. */
export interface Found {
  id: string;
  /** Without " (deleted)". */
  path: string;
  /** Of `status`: when it changed last, as far as that can be told; see `stampOf`. */
  stamp: string | undefined;
  size: number;
  access?: Access;
  /** Of memory of huge pages, which gives some back without another time: bytes of a page, and how much of it is there. */
  huge?: { pageBytes: number; blocks: number };
  /** A descriptor of this process that reads it, and leaves its times alone. The caller closes it. */
  open(): number;
}

interface Known {
  path: string;
  /** As the clones have it; −1 when they do not know of it. */
  size: number;
  digests: Digests;
  /** As long as the file has this stamp, the digests tell all that is in it. */
  stamp: string | undefined;
  /** See `Found.huge`. */
  blocks: number | undefined;
}

/** The kernel's ticks are no longer (10 ms with HZ=100): a time so near may stay the same at the next change. */
const COARSE_MS = 20;

let exact: boolean | undefined;

/** Whether a change of memory that has been looked at always gives it another time (multigrain times, kernel 6.13). */
function timesAreExact(): boolean {
  exact ??= measureTimes();
  return exact;
}

function measureTimes(): boolean {
  const fd = makeMemory("times");
  const status = new Status();
  const seen = new Set<string>();
  for (let i = 0; i < 8; i++) {
    writeAt(fd, Buffer.from("x"), 0);
    status.read(fd, "");
    seen.add(`${status.changedSeconds}.${status.changedNs}`);
  }
  closeDescriptor(fd);
  return seen.size === 8;
}

/** Undefined: it may change without another stamp. @param memory it is a memfd */
export function stampOf(status: Status, memory: boolean): string | undefined {
  const { accessedSeconds, accessedNs, changedSeconds, changedNs, size } = status;
  const accessed = accessedSeconds * 1000 + accessedNs / 1e6;
  const changed = changedSeconds * 1000 + changedNs / 1e6;
  const last = memory && timesAreExact() ? accessed : Math.max(accessed, changed);
  if (Math.abs(Date.now() - last) <= COARSE_MS || last > Date.now()) return undefined;
  return `${accessedSeconds}.${accessedNs} ${changedSeconds}.${changedNs} ${size}`;
}

export class Contents {
  readonly #known = new Map<string, Known>();
  readonly #seen = new Set<string>();
  #operations: ObjectOperation[] = [];
  /** As of the last sweep. */
  #isMapped: (id: string) => boolean = () => false;

  #know(id: string, path: string): Known {
    const known = this.#known.get(id);
    if (known && (known.path === path || known.size < 0)) return Object.assign(known, { path });
    // The inode's number belongs to another file now.
    if (known) this.#operations.push({ op: "object-end", id });
    const made = unknownFile(path);
    this.#known.set(id, made);
    return made;
  }

  /** In the stop: everything of the file that the clones do not have. */
  settle(found: Found): void {
    this.#seen.add(found.id);
    const known = this.#know(found.id, found.path);
    if (this.#isAsKnown(known, found)) return;
    for (const _piece of this.#compare(known, found));
    known.stamp = found.stamp;
  }

  #isAsKnown(known: Known | undefined, { id, stamp, size, huge }: Found): boolean {
    if (known?.stamp === undefined || known.stamp !== stamp || known.size !== size) return false;
    // What is mapped has its pages looked at, see memory/huge-objects.ts.
    return huge === undefined || known.blocks === huge.blocks || this.#isMapped(id);
  }

  /** Since the last sweep. */
  isSettled(id: string): boolean {
    return this.#seen.has(id);
  }

  /** Whether the clones know of it. */
  isSent(id: string): boolean {
    return (this.#known.get(id)?.size ?? -1) >= 0;
  }

  /** Whether a look would find nothing to compare. */
  isKnown(found: Found): boolean {
    return this.#isAsKnown(this.#known.get(found.id), found);
  }

  /**
   * The same while the application runs, with a pause after each piece. What was found in a stop, before which no write can have
   * been under way, is known when that stamp is still the file's in the next stop.
   */
  *copy(found: Found): Generator<void> {
    const known = this.#know(found.id, found.path);
    known.stamp = undefined;
    yield* this.#compare(known, found);
    known.stamp = found.stamp;
  }

  /** The clones know that it is there, and its size: what is mapped of it may come before what is in it. */
  announce(found: Found): void {
    this.#resize(this.#know(found.id, found.path), found);
  }

  #resize(known: Known, { id, path, size, huge, access }: Found): void {
    if (known.size === size) return;
    known.digests.truncate(size);
    this.#operations.push({
      op: "object",
      id,
      path,
      size,
      ...(huge && { huge: huge.pageBytes }),
      ...(access && { access }),
    });
    known.size = size;
  }

  *#compare(known: Known, found: Found): Generator<void> {
    const { id, size, huge, open } = found;
    known.blocks = huge?.blocks;
    this.#resize(known, found);
    const differences: Differences = {
      content: (offset, bytes) => this.#operations.push({ op: "object-bytes", id, offset, bytes }),
      zeros: (from, to) => this.#operations.push({ op: "object-hole", id, from, to }),
    };
    const fd = open();
    try {
      let end = 0;
      for (let at = nextData(fd, 0, size); at < size; at = nextData(fd, end, size)) {
        known.digests.clear(end, at, differences);
        end = nextHole(fd, at, size);
        while (at < end) {
          const to = Math.min(end, (Math.floor(at / PIECE_BYTES) + 1) * PIECE_BYTES);
          known.digests.compare(at, to, (into, from) => readAt(fd, into, from), differences);
          at = to;
          yield;
        }
      }
      known.digests.clear(end, pageUp(size), differences);
    } finally {
      closeDescriptor(fd);
    }
  }

  /** Pages of a range have gone to the clones as somebody's memory. */
  forget(id: string, from: number, to: number): void {
    let known = this.#known.get(id);
    if (!known) {
      known = unknownFile("");
      this.#known.set(id, known);
    }
    known.digests.forget(from, to);
  }

  /** Somebody wrote there whose memory cannot be asked any more. */
  touch(id: string): void {
    const known = this.#known.get(id);
    if (known) known.stamp = undefined;
  }

  /** In the stop, when all that are open have been settled. */
  sweep(isMapped: (id: string) => boolean): void {
    this.#isMapped = isMapped;
    for (const [id, known] of this.#known) {
      if (this.#seen.has(id) || isMapped(id)) continue;
      this.#known.delete(id);
      if (known.size >= 0) this.#operations.push({ op: "object-end", id });
    }
    this.#seen.clear();
  }

  takeOperations(): ObjectOperation[] {
    return this.#operations.splice(0);
  }

  /** Somebody joined who has nothing. */
  reset(): void {
    for (const known of this.#known.values()) {
      known.digests.forgetAll();
      known.size = -1;
      known.stamp = undefined;
    }
    this.#operations = [];
  }
}

function unknownFile(path: string): Known {
  return { path, size: -1, digests: new Digests(), stamp: undefined, blocks: undefined };
}
