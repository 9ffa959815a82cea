/**
 * System V shared memory. What attached processes write comes with their pages. What somebody wrote who has detached since does
 * not: then the segment is attached here for a moment and compared. The kernel notes who attached or detached last; as long as
 * that is this process, nobody else has.
 */
import { hash } from "node:crypto";
import { call, closeDescriptor, cString, openPath, tryCall } from "../../kernel/calls.ts";
import { O_CLOEXEC, O_RDONLY, readAt, Status } from "../../kernel/files.ts";
import { hugePageBytesOf, hugePageSizes } from "../../kernel/huge-pages.ts";
import { inIpcNamespace } from "../../kernel/namespace.ts";
import { PAGE_BYTES } from "../../kernel/numbers.ts";
import type { NamespaceKind, NamespaceWatch } from "../namespace-kind.ts";
import { IPC, ownedOf, permissions, type Row, Table } from "../sysv.ts";
import { type SegmentOperation, type SegmentState, SHM_DEST, SHM_LOCKED } from "./state.ts";

export type { SegmentState } from "./state.ts";

/** Compared and sent in pieces of so many bytes. */
const PIECE_BYTES = 64 * 1024;
const SHM_READ_ONLY = 0o10000;
const SHM_LOCK = 11;

interface Known {
  state: SegmentState;
  /** Digest of each piece as the clones have it; empty where there are no pages. */
  digests: string[];
  /** The clones know of it as it is; they have its content of the last compare. */
  told: boolean;
  compared: boolean;
}

export class SegmentWatch implements NamespaceWatch<SegmentState> {
  readonly #namespaceFd: number;
  readonly #table: Table;
  readonly #known = new Map<number, Known>();
  /** Of huge pages; undefined: ordinary ones. */
  readonly #pageBytes = new Map<number, number | undefined>();
  #operations: SegmentOperation[] = [];

  constructor(namespaceFd: number) {
    this.#namespaceFd = namespaceFd;
    this.#table = new Table(namespaceFd, "shm");
  }

  /** Of new segments only that they are there, while the application runs: their content waits for the stop. */
  announce(): void {
    this.#look();
  }

  /** Which segments there are. Those that are gone come first: another may have the key. */
  #look(): Array<{ known: Known; foreign: boolean }> {
    const rows = this.#table.rows();
    if (rows.length === 0 && this.#known.size === 0) return [];
    const there = new Set(rows.map((row) => Number(row.get("shmid"))));
    for (const id of this.#known.keys()) {
      if (there.has(id)) continue;
      this.#known.delete(id);
      this.#pageBytes.delete(id);
      this.#operations.push({ op: "segment-end", id });
    }
    const states = rows.map((row) => this.#stateOf(row));
    // Removed ones have given up their keys.
    const order = states.map((_, i) => i).sort((a, b) => (states[b]!.mode & SHM_DEST) - (states[a]!.mode & SHM_DEST));
    return order.map((i) => ({
      known: this.#know(states[i]!),
      foreign: Number(rows[i]!.get("lpid")) !== process.pid,
    }));
  }

  #stateOf(row: Row): SegmentState {
    const state: SegmentState = { ...ownedOf(row, "shmid"), bytes: Number(row.get("size")) };
    if (!this.#pageBytes.has(state.id)) {
      const look = () => attached(state.id, (at) => this.#pageBytes.set(state.id, hugePageBytesAt(at, state.bytes)));
      inIpcNamespace(this.#namespaceFd, look);
    }
    const huge = this.#pageBytes.get(state.id);
    return huge === undefined ? state : { ...state, huge };
  }

  dump(): Array<[number, SegmentState]> {
    const touched = this.#look().filter(({ known, foreign }) => foreign || !known.compared);
    if (touched.length > 0)
      inIpcNamespace(this.#namespaceFd, () => {
        for (const { known } of touched) this.#compare(known);
      });
    return [...this.#known].map(([id, { state }]) => [id, state]);
  }

  #know(state: SegmentState): Known {
    const known = this.#known.get(state.id);
    if (known?.told && JSON.stringify(known.state) === JSON.stringify(state)) return known;
    this.#operations.push({ op: "segment", segment: state });
    const next = { digests: [], compared: false, ...known, state, told: true };
    this.#known.set(state.id, next);
    return next;
  }

  #compare(known: Known): void {
    const { id, bytes, huge } = known.state;
    attached(id, (at) => {
      const pages = Buffer.alloc(Math.ceil(bytes / PAGE_BYTES));
      // Of huge pages it tells only those that this process has touched.
      if (huge === undefined) call("mincore", at, bytes, pages);
      const content = openContent(at, bytes, huge);
      try {
        for (let offset = 0, i = 0; offset < bytes; offset += PIECE_BYTES, i++) {
          const first = offset / PAGE_BYTES;
          const length = Math.min(PIECE_BYTES, bytes - offset);
          const empty = pages.subarray(first, first + PIECE_BYTES / PAGE_BYTES).every((page) => (page & 1) === 0);
          if (empty && !known.digests[i] && huge === undefined) continue;
          const piece = Buffer.alloc(length);
          readAt(content.fd, piece, content.shift + offset);
          if (!known.digests[i] && piece.equals(ZEROS.subarray(0, length))) continue;
          const digest = hash("sha1", piece);
          if (digest === known.digests[i]) continue;
          known.digests[i] = digest;
          this.#operations.push({ op: "segment-bytes", id, offset, bytes: piece });
        }
        known.compared = true;
      } finally {
        closeDescriptor(content.fd);
      }
    });
  }

