/**
 * The stage: the namespaces an application lives in, with their init, on whatever node it plays. Made from outside, by system
 * calls in the init; the same for a start as for a clone, so that both look alike to the application.
 */

import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { call, closeDescriptor, openPath, pidfdOpen, spawn } from "../kernel/calls.ts";
import { checked, SystemCallError } from "../kernel/errors.ts";
import { O_PATH, O_RDWR } from "../kernel/files.ts";
import { closeNamespace, inNamespace, openNamespace } from "../kernel/namespace.ts";
import { parseMaps } from "../kernel/procfs.ts";
import { Remote } from "../kernel/remote.ts";
import { detach, interrupt, resume, SEIZE_OPTIONS, seize, setTraceOptions, waitAny, waitFor } from "../kernel/trace.ts";
import { prepareRoot, type RootOptions } from "./root.ts";

const INIT_PROGRAM = fileURLToPath(new URL("../../build/understudy-init", import.meta.url));
const PR_SET_CHILD_SUBREAPER = 36;
const EXIT_KILL = 0x100000;
const pause = new Int32Array(new SharedArrayBuffer(4));

/** Descriptor number, in every process of a new clone, of a handle on this process: clones fetch their descriptors by it. */
export const INSTANCE_HANDLE = 4;

/** `filesDirectory`: on a real file system, for the application's layer over the node's files. */
export interface StageOptions extends RootOptions {
  /** cgroup2 directory for the application's processes. */
  cgroup: string;
  /** What to add to this node's clocks, nanoseconds. */
  clockOffsets: { monotonic: bigint; boottime: bigint };
  /** Everything ends with this process (a clone that does not live yet). */
  exitKill: boolean;
}

/** "seconds nanoseconds" as timens_offsets wants it: nanoseconds are never negative. */
function offset(ns: bigint): [string, string] {
  let seconds = ns / 1000000000n;
  let rest = ns % 1000000000n;
  if (rest < 0n) {
    seconds -= 1n;
    rest += 1000000000n;
  }
  return [String(seconds), String(rest)];
}

/** Address of a `syscall` instruction in a process's vdso. */
export function findGadget(pid: number, memoryFd: number): number {
  const vdso = parseMaps(readFileSync(`/proc/${pid}/maps`, "latin1")).find((entry) => entry.path === "[vdso]");
  if (!vdso) throw new SystemCallError("search of the vdso", -2, `pid ${pid}`);
  const code = Buffer.alloc(vdso.end - vdso.start);
  call("pread64", memoryFd, code, code.length, vdso.start);
  const at = code.indexOf(Buffer.from([0x0f, 0x05]));
  if (at < 0) throw new SystemCallError("search of the vdso", -2, `pid ${pid}: no syscall instruction`);
  return vdso.start + at;
}

const MULTIPATH = "/proc/sys/net/mptcp/enabled";

/** Multipath TCP looks absent, so that programs that would rather have it (in Go) go on with TCP. Of the network one is in. */
function withoutMultipath(): void {
  if (existsSync(MULTIPATH)) writeFileSync(MULTIPATH, "0");
}

export class Stage {
  /** Host pid of the init. */
  readonly init: number;
  readonly cgroup: string;
  readonly rootFd: number;
  readonly networkFd: number;
  readonly ipcFd: number;
  readonly memoryFd: number;
  readonly gadget: number;

  private constructor(init: number, cgroup: string) {
    this.init = init;
    this.cgroup = cgroup;
    this.memoryFd = openPath(`/proc/${init}/mem`, O_RDWR);
    this.gadget = findGadget(init, this.memoryFd);
    this.rootFd = openPath(`/proc/${init}/root`, O_PATH);
    this.networkFd = openNamespace(`/proc/${init}/ns/net`);
    this.ipcFd = openNamespace(`/proc/${init}/ns/ipc`);
  }

