/** Processes of the application that have ended and that their parents have not asked about yet. */
import type { ZombieState } from "../checkpoint/operations.ts";
import { call, pidfdOpen } from "../kernel/calls.ts";
import { SystemCallError } from "../kernel/errors.ts";
import { CLONE } from "../kernel/numbers.ts";
import { readStatus, virtualPid } from "../kernel/procfs.ts";
import { Remote } from "../kernel/remote.ts";
import { NO_SIGNALS, parseStatus, resume, setSignalMask, waitFor } from "../kernel/trace.ts";
import type { Ending } from "../tree/tracees.ts";
import type { Skeleton } from "./skeleton.ts";
import { cloneWith, type SkeletonProcess } from "./skeleton-process.ts";

const SIGCHLD = 17;
const RLIMIT_CORE = 4;
const WALL = 0x40000000;

/** Born by its parent in the skeleton, it ends at once in the way the original did. */
export function makeZombie(skeleton: Skeleton, zombie: ZombieState): Ending {
  const parent = skeleton.process(zombie.parent);
  // In its parent's memory: it touches none of it, and a copy of the page tables would take time.
  const pid = cloneWith(parent.remote, CLONE.vm, SIGCHLD, zombie.pid);
  const remote = new Remote(pid, parent.remote.gadget, parent.memoryFd);
  if (zombie.session === zombie.pid) remote.call("setsid");
  else if (zombie.group !== parent.group) remote.call("setpgid", 0, zombie.group);
  if (zombie.signal) endBySignal(pid, zombie.signal);
  else endWithCode(remote, zombie.code);
  return { pid, virtualPid: zombie.pid, code: zombie.code, signal: zombie.signal };
}

/**
 * A group whose first process has ended and been collected lives on in its others. It is made anew by a process that has its
 * number, as a child of `member`, while `join` brings them in.
 */
export function inGroupOf(member: SkeletonProcess, group: number, join: () => void): void {
  const pid = cloneWith(member.remote, CLONE.vm, SIGCHLD, group);
  const remote = new Remote(pid, member.remote.gadget, member.memoryFd);
  remote.call("setpgid", 0, 0);
  join();
  endWithCode(remote, 0);
  member.remote.call("wait4", group, 0, WALL, 0);
}

/** A handle, in this process, of a process of the application's namespace that has ended and been collected. */
export function handleOfEnded(parent: SkeletonProcess): number {
  const pid = cloneWith(parent.remote, CLONE.vm, SIGCHLD, 0);
  const virtual = virtualPid(readStatus(pid));
  const fd = pidfdOpen(pid);
  endWithCode(new Remote(pid, parent.remote.gadget, parent.memoryFd), 0);
  parent.remote.call("wait4", virtual, 0, WALL, 0);
  return fd;
}

function endWithCode(remote: Remote, code: number): void {
  try {
    remote.tryCall("exit_group", code);
  } catch (error) {
    if (!(error instanceof SystemCallError && error.code === "ESRCH")) throw error;
  }
}

function endBySignal(pid: number, signal: number): void {
  call("prlimit64", pid, RLIMIT_CORE, Buffer.alloc(16), null);
  setSignalMask(pid, NO_SIGNALS);
  call("kill", pid, signal);
  for (let delivered = 0; ; ) {
    resume(pid, delivered);
    const stop = parseStatus(waitFor(pid));
    if (stop.kind === "exited" || stop.kind === "killed") return;
    delivered = stop.kind === "signal" ? stop.signal : 0;
  }
}
