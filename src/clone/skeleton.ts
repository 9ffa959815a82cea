/**
 * The hot clone before it lives: real processes and threads with the application's pids, all stopped, their memory laid out
 * and filled as checkpoints come. Ends with this process until it is brought to life.
 */

import { existsSync, readFileSync } from "node:fs";
import type { KeptRun } from "../checkpoint/held-pages.ts";
import type { Operation } from "../checkpoint/operations.ts";
import { FileApply, type FileApplyOptions } from "../files/apply.ts";
import { call, closeDescriptor, openInRoot, openPath, tryCall } from "../kernel/calls.ts";
import { SystemCallError } from "../kernel/errors.ts";
import { OperatingError } from "../kernel/failure.ts";
import { O_RDONLY, O_RDWR } from "../kernel/files.ts";
import { CLONE, MADV_DONTNEED, MAP, MREMAP_MAYMOVE_FIXED, PAGE_BYTES, PROT } from "../kernel/numbers.ts";
import { applyPages } from "../kernel/pages.ts";
import { parseMaps, setSessionNice } from "../kernel/procfs.ts";
import { Remote, type RemoteCall, SCRATCH_BYTES } from "../kernel/remote.ts";
import { resume, waitAny, waitFor } from "../kernel/trace.ts";
import { AREA_FLAG } from "../resources/memory/area-flags.ts";
import { type Area, hasFlag, layoutSteps } from "../resources/memory/layout.ts";
import { Objects } from "../resources/nameless/objects.ts";
import { Segments } from "../resources/shm/segments.ts";
import { segmentOf } from "../resources/shm/state.ts";
import { INSTANCE_HANDLE, type Stage } from "../stage/stage.ts";
import type { EarlierMemory } from "./earlier-memory.ts";
import { Terminals } from "./terminals.ts";
import { Window } from "./window.ts";

/** Where a clone's scratch memory is: below what the kernel gives out, above mmap_min_addr. */
const SCRATCH_AT = 0x20000;
/** Where kernel areas stand for a moment when their old and new places overlap. */
const ASIDE_AT = 0x10000000;
const SIGCHLD = 17;
const SIGKILL = 9;
const WALL = 0x40000000;
const pause = new Int32Array(new SharedArrayBuffer(4));
const CLONE_ARGS_BYTES = 88;
const THREAD_FLAGS = CLONE.vm | CLONE.fs | CLONE.files | CLONE.sighand | CLONE.thread | CLONE.sysvsem;

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

/** A new process or thread made by a stopped one; stopped before its first instruction. Returns its host pid. */
export function cloneWith(remote: Remote, flags: number, exitSignal: number, wanted: number): number {
  remote.reset();
  const tid = Buffer.alloc(4);
  tid.writeInt32LE(wanted);
  const stack = flags & CLONE.thread ? remote.put(Buffer.alloc(4096)) : 0;
  const args = remote.put(cloneArguments(flags, exitSignal, wanted ? remote.put(tid) : 0, stack));
  const child = remote.callForChild("clone3", args, CLONE_ARGS_BYTES);
  waitFor(child);
  return child;
}

interface Born {
  pid: number;
  /** Scratch memory inherited, or 0. */
  scratch: number;
  session: number;
  group: number;
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

export class Skeleton {
  readonly stage: Stage;
  readonly processes = new Map<number, SkeletonProcess>();
  readonly #files: FileApply;
  readonly #earlier: EarlierMemory | undefined;
  /** System V shared memory. */
  readonly segments: Segments;
  /** Files without a name, and memory that several mappings or processes share. */
  readonly objects: Objects;
  readonly terminals: Terminals;
  readonly #window = new Window();

  /** @param earlier memory of an earlier clone, which the first checkpoint may name pages of; it stays the caller's */
  constructor(stage: Stage, files: FileApplyOptions = {}, earlier?: EarlierMemory) {
    this.stage = stage;
    this.#earlier = earlier;
    this.terminals = new Terminals(stage.rootFd);
    this.#files = new FileApply(stage.rootFd, files);
    this.segments = new Segments(stage.ipcFd);
    this.objects = new Objects(stage.rootFd);
  }

  process(virtualPid: number): SkeletonProcess {
    const process = this.processes.get(virtualPid);
    if (!process)
      throw new OperatingError(
        "checkpoint-inconsistent",
        `The checkpoint names process ${virtualPid}, which it never made`,
      );
    return process;
  }

