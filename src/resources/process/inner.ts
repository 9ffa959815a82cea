/**
 * What only the process itself can tell: signal actions, interval timers; and of each thread: alternate stack, address to
 * clear at exit. Read by system calls made in the stopped application, with a scratch mapping that is gone afterwards.
 */
import { tryCall } from "../../kernel/calls.ts";
import { readSmall } from "../../kernel/procfs.ts";
import type { Remote, RemoteCall } from "../../kernel/remote.ts";
import { rseqConfiguration } from "../../kernel/trace.ts";
import { readSettings, type ThreadSettings } from "./settings.ts";
import { readTilesPermitted } from "./tiles.ts";

export const SIGNALS = 64;
export const ACTION_BYTES = 32;
const SIG_IGN = 1n;
const SIGKILL = 9;
const SIGCHLD = 17;
const SIGSTOP = 19;
const PR_GET_TID_ADDRESS = 40;
const PR_GET_PDEATHSIG = 2;
const PR_GET_DUMPABLE = 3;
const PR_GET_SECUREBITS = 27;
const PR_GET_TIMERSLACK = 30;
const PR_SET_THP_DISABLE = 41;
const PR_GET_THP_DISABLE = 42;
const PR_GET_CHILD_SUBREAPER = 37;
const PR_SET_MDWE = 65;
const PR_GET_MDWE = 66;
const PR_SET_MEMORY_MERGE = 67;
const PR_GET_MEMORY_MERGE = 68;
/** Kernel 6.3; its answer are the commands that registered. */
const MEMBARRIER_CMD_GET_REGISTRATIONS = 512;
const COMMANDS = [4, 16, 64, 256] as const;

export interface InnerProcess {
  /** struct kernel_sigaction of signals 1 … 64, 32 bytes each. */
  actions: Buffer;
  /** struct itimerval of ITIMER_REAL, _VIRTUAL, _PROF. */
  timers: Buffer;
  dumpable: number;
  childSubreaper: number;
  /** 1: without transparent huge pages. */
  smallPagesOnly: number;
  /** End of the heap, not rounded to pages. */
  brk: number;
  /** It may use AMX. */
  tilesPermitted: boolean;
  /** MEMBARRIER_CMD_REGISTER_*: which barriers it may ask for. */
  barriers: number;
  /** PR_MDWE_*: what is once writable shall never become executable. */
  denies: number;
  /** 1: pages alike may be merged (KSM). */
  merges: number;
  /** As /proc/PID/coredump_filter says. */
  coreFilter: string;
}

/**
 * @kind thread
 * @kept all registers (x87, SSE, AVX, AVX-512, AMX), thread-local bases, signal mask, alternate stack, pending signals, name,
 *   robust list, restartable sequence, address cleared at exit, death signal, timer slack, scheduling, affinity, I/O
 *   priority, memory policy; user, groups, capabilities, no_new_privs and seccomp filters where they are not those of the process;
 *   what memory errors mean to it, no time stamp counter, no CPUID; interrupted calls go on, with the time that is left.
 * @unkept where the kernel's memory cannot be read, calls with a time limit that signal(7) lets end with EINTR after a stop
 *   (epoll_wait, recv with SO_RCVTIMEO, others) end so.
 */
export interface InnerThread {
  /** stack_t, 24 bytes */
  alternateStack: Buffer;
  clearTidAddress: number;
  deathSignal: number;
  /** See capabilities(7). */
  securebits: number;
  /** Nanoseconds; see prctl(2), PR_SET_TIMERSLACK. */
  timerSlackNs: number;
  settings: ThreadSettings;
}

/** Signals with special flags even when they are not caught (SA_NOCLDWAIT). */
const ALWAYS_READ = 1n << BigInt(SIGCHLD - 1);

/**
 * By single calls: `remote` has begun in the thread and has a scratch mapping.
 * @param caught, ignored masks as in /proc/PID/status: only what is caught has more to tell
 */
export function readInnerProcess(remote: Remote, pid: number, caught: bigint, ignored: bigint): InnerProcess {
  remote.reset();
  const actions = remote.put(Buffer.alloc(SIGNALS * ACTION_BYTES));
  const timers = remote.put(Buffer.alloc(96));
  const value = remote.put(Buffer.alloc(8));
  const read = caught | ALWAYS_READ;
  for (let s = 1; s <= SIGNALS; s++)
    if ((read >> BigInt(s - 1)) & 1n) remote.call("rt_sigaction", s, 0, actions + (s - 1) * ACTION_BYTES, 8);
  readTimers(remote, timers);
  const dumpable = remote.call("prctl", PR_GET_DUMPABLE);
  remote.call("prctl", PR_GET_CHILD_SUBREAPER, value);
  const all = remote.read(actions, SIGNALS * ACTION_BYTES);
  for (let s = 1; s <= SIGNALS; s++)
    if (((ignored & ~read) >> BigInt(s - 1)) & 1n) all.writeBigUInt64LE(SIG_IGN, (s - 1) * ACTION_BYTES);
  return {
    actions: all,
    timers: remote.read(timers, 96),
    dumpable,
    smallPagesOnly: remote.call("prctl", PR_GET_THP_DISABLE, 0, 0, 0, 0),
    childSubreaper: remote.read(value, 4).readInt32LE(),
    brk: remote.call("brk", 0),
    tilesPermitted: readTilesPermitted(remote, value),
    barriers: Math.max(0, remote.tryCall("membarrier", MEMBARRIER_CMD_GET_REGISTRATIONS, 0, 0)),
    denies: Math.max(0, remote.tryCall("prctl", PR_GET_MDWE, 0, 0, 0, 0)),
    merges: Math.max(0, remote.tryCall("prctl", PR_GET_MEMORY_MERGE, 0, 0, 0, 0)),
    coreFilter: readSmall(`/proc/${pid}/coredump_filter`).trim(),
  };
}

