import { writeFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import type { ProcessResource, ThreadState } from "../checkpoint/process-capture.ts";
import { call } from "../kernel/calls.ts";
import { SystemCallError } from "../kernel/errors.ts";
import { OperatingError } from "../kernel/failure.ts";
import { TRACE_OPTION } from "../kernel/numbers.ts";
import { readSmall, readStatus } from "../kernel/procfs.ts";
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
import { giveAdvice, lockFuture } from "../resources/memory/advice.ts";
import { restoreFilters, SUSPEND_SECCOMP } from "../resources/process/filters.ts";
import { restoreInnerProcess } from "../resources/process/inner.ts";
import { restorePosixTimers } from "../resources/process/posix-timers.ts";
import { restoreScheduling } from "../resources/process/scheduling.ts";
import { restoreIoPriority, restoreSettings } from "../resources/process/settings.ts";
import { parseCredentials } from "../resources/process/state.ts";
import { useTilesFirst } from "../resources/process/tiles.ts";
import type { Stage } from "../stage/stage.ts";
import { restoreCredentials } from "./credentials.ts";
import { setLimit } from "./identity.ts";
import type { SkeletonProcess } from "./skeleton-process.ts";

const PR_SET_NAME = 15;
const PR_SET_PDEATHSIG = 1;
const PR_SET_TIMERSLACK = 29;
const DEFAULT_SLACK_NS = 50_000;
const PR_SET_DUMPABLE = 4;
const SS_ONSTACK = 1;

function remoteOf(process: SkeletonProcess, host: number): Remote {
  if (host === process.pid) return process.remote;
  const remote = new Remote(host, process.remote.gadget, process.memoryFd).begin();
  remote.useScratch(process.remote.scratch, false);
  return remote;
}

/** One thread's own facts, by calls in it; its registers come last, in finishProcess. */
export function restoreThread(process: SkeletonProcess, state: ThreadState): void {
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
  useTilesFirst(remote, state.record);
  restoreScheduling(host, state.scheduling);
  restoreIoPriority(host, state.ioPriority);
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
export function finishProcess(
  stage: Stage,
  process: SkeletonProcess,
  state: ProcessResource,
  threads: ThreadState[],
): void {
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
  restoreAllFilters(process, state, threads);
  restoreRights(stage, process, state, threads);
  remote.reset();
  const calls = restoreInnerProcess(remote, state.inner);
  // Other credentials have made it undumpable.
  if (state.inner.dumpable < 2) calls.push(["prctl", PR_SET_DUMPABLE, state.inner.dumpable]);
  if (readSmall(`/proc/${pid}/coredump_filter`).trim() !== state.inner.coreFilter)
    writeFileSync(`/proc/${pid}/coredump_filter`, `0x${state.inner.coreFilter}`);
  remote.batchChecked([...calls, ...restorePosixTimers(remote, state.posixTimers)]);
  restorePending(process, state, threads);
  restoreThreadSettings(process, threads);
  remote.batchChecked(lockFuture(state.lockFuture));
  remote.gadget = vdsoGadget(process);
  remote.call("munmap", remote.scratch, SCRATCH_BYTES);
  for (const thread of threads) giveRegisters(process.threads.get(thread.tid)!, thread);
}

/** What all threads have in common they get together, as a filter for all threads of a process has to be; then each its own. */
function restoreAllFilters(process: SkeletonProcess, state: ProcessResource, threads: ThreadState[]): void {
  const wanted = threads.map((thread) => thread.filters ?? state.filters);
  const most = wanted.find((filters) => filters.length > 0);
  if (most === undefined) return;
  for (const host of process.threads.values())
    setTraceOptions(host, SEIZE_OPTIONS | TRACE_OPTION.exitKill | SUSPEND_SECCOMP);
  const differs = most.findIndex((code, i) => wanted.some((filters) => !filters[i]?.equals(code)));
  const common = differs < 0 ? most.length : differs;
  restoreFilters(process.remote, most.slice(0, common), true);
  threads.forEach((thread, i) => {
    restoreFilters(remoteOf(process, process.threads.get(thread.tid)!), wanted[i]!.slice(common), false);
  });
}

function restoreRights(stage: Stage, process: SkeletonProcess, state: ProcessResource, threads: ThreadState[]): void {
  const given = parseCredentials(readStatus(stage.init));
  for (const { tid, credentials = state.credentials, inner } of threads)
    if (inner.securebits !== 0 || !isDeepStrictEqual(credentials, given))
      restoreCredentials(remoteOf(process, process.threads.get(tid)!), credentials, inner.securebits);
}

/** The very last calls of each thread: its rights do not matter to them, but they may end what comes after. */
function restoreThreadSettings(process: SkeletonProcess, threads: ThreadState[]): void {
  for (const { tid, inner } of threads) {
    const remote = remoteOf(process, process.threads.get(tid)!);
    remote.reset();
    for (const call of restoreSettings(remote, inner.settings)) remote.tryCall(...call);
  }
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