  apply(operation: Operation): void {
    switch (operation.op) {
      case "process":
        this.#makeProcess(operation);
        return;
      case "process-end":
        this.#endProcess(operation.pid);
        return;
      case "layout":
        this.#layOut(this.process(operation.pid), operation.areas, operation.fresh);
        return;
      case "drop":
        this.#drop(this.process(operation.pid), operation.ranges);
        return;
      case "file":
        this.#files.apply(operation);
        return;
      case "segment":
      case "segment-bytes":
      case "segment-end":
        this.segments.apply(operation);
        return;
      case "object":
      case "object-bytes":
      case "object-hole":
      case "object-end":
        this.objects.apply(operation);
        return;
      case "kept":
        this.#write(this.process(operation.pid), this.#takeEarlier(operation.runs));
        return;
      case "pages":
        this.#write(this.process(operation.pid), operation.bytes);
        return;
    }
  }

  #takeEarlier(runs: KeptRun[]): Buffer {
    if (this.#earlier) return this.#earlier.stream(runs);
    throw new OperatingError(
      "checkpoint-inconsistent",
      "The checkpoint names memory of an earlier clone; there was none",
    );
  }

  #write(process: SkeletonProcess, bytes: Buffer): void {
    const { pid, memoryFd, remote, window } = process;
    if (window && this.#window.write(remote, bytes)) return;
    const closed = closedAreas(process.areas, bytes);
    remote.batchChecked(closed.map(({ start, end }) => ["mprotect", start, end - start, PROT.read | PROT.write]));
    if (!window || !this.#writeSingly(process, bytes)) applyPages(pid, memoryFd, bytes);
    remote.batchChecked(closed.map(({ start, end, protection }) => ["mprotect", start, end - start, protection]));
  }

  /**
   * Where memory was met that may not be written: the running application has put other memory over a private file mapping
   * (as the loader does at a library's end), and its pages came before the layout that says so. Behind the file's end they
   * need memory of their own until then. False when there is none of that kind.
   */
  #writeSingly(process: SkeletonProcess, stream: Buffer): boolean {
    const behind = [...wholePages(stream)].filter(({ address }) => {
      const area = process.areas.find(({ start, end }) => start <= address && address < end);
      return area?.backing.type === "file" && !area.backing.shared && !canRead(process.memoryFd, address);
    });
    if (behind.length === 0) return false;
    const flags = MAP.private | MAP.anonymous | MAP.fixed;
    process.remote.batchChecked(
      behind.map(({ address }): RemoteCall => {
        const area = process.areas.find(({ start, end }) => start <= address && address < end)!;
        return ["mmap", address, PAGE_BYTES, area.protection, flags, -1, 0];
      }),
    );
    applyPages(process.pid, process.memoryFd, stream);
    return true;
  }

  #makeProcess({ pid: virtualPid, parent, session, terminal }: Extract<Operation, { op: "process" }>): void {
    if (this.processes.has(virtualPid)) this.#endProcess(virtualPid);
    const above = this.processes.get(parent);
    // Since it made others before, the parent has begun a session of its own.
    if (above && session === parent && above.session !== session) beginSession(above);
    const leader = this.processes.get(session);
    if (terminal !== undefined && leader !== undefined && leader.session === session)
      this.terminals.give(leader, terminal);
    const made =
      session === virtualPid || session === (above?.session ?? 0)
        ? this.#fork(above, virtualPid)
        : this.#forkInSession(above, virtualPid, session);
    const { pid } = made;
    const memoryFd = openPath(`/proc/${pid}/mem`, O_RDWR);
    const remote = new Remote(pid, above ? above.remote.gadget : this.stage.gadget, memoryFd);
    remote.begin();
    if (made.scratch) remote.useScratch(made.scratch, false);
    else remote.mapScratch(SCRATCH_AT);
    remote.gadget = remote.scratchGadget;
    const threads = new Map([[virtualPid, pid]]);
    const { session: bornIn, group } = made;
    const process = { virtualPid, parent, pid, memoryFd, remote, areas: [], threads, placed: false, window: false };
    this.processes.set(virtualPid, { ...process, session: bornIn, group });
    if (session === virtualPid) beginSession(this.process(virtualPid));
  }