function readTimers(remote: Remote, at: number): void {
  for (let which = 0; which < 3; which++) remote.call("getitimer", which, at + 32 * which);
}

/** As part of `readInnerProcess`: what changes by itself. */
export function readIntervalTimers(remote: Remote): Buffer {
  remote.reset();
  const timers = remote.put(Buffer.alloc(96));
  readTimers(remote, timers);
  return remote.read(timers, 96);
}

/** @param settings as they are still known to be */
export function readInnerThread(remote: Remote, settings?: ThreadSettings): InnerThread {
  remote.reset();
  const stack = remote.put(Buffer.alloc(24));
  const address = remote.put(Buffer.alloc(16));
  remote.call("sigaltstack", 0, stack);
  remote.call("prctl", PR_GET_TID_ADDRESS, address);
  remote.call("prctl", PR_GET_PDEATHSIG, address + 8);
  const words = remote.read(address, 16);
  return {
    alternateStack: remote.read(stack, 24),
    clearTidAddress: Number(words.readBigUInt64LE()),
    deathSignal: words.readInt32LE(8),
    securebits: remote.call("prctl", PR_GET_SECUREBITS),
    timerSlackNs: remote.call("prctl", PR_GET_TIMERSLACK),
    settings: settings ?? readSettings(remote),
  };
}

/** What the kernel tells of a stopped thread without its help. */
export interface OuterThread {
  name: string;
  robustList: number;
  robustListBytes: number;
  rseq: { address: number; bytes: number; signature: number };
}

const words = Buffer.alloc(24);

export function readRobustList(tid: number): { robustList: number; robustListBytes: number } {
  tryCall("get_robust_list", tid, words, words.subarray(8));
  return { robustList: Number(words.readBigUInt64LE()), robustListBytes: Number(words.readBigUInt64LE(8)) };
}

export function readRseq(tid: number): OuterThread["rseq"] {
  rseqConfiguration(tid, words);
  return { address: Number(words.readBigUInt64LE()), bytes: words.readUInt32LE(8), signature: words.readUInt32LE(12) };
}

/** A timer that has just fired stands at zero until its signal is taken: set so, it would be off for good. */
function ticking(timers: Buffer): Buffer {
  const ticking = Buffer.from(timers);
  for (let at = 0; at < ticking.length; at += 32) {
    const value = ticking.subarray(at + 16, at + 32);
    if (value.every((byte) => byte === 0)) ticking.copy(value, 0, at, at + 16);
  }
  return ticking;
}

/** Calls that put an inner process state into a clone; `scratch` data is put by the caller's remote. */
export function restoreInnerProcess(remote: Remote, inner: InnerProcess): RemoteCall[] {
  const actions = remote.put(inner.actions);
  const timers = remote.put(ticking(inner.timers));
  const calls: RemoteCall[] = [];
  for (let s = 1; s <= SIGNALS; s++)
    if (s !== SIGKILL && s !== SIGSTOP) calls.push(["rt_sigaction", s, actions + (s - 1) * ACTION_BYTES, 0, 8]);
  for (let which = 0; which < 3; which++)
    if (inner.timers.subarray(32 * which, 32 * which + 32).some((b) => b !== 0))
      calls.push(["setitimer", which, timers + 32 * which, 0]);
  if (inner.smallPagesOnly) calls.push(["prctl", PR_SET_THP_DISABLE, 1, 0, 0, 0]);
  if (inner.childSubreaper) calls.push(["prctl", 36 /* PR_SET_CHILD_SUBREAPER */, 1]);
  for (const command of COMMANDS) if (inner.barriers & command) calls.push(["membarrier", command, 0, 0]);
  if (inner.merges) calls.push(["prctl", PR_SET_MEMORY_MERGE, 1, 0, 0, 0]);
  // What is mapped by now stays as it is.
  if (inner.denies) calls.push(["prctl", PR_SET_MDWE, inner.denies, 0, 0, 0]);
  return calls;
}
