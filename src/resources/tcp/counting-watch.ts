/** Tells whether anything has happened to sockets of a cgroup since the last look: a BPF program there counts. */
import { createArrayMap, type Instruction, loadMapValue, readMap } from "../../kernel/bpf.ts";
import { closeDescriptor, openPath } from "../../kernel/calls.ts";
import { O_DIRECTORY } from "../../kernel/files.ts";

const KEY = Buffer.alloc(4);

/** The end of each such program: one more, and the kernel goes on as if nothing were there. */
export function countOne(mapFd: number): Instruction[] {
  return [...loadMapValue(1, mapFd), [0xb7, 2, 0, 0, 1], [0xdb, 1, 2, 0, 0], [0xb7, 0, 0, 0, 1], [0x95, 0, 0, 0, 0]];
}

export class CountingWatch {
  readonly #map: number;
  readonly #link: number;
  readonly #value = Buffer.alloc(8);
  #seen = -1n;

  /**
   * @param cgroup the cgroup2 directory in which the watched sockets were made
   * @param load returns the program, given the map in which it counts
   * @param link attaches it to the cgroup until the returned descriptor is closed
   */
  constructor(cgroup: string, load: (mapFd: number) => number, link: (cgroupFd: number, programFd: number) => number) {
    const cgroupFd = openPath(cgroup, O_DIRECTORY);
    this.#map = createArrayMap(8, 1);
    const programFd = load(this.#map);
    this.#link = link(cgroupFd, programFd);
    closeDescriptor(programFd);
    closeDescriptor(cgroupFd);
  }

  /** True also at the first look. */
  changed(): boolean {
    readMap(this.#map, KEY, this.#value);
    const now = this.#value.readBigUInt64LE(0);
    const changed = now !== this.#seen;
    this.#seen = now;
    return changed;
  }

  close(): void {
    closeDescriptor(this.#link);
    closeDescriptor(this.#map);
  }
}
