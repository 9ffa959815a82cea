/**
 * Brings a skeleton to life: descriptors, signal actions, identity, registers. Everything that may be done before the
 * application speaks is done before; what remains for the instant of life is collected in `atLife`.
 */

import { writeFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import type { Resource, ZombieState } from "../checkpoint/operations.ts";
import { phaseEnd } from "../checkpoint/phases.ts";
import type { ProcessResource, ThreadState } from "../checkpoint/process-capture.ts";
import { call, closeDescriptor, openInRoot, pidfdGetfd, pidfdOpen } from "../kernel/calls.ts";
import { SystemCallError } from "../kernel/errors.ts";
import { OperatingError } from "../kernel/failure.ts";
import { inIpcNamespace, inNamespace } from "../kernel/namespace.ts";
import { TRACE_OPTION } from "../kernel/numbers.ts";
import { readStatus, setSessionNice } from "../kernel/procfs.ts";
import { Remote, type RemoteCall, SCRATCH_BYTES } from "../kernel/remote.ts";
import {
  ALL_SIGNALS,
  isInterruptStop,
  RECORD_BYTES,
  restartInterrupted,
  SEIZE_OPTIONS,
  setSignalMask,
  setThread,
  setTraceOptions,
  trapAgain,
} from "../kernel/trace.ts";
import type { CreateContext, Inside } from "../resources/kind.ts";
import { inOrder, kindNamed } from "../resources/kinds.ts";
import { giveAdvice, lockFuture } from "../resources/memory/advice.ts";
import { NAMESPACE_KINDS, namespaceKindNamed } from "../resources/namespace-kinds.ts";
import { restoreFilters, SUSPEND_SECCOMP } from "../resources/process/filters.ts";
import { restoreInnerProcess } from "../resources/process/inner.ts";
import { restorePosixTimers } from "../resources/process/posix-timers.ts";
import { restoreScheduling } from "../resources/process/scheduling.ts";
import { parseCredentials } from "../resources/process/state.ts";
import { type Limits, setLimits } from "../stage/limits.ts";
import { INSTANCE_HANDLE, type Stage } from "../stage/stage.ts";
import type { Ending } from "../tree/tracees.ts";
import { restoreCredentials } from "./credentials.ts";
import { installDescriptors } from "./descriptors.ts";
import type { Skeleton } from "./skeleton.ts";
import { beginSession, type SkeletonProcess } from "./skeleton-process.ts";
import { handleOfEnded, inGroupOf, makeZombie } from "./zombie.ts";

const PR_SET_NAME = 15;
const PR_SET_PDEATHSIG = 1;
const PR_SET_TIMERSLACK = 29;
const DEFAULT_SLACK_NS = 50_000;
const PR_SET_DUMPABLE = 4;
const PR_SET_MM = 35;
const PR_SET_MM_MAP = 14;
const MM_MAP_BYTES = 104;
const SS_ONSTACK = 1;
const RLIM_INFINITY = 0xffffffffffffffffn;

type States = ReadonlyMap<string, Resource>;

function statesOf<T>(states: States, kind: string): T[] {
  return [...states.values()].filter((resource) => resource.kind === kind).map((resource) => resource.state as T);
}

/** Threads that each process has, from the states. */
export function threadsWanted(states: States): Map<number, Set<number>> {
  const wanted = new Map<number, Set<number>>();
  for (const { process, tid } of statesOf<ThreadState>(states, "thread")) {
    const tids = wanted.get(process) ?? new Set();
    wanted.set(process, tids.add(tid));
  }
  return wanted;
}

/** What has been prepared and waits for the instant of life. */
export interface Prepared {
  /** Host tids of all threads, stopped, their registers set. */
  tids: number[];
  /** Processes that have ended and that their parents have not collected. */
  ended: Ending[];
  /** To be run, in order, when the application may speak: sockets leave repair mode, timers start. */
  atLife: Array<() => void>;
}

const OWN_KINDS = new Set(["process", "thread", "descriptors", "zombie", "limits"]);

/** Whether a state's version is one this program understands. */
export function checkVersions(states: States): void {
  for (const [key, { kind, version }] of states) {
    const known = OWN_KINDS.has(kind) ? 1 : (kindNamed(kind) ?? namespaceKindNamed(kind))?.version;
    if (known === version) continue;
    throw new OperatingError(
      "image-version",
      `The checkpoint's ${key} is of kind "${kind}" version ${version}, known is ${known ?? "none"}`,
      {
        remedy: "Run the same version of Understudy on all nodes.",
      },
    );
  }
}

/** With thousands of descriptors or processes it takes long: it pauses after each, for signs of life. Nothing else may touch the clone then. */
export function* prepare(stage: Stage, skeleton: Skeleton, states: States): Generator<void, Prepared> {
  checkVersions(states);
  skeleton.setThreads(threadsWanted(states));
  const atLife: Array<() => void> = [];
  const ended = joinGroups(skeleton, states);
  createInNamespace(stage, skeleton, states);
  const own = yield* createDescriptions(stage, skeleton, states, atLife);
  try {
    skeleton.terminals.withdraw(skeleton.processes.values(), (process) => stateOf(process, states).terminal >= 0);
    for (const process of skeleton.processes.values()) {
      const state = stateOf(process, states);
      giveIdentity(stage, process, state);
      installDescriptors(process, states, own);
      const threads = statesOf<ThreadState>(states, "thread").filter((t) => t.process === process.virtualPid);
      for (const thread of threads) restoreThread(process, thread);
      skeleton.unmapWindow(process);
      if (process.session === process.virtualPid) setSessionNice(process.pid, 0);
      finishProcess(stage, process, state, threads);
      yield;
    }
  } finally {
    atLife.push(() => {
      for (const fd of own.values()) closeDescriptor(fd);
      skeleton.terminals.close();
    });
  }
  for (const limits of statesOf<Limits>(states, "limits")) setLimits(stage.cgroup, limits);
  const tids = [...skeleton.processes.values()].flatMap((process) => [...process.threads.values()]);
  phaseEnd("restore");
  return { tids, ended, atLife };
}

function stateOf(process: SkeletonProcess, states: States): ProcessResource {
  const state = states.get(`process/${process.virtualPid}`)?.state as ProcessResource | undefined;
  if (state) return state;
  throw new OperatingError("checkpoint-inconsistent", `The checkpoint has no state of process ${process.virtualPid}`);
}

/** System V objects; shared memory is attached by now to those who have it. */
function createInNamespace(stage: Stage, skeleton: Skeleton, states: States): void {
  const found = NAMESPACE_KINDS.map((kind) => ({ kind, ofKind: statesOf(states, kind.kind) }));
  if (found.some(({ ofKind }) => ofKind.length > 0))
    inIpcNamespace(stage.ipcFd, () => {
      for (const { kind, ofKind } of found)
        kind.create(ofKind, (virtualPid) => {
          const process = skeleton.processes.get(virtualPid);
          return process && insideOf(process);
        });
    });
  skeleton.segments.release();
}

/** Sessions first, then groups: leaders before those who join them. Returns the ended ones, which are in groups, too. */
function joinGroups(skeleton: Skeleton, states: States): Ending[] {
  const all = [...skeleton.processes.values()].map((process) => ({ process, ...stateOf(process, states) }));
  const zombies = statesOf<ZombieState>(states, "zombie");
  for (const { process, session, pid } of all) if (session === pid) beginSession(process);
  const join = (process: SkeletonProcess, group: number) => {
    if (process.group !== group) process.remote.call("setpgid", 0, group);
    process.group = group;
  };
  for (const { process, group, pid } of all) if (group === pid) join(process, group);
  const ended = zombies.filter(({ group, pid }) => group === pid).map((zombie) => makeZombie(skeleton, zombie));
  const others = zombies.filter(({ group, pid }) => group !== pid);
  for (const [group, members] of Map.groupBy(all, ({ group }) => group)) {
    const enter = () => {
      for (const { process } of members) join(process, group);
      const inGroup = others.filter((zombie) => zombie.group === group);
      ended.push(...inGroup.map((zombie) => makeZombie(skeleton, zombie)));
    };
    const isLed = skeleton.processes.has(group) || zombies.some(({ pid }) => pid === group);
    if (isLed || members.every(({ process }) => process.group === group)) enter();
    else inGroupOf(members[0]!.process, group, enter);
  }
  const groups = new Set(all.map(({ group }) => group));
  const alone = others.filter(({ group }) => !groups.has(group));
  ended.push(
    ...alone.map((zombie) => makeZombie(skeleton, { ...zombie, group: skeleton.process(zombie.parent).group })),
  );
  return ended;
}

/** Makes every open file description, in this process; returns its descriptors by description. */
function* createDescriptions(
  stage: Stage,
  skeleton: Skeleton,
  states: States,
  atLife: Array<() => void>,
): Generator<void, Map<string, number>> {
  const own = new Map<string, number>();
  const whenCreated: Array<(own: ReadonlyMap<string, number>) => void> = [];
  const context: CreateContext = {
    rootFd: stage.rootFd,
    inNetwork: (body) => inNamespace(stage.networkFd, body),
    shared: new Map(),
    states: new Map([...states].filter(([key]) => key.startsWith("description/"))),
    object: (id) => skeleton.objects.get(id),
    whenCreated: (action) => whenCreated.push(action),
    inside: ((virtualPid?: number) => {
      const [first] = skeleton.processes.values();
      const process = virtualPid === undefined ? first : skeleton.processes.get(virtualPid);
      return process && insideOf(process);
    }) as CreateContext["inside"],
    terminal: (index) => skeleton.terminals.take(index),
    atLife: (action) => atLife.push(action),
  };
  for (const kind of inOrder()) {
    const ofKind = [...states].filter(([key, r]) => r.kind === kind.kind && key.startsWith("description/"));
    if (kind.createAll) {
      const fds = kind.createAll(
        ofKind.map(([, r]) => r.state),
        context,
      );
      ofKind.forEach(([key], i) => own.set(key.slice("description/".length), fds[i]!));
    } else
      for (const [key, resource] of ofKind) {
        own.set(key.slice("description/".length), kind.create(resource.state, context));
        yield;
      }
  }
  for (const action of whenCreated) action(own);
  return own;
}

function insideOf(process: SkeletonProcess): Inside {
  const { pid, remote } = process;
  return {
    pid,
    handleOfEnded: () => handleOfEnded(process),
    remote,
    give: (fd) => remote.call("pidfd_getfd", INSTANCE_HANDLE, fd, 0),
    fetch(fd) {
      const pidfd = pidfdOpen(pid);
      try {
        return pidfdGetfd(pidfd, fd);
      } finally {
        closeDescriptor(pidfd);
        remote.call("close", fd);
      }
    },
  };
}

/** struct prctl_mm_map: the marks that /proc shows and brk works by. */
function memoryMap(remote: Remote, process: SkeletonProcess, state: ProcessResource, executableFd: number): Buffer {
  const { marks, inner, auxv } = state;
  const heapEnd = process.areas.filter((area) => area.heap).reduce((end, area) => Math.max(end, area.end), 0);
  const brk = inner.brk <= heapEnd && inner.brk > heapEnd - 4096 ? inner.brk : heapEnd || marks.startBrk;
  const map = Buffer.alloc(MM_MAP_BYTES);
  const { startCode, endCode, startData, endData, startBrk, startStack, argStart, argEnd, envStart, envEnd } = marks;
  [startCode, endCode, startData, endData, startBrk, brk, startStack, argStart, argEnd, envStart, envEnd].forEach(
    (mark, i) => {
      map.writeBigUInt64LE(BigInt(mark), 8 * i);
    },
  );
  map.writeBigUInt64LE(BigInt(remote.put(auxv)), 88);
  map.writeUInt32LE(auxv.length, 96);
  map.writeInt32LE(executableFd, 100);
  return map;
}

/** Everything about the process that is not of one thread and not a descriptor. Needs the instance's handle. */
function giveIdentity(stage: Stage, process: SkeletonProcess, state: ProcessResource): void {
  const { remote, pid } = process;
  raiseDescriptorLimit(pid);
  remote.reset();
  const executable = openInRoot(stage.rootFd, state.executable, 0);
  try {
    const [theirs] = remote.batchChecked([["pidfd_getfd", INSTANCE_HANDLE, executable, 0]]);
    const map = remote.put(memoryMap(remote, process, state, theirs!));
    remote.batchChecked([
      ["prctl", PR_SET_MM, PR_SET_MM_MAP, map, MM_MAP_BYTES, 0],
      ["close", theirs!],
      ...workingDirectoryCalls(remote, state.workingDirectory),
      ["umask", state.umask],
      ["personality", state.personality],
    ]);
  } finally {
    closeDescriptor(executable);
  }
  if (state.oomScoreAdjustment !== "0") writeFileSync(`/proc/${pid}/oom_score_adj`, state.oomScoreAdjustment);
}

const GONE = " (deleted)";
const SUBSTITUTE = "/tmp/.understudy-gone";

/** One that has been removed is made for a moment: like it, it has no name any more afterwards. */
function workingDirectoryCalls(remote: Remote, path: string): RemoteCall[] {
  if (!path.endsWith(GONE)) return [["chdir", remote.putString(path)]];
  const substitute = remote.putString(SUBSTITUTE);
  return [
    ["mkdir", substitute, 0o755],
    ["chdir", substitute],
    ["rmdir", substitute],
  ];
}

const RLIMIT_NOFILE = 7;

function setLimit(pid: number, resource: number, soft: number, hard: number): void {
  const value = Buffer.alloc(16);
  value.writeBigUInt64LE(soft < 0 ? RLIM_INFINITY : BigInt(soft), 0);
  value.writeBigUInt64LE(hard < 0 ? RLIM_INFINITY : BigInt(hard), 8);
  call("prlimit64", pid, resource, value, null);
}

/** Descriptors are moved about above the application's own: that needs the room which the hard limit allows. */
function raiseDescriptorLimit(pid: number): void {
  const value = Buffer.alloc(16);
  call("prlimit64", pid, RLIMIT_NOFILE, null, value);
  const hard = Number(value.readBigUInt64LE(8));
  setLimit(pid, RLIMIT_NOFILE, hard, hard);
}

function remoteOf(process: SkeletonProcess, host: number): Remote {
  if (host === process.pid) return process.remote;
  const remote = new Remote(host, process.remote.gadget, process.memoryFd).begin();
  remote.useScratch(process.remote.scratch, false);
  return remote;
}

/** One thread's own facts, by calls in it; its registers come last, in finishProcess. */
function restoreThread(process: SkeletonProcess, state: ThreadState): void {
  const host = process.threads.get(state.tid)!;
  const remote = remoteOf(process, host);
  remote.reset();
  const stack = Buffer.from(state.inner.alternateStack);
  stack.writeInt32LE(stack.readInt32LE(8) & ~SS_ONSTACK, 8);
  const calls: RemoteCall[] = [
    ["sigaltstack", remote.put(stack), 0],
    ["prctl", PR_SET_NAME, remote.putString(state.name)],
    ["set_tid_address", state.inner.clearTidAddress],
  ];
  if (state.inner.timerSlackNs !== DEFAULT_SLACK_NS) calls.push(["prctl", PR_SET_TIMERSLACK, state.inner.timerSlackNs]);
  if (state.inner.deathSignal) calls.push(["prctl", PR_SET_PDEATHSIG, state.inner.deathSignal]);
  if (state.robustList) calls.push(["set_robust_list", state.robustList, state.robustListBytes]);
  if (state.rseq.address) calls.push(["rseq", state.rseq.address, state.rseq.bytes, 0, state.rseq.signature]);
  remote.batchChecked(calls);
  restoreScheduling(host, state.scheduling);
}

/** Signals that came to the clone while it was made go; those that waited for the application wait again. */
function restorePending(process: SkeletonProcess, state: ProcessResource, threads: ThreadState[]): void {
  for (const thread of threads) {
    const remote = remoteOf(process, process.threads.get(thread.tid)!);
    remote.reset();
    const all = remote.put(Buffer.alloc(8, 0xff));
    const now = remote.put(Buffer.alloc(16));
    while (remote.tryCall("rt_sigtimedwait", all, 0, now, 8) > 0);
  }
  // One that the application does not block would end the next call made in it.
  for (const host of process.threads.values()) setSignalMask(host, ALL_SIGNALS);
  for (const thread of threads) {
    const remote = remoteOf(process, process.threads.get(thread.tid)!);
    for (const info of thread.pending) {
      remote.reset();
      const at = remote.put(info);
      remote.call("rt_tgsigqueueinfo", process.virtualPid, thread.tid, info.readInt32LE(), at);
    }
  }
  for (const info of state.pending) {
    process.remote.reset();
    const at = process.remote.put(info);
    process.remote.call("rt_sigqueueinfo", process.virtualPid, info.readInt32LE(), at);
  }
}

/** The last calls in the process, then the scratch goes and every thread gets its registers. */
function finishProcess(stage: Stage, process: SkeletonProcess, state: ProcessResource, threads: ThreadState[]): void {
  const { remote, pid } = process;
  if (state.root !== "/") {
    remote.reset();
    // Its working directory, which may lie outside, stays.
    remote.call("chroot", remote.putString(state.root));
  }
  giveAdvice(remote, process.areas, state.guards);
  state.limits.forEach(([soft, hard], resource) => {
    setLimit(pid, resource, soft, hard);
  });
  if (state.filters.length > 0) {
    for (const host of process.threads.values())
      setTraceOptions(host, SEIZE_OPTIONS | TRACE_OPTION.exitKill | SUSPEND_SECCOMP);
    restoreFilters(remote, state.filters);
  }
  const securebits = threads[0]?.inner.securebits ?? 0;
  if (securebits !== 0 || !isDeepStrictEqual(state.credentials, parseCredentials(readStatus(stage.init))))
    for (const host of process.threads.values())
      restoreCredentials(remoteOf(process, host), state.credentials, securebits);
  remote.reset();
  const calls = restoreInnerProcess(remote, state.inner);
  // Other credentials have made it undumpable.
  if (state.inner.dumpable < 2) calls.push(["prctl", PR_SET_DUMPABLE, state.inner.dumpable]);
  remote.batchChecked([...calls, ...restorePosixTimers(remote, state.posixTimers)]);
  restorePending(process, state, threads);
  remote.batchChecked(lockFuture(state.lockFuture));
  remote.gadget = vdsoGadget(process);
  remote.call("munmap", remote.scratch, SCRATCH_BYTES);
  for (const thread of threads) giveRegisters(process.threads.get(thread.tid)!, thread);
}

function vdsoGadget(process: SkeletonProcess): number {
  const vdso = process.areas.find((area) => area.backing.type === "kernel" && area.backing.name === "[vdso]");
  if (!vdso) throw new OperatingError("checkpoint-inconsistent", "The checkpoint has no vdso");
  const code = Buffer.alloc(vdso.end - vdso.start);
  call("pread64", process.memoryFd, code, code.length, vdso.start);
  return vdso.start + code.indexOf(Buffer.from([0x0f, 0x05]));
}

function giveRegisters(tid: number, state: ThreadState): void {
  const status = trapAgain(tid);
  if (!isInterruptStop(status))
    throw new SystemCallError("ptrace(INTERRUPT)", -4, `unexpected stop ${status} of ${tid}`);
  const record = Buffer.alloc(RECORD_BYTES);
  state.record.copy(record);
  restartInterrupted(record);
  setThread(tid, record);
}
