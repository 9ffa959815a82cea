/**
 * One process's memory of huge pages (hugetlb): where it is read, what the clones have of it, what was given back. Never by pinning
 * its pages, for that divides what parent and child share since a fork, for which there may be no huge page; never where there is
 * no page, for that would take one.
 */
import { closeDescriptor } from "../../kernel/calls.ts";
import {
  forgetHuge,
  goneHuge,
  HUGE_BLOCK_BYTES,
  type HugeContent,
  type HugeSources,
  hugeSourcesOf,
  makeHugeContent,
  openHugeSources,
} from "../../kernel/huge-pages.ts";
import { type HugeMapping, HugeObjects, openMapping } from "./huge-objects.ts";
import type { Area, HugeArea } from "./layout.ts";

export class HugeMemory {
  readonly #pid: number;
  readonly #memoryFd: number;
  readonly #objects: HugeObjects;
  #private: HugeContent | undefined;
  #limitPages = 0;
  #areas: HugeArea[] = [];
  #sources: HugeSources | null = null;

  constructor(pid: number, memoryFd: number, objects = new HugeObjects()) {
    this.#pid = pid;
    this.#memoryFd = memoryFd;
    this.#objects = objects;
  }

  /** Content of so many pages is kept to send differences. */
  keepContent(limitPages: number): void {
    this.#limitPages = limitPages;
  }

  /** The layout now. */
  follow(areas: readonly Area[]): void {
    this.#areas = areas.filter((area): area is HugeArea => area.huge !== undefined);
    if (this.#areas.length === 0) {
      this.#sources = null;
      return;
    }
    this.#private ??= makeHugeContent(this.#limitPages);
    const words = this.#areas.flatMap(({ start, end, backing }) => [
      BigInt(start),
      BigInt(end),
      backing.type === "shared" ? BigInt.asUintN(64, BigInt(backing.offset - start)) : 0n,
    ]);
    const contents = this.#areas.map(({ backing }) =>
      backing.type === "shared" ? this.#objects.content(backing) : this.#private!,
    );
    this.#sources = hugeSourcesOf(new BigUint64Array(words), this.#closed(), contents);
  }

  get isEmpty(): boolean {
    return this.#sources === null;
  }

  /** For encoding what has been read. */
  get sources(): HugeSources | null {
    return this.#sources;
  }

  get mappings(): HugeMapping[] {
    return this.#areas.flatMap((area) => {
      const { backing } = area;
      return backing.type === "shared" ? [{ pid: this.#pid, area: { ...area, backing } }] : [];
    });
  }

  /** Nothing but private memory can be read. */
  #closed(): Int32Array {
    return Int32Array.from(this.#areas, ({ backing }) => (backing.type === "shared" ? -1 : this.#memoryFd));
  }

  /**
   * Runs what reads. Shared objects are open only meanwhile: a huge page that the application gives back is free at once, for it may
   * need just that.
   */
  reading<T>(read: (sources: HugeSources | null) => T): T {
    if (this.#sources === null) return read(null);
    const opened = new Map<string, number>();
    try {
      openHugeSources(this.#sources, this.#open(opened));
      return read(this.#sources);
    } finally {
      openHugeSources(this.#sources, this.#closed());
      for (const fd of opened.values()) closeDescriptor(fd);
    }
  }

  #open(opened: Map<string, number>): Int32Array {
    return Int32Array.from(this.#areas, (area) => {
      const { backing } = area;
      if (backing.type !== "shared") return this.#memoryFd;
      const fd = opened.get(backing.id) ?? openMapping(this.#pid, { ...area, backing }) ?? -1;
      if (fd >= 0) opened.set(backing.id, fd);
      return fd;
    });
  }

  /** A range is not the clones' any more. */
  forget(start: number, end: number): void {
    if (this.#private) forgetHuge(this.#private, start, end);
  }

  /**
   * Private huge pages that are zeros again though no scan reported them written: given back, perhaps touched again since. The kernel
   * leaves its mark of what has not been written there (6.18, __unmap_hugepage_range). With all threads stopped.
   * @param present regions that have pages
   * @param written regions that are copied
   */
  takeGone(present: BigUint64Array, written: BigUint64Array): Array<[number, number]> {
    if (!this.#private) return [];
    const gone: Array<[number, number]> = [];
    for (const block of goneHuge(this.#private, this.#memoryFd, present, written)) {
      const area = this.#areas.find(({ start, end }) => start <= block && block < end);
      if (!area) continue;
      const start = Math.floor(block / area.huge) * area.huge;
      const end = Math.max(start + area.huge, block + HUGE_BLOCK_BYTES);
      if (gone.at(-1)?.[0] !== start) gone.push([start, end]);
    }
    return gone;
  }

  reset(): void {
    this.#private = undefined;
    this.#areas = [];
    this.#sources = null;
  }
}
