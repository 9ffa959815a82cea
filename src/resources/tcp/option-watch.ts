/** Tells whether any socket option was set since the last look: a BPF program of a cgroup counts calls of setsockopt. */
import {
  createArrayMap,
  type Instruction,
  linkSetsockopt,
  loadMapValue,
  loadSetsockoptProgram,
  readMap,
} from "../../kernel/bpf.ts";
import { closeDescriptor, openPath } from "../../kernel/calls.ts";

const O_DIRECTORY = 0o200000;
const HELPER_CURRENT_PID = 14;
/** Offset of optlen in struct bpf_sockopt; 0 there means that the caller's value is used as it is. */
const OPTION_LENGTH = 32;
const KEY = Buffer.alloc(4);

/** Counts every call but those of this process, whose own dumps set options too. */
function program(mapFd: number): Instruction[] {
  return [
    [0xb7, 2, 0, 0, 0],
    [0x63, 1, 2, OPTION_LENGTH, 0],
    [0x85, 0, 0, 0, HELPER_CURRENT_PID],
    [0x77, 0, 0, 0, 32],
    [0x15, 0, 0, 4, process.pid],
    ...loadMapValue(1, mapFd),
    [0xb7, 2, 0, 0, 1],
    [0xdb, 1, 2, 0, 0],
    [0xb7, 0, 0, 0, 1],
    [0x95, 0, 0, 0, 0],
  ];
}

export class OptionWatch {
  readonly #map: number;
  readonly #link: number;
  readonly #value = Buffer.alloc(8);
  #seen = -1n;

  /** @param cgroup the cgroup2 directory in which the watched sockets were made */
  constructor(cgroup: string) {
    const cgroupFd = openPath(cgroup, O_DIRECTORY);
    this.#map = createArrayMap(8, 1);
    const programFd = loadSetsockoptProgram("understudy_opt", program(this.#map));
    this.#link = linkSetsockopt(cgroupFd, programFd);
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
