/** Tells whether any socket option was set since the last look: calls of setsockopt are counted. */
import { type Instruction, linkSetsockopt, loadSetsockoptProgram } from "../../kernel/bpf.ts";
import { CountingWatch, countOne } from "./counting-watch.ts";

const HELPER_CURRENT_PID = 14;
/** Offset of optlen in struct bpf_sockopt; 0 there means that the caller's value is used as it is. */
const OPTION_LENGTH = 32;

/** Counts every call but those of this process, whose own dumps set options too. */
function program(mapFd: number): Instruction[] {
  return [
    [0xb7, 2, 0, 0, 0],
    [0x63, 1, 2, OPTION_LENGTH, 0],
    [0x85, 0, 0, 0, HELPER_CURRENT_PID],
    [0x77, 0, 0, 0, 32],
    [0x15, 0, 0, 4, process.pid],
    ...countOne(mapFd),
  ];
}

export class OptionWatch extends CountingWatch {
  /** @param cgroup the cgroup2 directory in which the watched sockets were made */
  constructor(cgroup: string) {
    super(cgroup, (mapFd) => loadSetsockoptProgram("understudy_opt", program(mapFd)), linkSetsockopt);
  }
}
