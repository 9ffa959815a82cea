/** One process of a clone that does not live yet, and how another, or a thread, is made by it. */
import { SystemCallError } from "../kernel/errors.ts";
import { CLONE } from "../kernel/numbers.ts";
import { setSessionNice } from "../kernel/procfs.ts";
import type { Remote } from "../kernel/remote.ts";
import { waitFor } from "../kernel/trace.ts";
import type { Area } from "../resources/memory/layout.ts";

const CLONE_ARGS_BYTES = 88;

export interface SkeletonProcess {
  virtualPid: number;
  parent: number;
  pid: number;
  memoryFd: number;
  remote: Remote;
  areas: Area[];
  /** As it is now; those of a process before it lives may be others than the application's. */
  session: number;
  group: number;
  /** Host tids by the application's. */
  threads: Map<number, number>;
  placed: boolean;
  /** Page streams are written through the window. */
  window: boolean;
}

/** struct clone_args with one chosen pid, or the next free one (`setTidAt` 0). */
function cloneArguments(flags: number, exitSignal: number, setTidAt: number, stackAt: number): Buffer {
  const args = Buffer.alloc(CLONE_ARGS_BYTES);
  const put = (at: number, value: number) => args.writeBigUInt64LE(BigInt(value), at);
  put(0, flags);
  put(32, exitSignal);
  if (stackAt) {
    put(40, stackAt);
    put(48, 4096);
  }
  put(64, setTidAt);
  put(72, setTidAt ? 1 : 0);
  return args;
}

/** A pid stays taken for a moment after who had it is gone from /proc (kernel/exit.c, release_task). */
const TAKEN_TRIES = 200;
const TAKEN_MS = 1;
const pause = new Int32Array(new SharedArrayBuffer(4));

/**
 * A new process or thread made by a stopped one; stopped before its first instruction. Returns its host pid.
 * @param wanted its pid in the application; 0: any
 */
export function cloneWith(remote: Remote, flags: number, exitSignal: number, wanted: number): number {
  remote.reset();
  const tid = Buffer.alloc(4);
  tid.writeInt32LE(wanted);
  const stack = flags & CLONE.thread ? remote.put(Buffer.alloc(4096)) : 0;
  const args = remote.put(cloneArguments(flags, exitSignal, wanted ? remote.put(tid) : 0, stack));
  for (let tries = 0; ; tries++) {
    try {
      const child = remote.callForChild("clone3", args, CLONE_ARGS_BYTES);
      waitFor(child);
      return child;
    } catch (error) {
      if (!(error instanceof SystemCallError && error.code === "EEXIST") || tries === TAKEN_TRIES) throw error;
      Atomics.wait(pause, 0, 0, TAKEN_MS);
    }
  }
}

/** Until it lives, a clone runs only what its primary waits for. */
const SKELETON_PRIORITY = -15;

/** setsid, unless it leads its session already. */
export function beginSession(process: SkeletonProcess): void {
  if (process.session === process.virtualPid) return;
  process.remote.call("setsid");
  setSessionNice(process.pid, SKELETON_PRIORITY);
  process.session = process.group = process.virtualPid;
}
