/** Tells whether any socket was closed for good since the last look. */
import { linkRelease, loadReleaseProgram } from "../../kernel/bpf.ts";
import { CountingWatch, countOne } from "./counting-watch.ts";

export class CloseWatch extends CountingWatch {
  /** @param cgroup the cgroup2 directory in which the watched sockets were made */
  constructor(cgroup: string) {
    super(cgroup, (mapFd) => loadReleaseProgram("understudy_rel", countOne(mapFd)), linkRelease);
  }
}
