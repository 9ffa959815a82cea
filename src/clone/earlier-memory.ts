/**
 * Memory that an earlier clone or primary had here, put aside until the clone that comes next is in sync: pages that are in it
 * need not be sent again. It is never taken for the application's: only pages whose digest is the wanted one are read out of
 * it. Which process had them, and where, does not matter.
 */
import { readFileSync } from "node:fs";
import { type KeptRun, MOST_KEPT_PAGES } from "../checkpoint/held-pages.ts";
import { closeDescriptor, makeMemory } from "../kernel/calls.ts";
import { checked, SystemCallError } from "../kernel/errors.ts";
import { readAt, writeAt } from "../kernel/files.ts";
import { PAGE_BYTES } from "../kernel/numbers.ts";
import { keyedDigests } from "../kernel/page-digests.ts";
import { copyPages, encodePages } from "../kernel/pages.ts";
import { mergeRegions, piecesOf, splitRegions, sumPages } from "../resources/memory/regions.ts";
import { MemoryTracker } from "../resources/memory/tracker.ts";

/** Copied, digested or read in one go: some milliseconds. */
const PIECE_PAGES = MOST_KEPT_PAGES;
/** Left of a node's memory when all is put aside. */
const SPARE_BYTES = 64 << 20;
const NO_RANGES = new BigUint64Array(0);

const staging = Buffer.from(new ArrayBuffer(PIECE_PAGES * PAGE_BYTES));
const addresses = new BigUint64Array(PIECE_PAGES);
const encoded = Buffer.allocUnsafeSlow(PIECE_PAGES * (PAGE_BYTES + 16) + PAGE_BYTES);

export class EarlierMemory {
  readonly #fd = makeMemory("understudy-earlier");
  #pages = 0;

  get pages(): number {
    return this.#pages;
  }

  /**
   * Copies what processes have, in pieces, with a pause after each. They may run on meanwhile: a page that is torn by that is
   * like no other. A process for which the node has no room is left out, and will be sent.
   */
  *take(pids: Iterable<number>): Generator<void> {
    /** Shared memory is told by the first who has it mapped. */
    const seen = new Set<string>();
    for (const pid of pids) {
      const tracker = openTracker(pid);
      if (!tracker) continue;
      try {
        const regions = populated(tracker, seen);
        if (sumPages(regions) * PAGE_BYTES + SPARE_BYTES > availableBytes()) continue;
        for (const piece of piecesOf(regions, PIECE_PAGES)) {
          this.#copy(tracker, piece);
          yield;
        }
      } catch (error) {
        // It may end at any time.
        if (!(error instanceof SystemCallError && error.code === "ESRCH")) throw error;
      } finally {
        tracker.close();
      }
    }
  }

  #copy({ pid, memoryFd }: MemoryTracker, piece: BigUint64Array): void {
    const n = checked(copyPages(pid, memoryFd, piece, piece.length / 3, staging, addresses, 0), "copy of pages", pid);
    writeAt(this.#fd, staging.subarray(0, n * PAGE_BYTES), this.#pages * PAGE_BYTES);
    this.#pages += n;
  }

  /** Of all pages in order, by pieces; `PAGE_DIGEST_BYTES` each. */
  *digests(key: Buffer): Generator<Buffer> {
    for (let at = 0; at < this.#pages; at += PIECE_PAGES) {
      const pages = Math.min(PIECE_PAGES, this.#pages - at);
      this.#read(at, 0, pages);
      yield keyedDigests(staging, pages, key);
    }
  }

  #read(place: number, at: number, pages: number): void {
    const bytes = staging.subarray(at * PAGE_BYTES, (at + pages) * PAGE_BYTES);
    if (place + pages > this.#pages || readAt(this.#fd, bytes, place * PAGE_BYTES) !== bytes.length)
      throw new RangeError(`There are no pages ${place} to ${place + pages} among the ${this.#pages} put aside`);
  }

  /** A page stream of these pages; overwritten by the next call. At most `MOST_KEPT_PAGES` in all. */
  stream(runs: readonly KeptRun[]): Buffer {
    let count = 0;
    for (const { address, place, pages } of runs) {
      if (count + pages > PIECE_PAGES) throw new RangeError("Too many pages at a time");
      this.#read(place, count, pages);
      for (let i = 0; i < pages; i++) addresses[count++] = BigInt(address + i * PAGE_BYTES);
    }
    return encoded.subarray(0, encodePages(staging, addresses, 0, count, null, encoded, 0, true, NO_RANGES));
  }

  close(): void {
    closeDescriptor(this.#fd);
  }
}

function openTracker(pid: number): MemoryTracker | undefined {
  try {
    return new MemoryTracker(pid);
  } catch (error) {
    if (error instanceof SystemCallError && (error.code === "ESRCH" || error.code === "ENOENT")) return undefined;
    throw error;
  }
}

/** Private pages that are a process's own, and shared ones that no other has told of. */
function populated(tracker: MemoryTracker, seen: Set<string>): BigUint64Array {
  tracker.sharedWritten();
  const found = tracker.takeRegions(checked(tracker.scanPopulated(), "ioctl(PAGEMAP_SCAN)", tracker.pid));
  const shared = tracker.areas.filter(({ backing, huge }) => backing.type === "shared" && huge === undefined);
  const fresh = shared.filter(({ backing, start, end }) => {
    if (backing.type !== "shared") return false;
    const range = `${backing.id} ${backing.offset} ${end - start}`;
    return !seen.has(range) && seen.add(range);
  });
  // Huge pages are sent: they are few, and those of an earlier clone would have to be copied to ordinary ones.
  const others = tracker.areas.filter(({ backing, huge }) => backing.type === "shared" || huge !== undefined);
  const own = splitRegions(
    found,
    others.map(({ start, end }) => [start, end]),
  ).outside;
  return mergeRegions([own, ...fresh.map((area) => tracker.populatedShared(area))]);
}

/** What can be had without taking from anybody: "MemAvailable" of proc_meminfo(5). */
function availableBytes(): number {
  const kilobytes = /^MemAvailable:\s+(\d+) kB/m.exec(readFileSync("/proc/meminfo", "latin1"))?.[1];
  return Number(kilobytes) * 1024;
}