  /** Makes the namespaces; the init is traced and runs. */
  static create(options: StageOptions): Stage {
    call("prctl", PR_SET_CHILD_SUBREAPER, 1);
    mkdirSync(options.cgroup, { recursive: true });
    const init = spawnInit(options);
    seize(init, SEIZE_OPTIONS | (options.exitKill ? EXIT_KILL : 0));
    const begun = new Stage(init, options.cgroup);
    try {
      begun.visit((remote) => prepareRoot(remote, options));
      begun.inNetwork(withoutMultipath);
      closeDescriptor(begun.rootFd);
      // After pivot_root: the root is another one now.
      return new Stage(init, options.cgroup).#taking(begun);
    } catch (error) {
      begun.destroy();
      throw error;
    }
  }

  /** The stage of an application that runs already. */
  static attach(init: number, cgroup: string): Stage {
    call("prctl", PR_SET_CHILD_SUBREAPER, 1);
    seize(init, SEIZE_OPTIONS);
    return new Stage(init, cgroup);
  }

  #taking(before: Stage): Stage {
    closeDescriptor(before.memoryFd);
    closeNamespace(before.networkFd);
    closeNamespace(before.ipcFd);
    return this;
  }

  /** Stops the init, lets `body` make calls in it, and lets it go on. */
  visit<T>(body: (remote: Remote) => T): T {
    interrupt(this.init);
    waitFor(this.init);
    const remote = new Remote(this.init, this.gadget, this.memoryFd).begin();
    try {
      remote.mapScratch();
      return body(remote);
    } finally {
      remote.unmapScratch();
      remote.end();
      resume(this.init);
    }
  }

  /** A clone that has come to life no longer ends with this process: neither does its init, with which all of it would. */
  liveOn(): void {
    interrupt(this.init);
    waitFor(this.init);
    try {
      setTraceOptions(this.init, SEIZE_OPTIONS);
    } finally {
      resume(this.init);
    }
  }

  inNetwork<T>(body: () => T): T {
    return inNamespace(this.networkFd, body);
  }

  /** Ends every process in it and waits until they are gone. Idempotent. */
  destroy(): void {
    killCgroup(this.cgroup);
    closeDescriptor(this.memoryFd);
    closeDescriptor(this.rootFd);
    closeNamespace(this.networkFd);
    closeNamespace(this.ipcFd);
  }

  /** Leaves the init untraced, as a tracer's orderly end does. */
  leave(): void {
    detach(this.init);
  }
}

/** Kills all of a cgroup at once, waits until it is empty and removes it. */
export function killCgroup(cgroup: string): void {
  try {
    writeFileSync(`${cgroup}/cgroup.kill`, "1");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  const deadline = Date.now() + 5000;
  while (/populated 1/.test(readFileSync(`${cgroup}/cgroup.events`, "latin1"))) {
    // Traced threads stop once more on their way out, and orphans are ours to collect: until then they populate the cgroup.
    const told = waitAny();
    if (told) resume(told.tid);
    else Atomics.wait(pause, 0, 0, 1);
    if (Date.now() > deadline) throw new SystemCallError("cgroup.kill", -110, cgroup);
  }
  try {
    rmdirSync(cgroup);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

function spawnInit(options: StageOptions): number {
  const ends = Buffer.alloc(8);
  call("pipe2", ends, 0o2000000);
  const [reader, writer] = [ends.readInt32LE(0), ends.readInt32LE(4)];
  const handle = pidfdOpen(process.pid);
  try {
    const argv = [
      `understudy-init ${options.name}`.slice(0, 100),
      `${options.cgroup}/cgroup.procs`,
      ...offset(options.clockOffsets.monotonic),
      ...offset(options.clockOffsets.boottime),
    ];
    const parent = spawn(INIT_PROGRAM, argv, Int32Array.of(writer, 3, handle, INSTANCE_HANDLE));
    closeDescriptor(writer);
    const answer = Buffer.alloc(4);
    const n = call("read", reader, answer, 4);
    waitFor(parent);
    const init = n === 4 ? answer.readInt32LE() : -5;
    return checked(init, "unshare of the application's namespaces", options.name);
  } finally {
    closeDescriptor(reader);
    closeDescriptor(handle);
  }
}
