/** Tells whether any socket was closed for good since the last look: a BPF program of a cgroup counts. */
import {
  createArrayMap,
  type Instruction,
  linkRelease,
  loadMapValue,
  loadReleaseProgram,
  readMap,
} from "../../kernel/bpf.ts";
import { closeDescriptor, openPath } from "../../kernel/calls.ts";

const O_DIRECTORY = 0o200000;
const KEY = Buffer.alloc(4);

function program(mapFd: number): Instruction[] {
  return [...loadMapValue(1, mapFd), [0xb7, 2, 0, 0, 1], [0xdb, 1, 2, 0, 0], [0xb7, 0, 0, 0, 1], [0x95, 0, 0, 0, 0]];
}

export class CloseWatch {
  readonly #map: number;
  readonly #link: number;
  readonly #value = Buffer.alloc(8);
  #seen = -1n;

  /** @param cgroup the cgroup2 directory in which the watched sockets were made */
  constructor(cgroup: string) {
    const cgroupFd = openPath(cgroup, O_DIRECTORY);
    this.#map = createArrayMap(8, 1);
    const programFd = loadReleaseProgram("understudy_rel", program(this.#map));
    this.#link = linkRelease(cgroupFd, programFd);
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