  #fork(above: SkeletonProcess | undefined, virtualPid: number): Born {
    if (!above) {
      const pid = this.stage.visit((remote) => cloneWith(remote, 0, SIGCHLD, virtualPid));
      return { pid, scratch: 0, session: 0, group: 0 };
    }
    const pid = cloneWith(above.remote, 0, SIGCHLD, virtualPid);
    return { pid, scratch: above.remote.scratch, session: above.session, group: above.group };
  }

  /** An orphan of another session than its new parent's: made by a process of that session, which ends at once. */
  #forkInSession(above: SkeletonProcess | undefined, virtualPid: number, session: number): Born {
    const leader = this.processes.get(session);
    if (above || (leader && leader.session !== session)) return this.#fork(above, virtualPid);
    const between = leader ? cloneWith(leader.remote, 0, SIGCHLD, 0) : this.#fork(undefined, session).pid;
    const memoryFd = openPath(`/proc/${between}/mem`, O_RDWR);
    try {
      const remote = new Remote(between, leader ? leader.remote.gadget : this.stage.gadget, memoryFd).begin();
      if (leader) remote.useScratch(leader.remote.scratch, false);
      else {
        remote.mapScratch(SCRATCH_AT);
        remote.call("setsid");
      }
      const pid = cloneWith(remote, 0, SIGCHLD, virtualPid);
      const { scratch } = remote;
      this.#kill(between, leader);
      return { pid, scratch, session, group: leader?.group ?? session };
    } finally {
      closeDescriptor(memoryFd);
    }
  }

  /** Ends a process for good: its pid is free when this returns. */
  #kill(pid: number, parent: SkeletonProcess | undefined, threads: Iterable<number> = [pid]): void {
    call("kill", pid, SIGKILL);
    const left = new Set(threads);
    while (left.size > 0) {
      const told = waitAny();
      if (!told) continue;
      const ended = (told.status & 0x7f) !== 0x7f;
      if (ended) left.delete(told.tid);
      else resume(told.tid);
    }
    // The parent stands still and would collect it never; without one the init does, in its own time.
    if (parent) parent.remote.tryCall("wait4", -1, 0, WALL, 0);
    for (let i = 0; existsSync(`/proc/${pid}`) && i < 2000; i++) Atomics.wait(pause, 0, 0, 1);
  }

  #endProcess(virtualPid: number): void {
    const process = this.process(virtualPid);
    this.processes.delete(virtualPid);
    closeDescriptor(process.memoryFd);
    const threads = [...process.threads.values()];
    this.#kill(process.pid, this.processes.get(process.parent), threads);
    // Its children are the init's now.
    for (const child of this.processes.values()) if (child.parent === virtualPid) child.parent = 1;
  }

  #layOut(process: SkeletonProcess, areas: Area[], fresh: Array<[number, number]>): void {
    const { remote } = process;
    if (!process.placed) this.#placeKernelAreas(process, areas);
    const plain = (list: Area[]) => list.filter((area) => area.backing.type !== "kernel");
    const steps = layoutSteps(plain(process.areas), plain(areas), fresh);
    const before: RemoteCall[] = [];
    const maps: Area[] = [];
    for (const step of steps) {
      if (step.step === "unmap") before.push(["munmap", step.start, step.end - step.start]);
      else if (step.step === "map") maps.push(step.area);
    }
    remote.batchChecked(before);
    const isSegment = ({ backing }: Area) => backing.type === "shared" && segmentOf(backing) !== undefined;
    this.#map(
      process,
      maps.filter((area) => !isSegment(area)),
    );
    for (const area of maps.filter(isSegment)) this.#attach(process, area);
    remote.batchChecked(
      steps.flatMap((step): RemoteCall[] =>
        step.step === "protect" ? [["mprotect", step.start, step.end - step.start, step.protection]] : [],
      ),
    );
    process.areas = areas;
  }

  #map(process: SkeletonProcess, areas: Area[]): void {
    const own: number[] = [];
    try {
      const sources = areas.map((area) => this.#source(area, own));
      const fetched = this.#fetch(
        process,
        sources.map(({ fd }) => fd).filter((fd) => fd >= 0),
      );
      let next = 0;
      const calls = areas.map((area, i): RemoteCall => {
        const { flags, offset, fd } = sources[i]!;
        const theirs = fd >= 0 ? fetched[next++]! : -1;
        return ["mmap", area.start, area.end - area.start, area.protection, flags | MAP.fixedNoReplace, theirs, offset];
      });
      process.remote.batchChecked([...calls, ...fetched.map((fd): RemoteCall => ["close", fd])]);
    } finally {
      for (const fd of own) closeDescriptor(fd);
    }
  }

  /** Attaches a System V segment; where only a part of it is wanted, that is moved to its place. */
  #attach({ remote }: SkeletonProcess, { start, end, protection, backing, readOnly }: Area): void {
    if (backing.type !== "shared") return;
    const id = segmentOf(backing)!;
    const bytes = this.segments.bytes(id);
    if (bytes === undefined)
      throw new OperatingError("checkpoint-inconsistent", `The checkpoint has no segment ${id}, which is attached`);
    const whole = Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;
    const flags = (protection & PROT.exec ? SHM_EXEC : 0) | (readOnly ? SHM_RDONLY : 0);
    if (backing.offset === 0 && end - start === whole) remote.call("shmat", id, start, flags);
    else {
      const at = remote.call("shmat", id, 0, flags);
      const [from, size] = [at + backing.offset, end - start];
      remote.call("mremap", from, size, size, MREMAP_MAYMOVE_FIXED, start);
      if (from > at) remote.call("munmap", at, from - at);
      if (from + size < at + whole) remote.call("munmap", from + size, at + whole - from - size);
    }
    if (!readOnly && protection !== (PROT.read | PROT.write)) remote.call("mprotect", start, end - start, protection);
  }

  /** What to map for an area; descriptors opened for it go to `own`. */
  #source(area: Area, own: number[]): { flags: number; offset: number; fd: number } {
    const { backing } = area;
    switch (backing.type) {
      case "anonymous":
      case "kernel": {
        const kind = hasFlag(area, AREA_FLAG.droppable) ? MAP.droppable : MAP.private;
        const grows = hasFlag(area, AREA_FLAG.growsDown) ? MAP.growsDown : 0;
        return { flags: kind | grows | MAP.anonymous | MAP.noReserve, offset: 0, fd: -1 };
      }
      case "stack":
        return { flags: MAP.private | MAP.anonymous | MAP.noReserve | MAP.growsDown | MAP.stack, offset: 0, fd: -1 };
      case "file": {
        const writes = backing.shared && (area.protection & 2) !== 0;
        const fd = openInRoot(this.stage.rootFd, backing.path, writes ? O_RDWR : O_RDONLY);
        own.push(fd);
        return { flags: (backing.shared ? MAP.shared : MAP.private) | MAP.noReserve, offset: backing.offset, fd };
      }
      case "shared": {
        const object = this.objects.map(backing.id, backing.path, backing.offset + area.end - area.start);
        return { flags: MAP.shared, offset: backing.offset, fd: area.readOnly ? readOnly(object, own) : object };
      }
    }
  }

  /** Descriptors of this process, fetched into the clone's: their numbers there, lowest free ones. */
  #fetch(process: SkeletonProcess, fds: number[]): number[] {
    return process.remote.batchChecked(fds.map((fd): RemoteCall => ["pidfd_getfd", INSTANCE_HANDLE, fd, 0]));
  }

  #drop(process: SkeletonProcess, ranges: Array<[number, number]>): void {
    const inside = ranges.flatMap(([start, end]) =>
      process.areas
        .filter((area) => area.start < end && area.end > start)
        .map((area): [number, number] => [Math.max(start, area.start), Math.min(end, area.end)]),
    );
    process.remote.batchChecked(
      inside.map(([start, end]): RemoteCall => ["madvise", start, end - start, MADV_DONTNEED]),
    );
  }

  /** Removes what the process was born with and moves the kernel's own areas to where the application has them. */
  #placeKernelAreas(process: SkeletonProcess, areas: Area[]): void {
    const { remote, pid } = process;
    const scratch = remote.scratch;
    const here = parseMaps(readFileSync(`/proc/${pid}/maps`, "latin1")).filter((entry) => entry.path !== "[vsyscall]");
    const wanted = areas.filter((area) => area.backing.type === "kernel");
    const isKernel = (path: string) => path.startsWith("[v");
    const rubbish = here.filter(
      (entry) => !isKernel(entry.path) && !(entry.start >= scratch && entry.end <= scratch + SCRATCH_BYTES),
    );
    remote.batchChecked(rubbish.map((entry): RemoteCall => ["munmap", entry.start, entry.end - entry.start]));
    const moves: RemoteCall[] = [];
    const back: RemoteCall[] = [];
    let aside = ASIDE_AT;
    for (const area of wanted) {
      const name = area.backing.type === "kernel" ? area.backing.name : "";
      const from = here.find((entry) => entry.path === name);
      const bytes = area.end - area.start;
      if (!from || from.end - from.start !== bytes)
        throw new OperatingError("kernel-differs", `This node's kernel has another ${name} than the primary's`, {
          remedy: "Use the same kernel on all nodes of an application.",
        });
      if (from.start === area.start) continue;
      moves.push(["mremap", from.start, bytes, bytes, MREMAP_MAYMOVE_FIXED, aside]);
      back.push(["mremap", aside, bytes, bytes, MREMAP_MAYMOVE_FIXED, area.start]);
      aside += bytes;
    }
    remote.batchChecked([...moves, ...back]);
    process.placed = true;
    process.window = this.#window.mapInto(remote);
  }

  /** The window is not the application's: it goes before life. */
  unmapWindow(process: SkeletonProcess): void {
    if (process.window) this.#window.unmapFrom(process.remote);
    process.window = false;
  }

  /** Makes and ends threads until each process has those given (the leader is always there). */
  setThreads(wanted: Map<number, Set<number>>): void {
    for (const process of this.processes.values()) {
      const tids = wanted.get(process.virtualPid);
      if (!tids)
        throw new OperatingError(
          "checkpoint-inconsistent",
          `The checkpoint has no threads of process ${process.virtualPid}`,
        );
      for (const tid of tids)
        if (!process.threads.has(tid)) process.threads.set(tid, cloneWith(process.remote, THREAD_FLAGS, 0, tid));
      for (const [tid, host] of [...process.threads])
        if (!tids.has(tid) && tid !== process.virtualPid) {
          this.#endThread(process, host);
          process.threads.delete(tid);
        }
    }
  }

  #endThread(process: SkeletonProcess, host: number): void {
    const remote = new Remote(host, process.remote.gadget, process.memoryFd);
    try {
      remote.tryCall("exit", 0);
    } catch (error) {
      if (!(error instanceof SystemCallError && error.code === "ESRCH")) throw error;
    }
  }

  close(): void {
    this.#files.close();
    this.terminals.close();
    this.segments.release();
    this.objects.release();
    this.#window.close();
    for (const process of this.processes.values()) closeDescriptor(process.memoryFd);
    this.processes.clear();
  }
}

