/** Processes of the application that have ended and that their parents have not asked about yet. */
import type { ZombieState } from "../checkpoint/operations.ts";
import { addon } from "../kernel/addon.ts";
import { call } from "../kernel/calls.ts";
import { checked, SystemCallError } from "../kernel/errors.ts";
import { CLONE, NR, PTRACE } from "../kernel/numbers.ts";
import { Remote } from "../kernel/remote.ts";
import { parseStatus, resume, waitFor } from "../kernel/trace.ts";
import { cloneWith, type Skeleton } from "./skeleton.ts";

const SIGCHLD = 17;
const NR_EXIT_GROUP = 231;
const RLIMIT_CORE = 4;

/** Born by its parent in the skeleton, it ends at once in the way the original did. */
export function makeZombie(skeleton: Skeleton, zombie: ZombieState): void {
  const parent = skeleton.process(zombie.parent);
  // In its parent's memory: it touches none of it, and a copy of the page tables would take time.
  const pid = cloneWith(parent.remote, CLONE.vm, SIGCHLD, zombie.pid);
  if (zombie.signal) endBySignal(pid, zombie.signal);
  else endWithCode(new Remote(pid, parent.remote.gadget, parent.memoryFd), zombie.code);
}

function endWithCode(remote: Remote, code: number): void {
  try {
    remote.tryCallNumber(NR_EXIT_GROUP, code);
  } catch (error) {
    if (!(error instanceof SystemCallError && error.code === "ESRCH")) throw error;
  }
}

function endBySignal(pid: number, signal: number): void {
  call("prlimit64", pid, RLIMIT_CORE, Buffer.alloc(16), null);
  checked(addon.syscall(NR.ptrace, PTRACE.setSigMask, pid, 8, Buffer.alloc(8)), "ptrace(SETSIGMASK)", pid);
  call("kill", pid, signal);
  for (let delivered = 0; ; ) {
    resume(pid, delivered);
    const stop = parseStatus(waitFor(pid));
    if (stop.kind === "exited" || stop.kind === "killed") return;
    delivered = stop.kind === "signal" ? stop.signal : 0;
  }
}