  takeOperations(): SegmentOperation[] {
    return this.#operations.splice(0);
  }

  /** A clone that has nothing: the next dump sends what is in the segments, too. */
  reset(): void {
    for (const known of this.#known.values()) Object.assign(known, { digests: [], told: false, compared: false });
    this.#operations = [];
  }

  close(): void {
    this.#table.close();
  }
}

/** Attaches a segment for a moment. */
function attached<T>(id: number, look: (at: number) => T): T {
  const at = call("shmat", id, null, SHM_READ_ONLY);
  try {
    return look(at);
  } finally {
    call("shmdt", at);
  }
}

/** Where a segment's bytes are read: of huge pages in its file, for a look through the mapping would make those that are not there. */
function openContent(at: number, bytes: number, huge: number | undefined): { fd: number; shift: number } {
  if (huge === undefined) return { fd: openPath("/proc/self/mem", O_RDONLY), shift: at };
  return { fd: openPath(mappingPath(at, bytes, huge), O_RDONLY), shift: 0 };
}

function mappingPath(at: number, bytes: number, unit: number): string {
  return `/proc/self/map_files/${at.toString(16)}-${(at + Math.ceil(bytes / unit) * unit).toString(16)}`;
}

/** Undefined where it has ordinary pages, which nearly never begin at such an address. */
function hugePageBytesAt(at: number, bytes: number): number | undefined {
  for (const unit of hugePageSizes()) {
    if (at % unit !== 0) continue;
    const fd = tryOpen(mappingPath(at, bytes, unit));
    if (fd < 0) continue;
    const failed = status.read(fd, "") < 0;
    closeDescriptor(fd);
    if (!failed && hugePageBytesOf(status) === unit) return unit;
  }
  return undefined;
}

const status = new Status();
const ZEROS = Buffer.alloc(PIECE_BYTES);

function tryOpen(path: string): number {
  return tryCall("open", cString(path), O_RDONLY | O_CLOEXEC, 0);
}

/**
 * @kept identifiers, keys, modes, owners, sizes, content, also detached, and removed while attached; who is attached where; huge
 *   pages (SHM_HUGETLB).
 * @unkept who attached and detached last, and when.
 */
export const shm: NamespaceKind<SegmentState> = {
  kind: "shm",
  version: 1,
  watch: (namespaceFd) => new SegmentWatch(namespaceFd),
  /** The segments are there since their operations: owner and mode are given now, when the application's processes are. */
  create(states) {
    for (const state of states) {
      call("shmctl", state.id, IPC.set, permissions(state, 64));
      if (state.mode & SHM_LOCKED) call("shmctl", state.id, SHM_LOCK, null);
    }
  },
};