/** Through such a descriptor no mapping can ever be made writable. */
function readOnly(fd: number, own: number[]): number {
  own.push(openPath(`/proc/self/fd/${fd}`, O_RDONLY));
  return own.at(-1)!;
}

const SHM_EXEC = 0o100000;
const SHM_RDONLY = 0o10000;

/** Shared memory in a stream's way that is not writable now: not even from outside can it be written so. */
function closedAreas(areas: Area[], stream: Buffer): Area[] {
  const closed = areas.filter(
    ({ backing, protection, readOnly }) => backing.type === "shared" && !readOnly && (protection & PROT.write) === 0,
  );
  if (closed.length === 0) return closed;
  const addresses = [...wholePages(stream)].map(({ address }) => address);
  return closed.filter(({ start, end }) => addresses.some((address) => start <= address && address < end));
}

/** Pages that a stream holds as a whole; see native/memory.cc for its form. */
function* wholePages(stream: Buffer): Generator<{ address: number }> {
  for (let at = 0; at < stream.length; ) {
    const address = Number(stream.readBigUInt64LE(at));
    const kind = stream.readUInt16LE(at + 8);
    const patches = stream.readUInt16LE(at + 10);
    const bytes = stream.readUInt32LE(at + 12);
    at += 16 + (kind === 1 ? 4 * patches : 0) + (kind === 2 ? 0 : bytes);
    if (kind === 1) continue;
    const pages = kind === 2 ? bytes : bytes / PAGE_BYTES;
    for (let i = 0; i < pages; i++) yield { address: address + i * PAGE_BYTES };
  }
}

const probe = Buffer.alloc(1);

function canRead(memoryFd: number, address: number): boolean {
  return tryCall("pread64", memoryFd, probe, 1, address) === 1;
}
