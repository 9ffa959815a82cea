/** ptrace: the stops of an application's threads, and their registers. */
import { addon } from "./addon.ts";
import { checked } from "./errors.ts";
import { NR, PTRACE, RESTART, TRACE_EVENT, TRACE_OPTION } from "./numbers.ts";

/** What every thread is seized with: its children are seized too, and its end is told before it is gone. */
export const SEIZE_OPTIONS =
  TRACE_OPTION.sysGood |
  TRACE_OPTION.fork |
  TRACE_OPTION.vfork |
  TRACE_OPTION.clone |
  TRACE_OPTION.exec |
  TRACE_OPTION.exit |
  TRACE_OPTION.seccomp;

export function seize(tid: number, options: number): void {
  checked(addon.syscall(NR.ptrace, PTRACE.seize, tid, null, options), "ptrace(SEIZE)", tid);
}

/** Makes a running thread stop; `waitFor` or `waitAny` tells when it has. */
export function interrupt(tid: number): void {
  checked(addon.syscall(NR.ptrace, PTRACE.interrupt, tid, null, null), "ptrace(INTERRUPT)", tid);
}

/** As `interrupt`; a thread that has gone meanwhile is no error. */
export function interruptAgain(tid: number): void {
  addon.syscall(NR.ptrace, PTRACE.interrupt, tid, null, null);
}

/** Lets a thread that its application has stopped (SIGSTOP) stay so until that sends SIGCONT. */
export function leaveStopped(tid: number): void {
  addon.syscall(NR.ptrace, PTRACE.listen, tid, null, null);
}

export function setTraceOptions(tid: number, options: number): void {
  checked(addon.syscall(NR.ptrace, PTRACE.setOptions, tid, null, options), "ptrace(SETOPTIONS)", tid);
}

/** Lets a stopped thread go on; with a signal that it had stopped for. A thread that has gone is no error. */
export function resume(tid: number, signal = 0): void {
  addon.syscall(NR.ptrace, PTRACE.cont, tid, null, signal);
}

/** As `resume`, up to the next beginning or end of a system call. */
export function untilCall(tid: number): void {
  addon.syscall(NR.ptrace, PTRACE.untilCall, tid, null, 0);
}

/** Lets all go on. */
export function resumeAll(tids: Int32Array): void {
  addon.continueAll(tids);
}

/**
 * Takes one wait status of each thread, in microseconds of patience; with `interrupt`, makes each stop before.
 * @param statuses by index in `tids`: 0 when there was none, −errno when the thread is no more
 * @returns how many gave none in time
 */
export function stopAll(tids: Int32Array, statuses: Int32Array, timeoutUs: number, interrupt: boolean): number {
  return checked(addon.stopAll(tids, statuses, timeoutUs, interrupt), "timer_create", "barrier");
}

/** A call with a time limit that a stop ended with EINTR, although no signal came, or that the kernel goes on with afterwards. */
export interface TimedCall {
  tid: number;
  /** Of the system call. */
  number: number;
  /** Nanoseconds; or by an option of the socket behind a descriptor of the thread's process. */
  limit: { ns: bigint } | { receiving: number } | { sending: number } | "kept";
}

const TIMED_WORDS = 4;
const timedCalls = new BigInt64Array(TIMED_WORDS * 16_384);

/** Of the calls that a stop ended so, those without a limit begin again when the threads go on; returns the others. */
export function restartWaits(tids: Int32Array): TimedCall[] {
  const found = addon.restartWaits(tids, timedCalls);
  return Array.from({ length: found }, (_, i) => {
    const [index, number, says, value] = timedCalls.subarray(TIMED_WORDS * i, TIMED_WORDS * (i + 1));
    return { tid: tids[Number(index)]!, number: Number(number), limit: limitOf(Number(says), value!) };
  });
}

function limitOf(says: number, value: bigint): TimedCall["limit"] {
  if (says === 1) return { ns: value };
  if (says === 2) return { receiving: Number(value) };
  return says === 3 ? { sending: Number(value) } : "kept";
}

/** The call that this stop has ended begins again when the thread goes on. */
export function restartCall(tid: number): void {
  checked(addon.restartCall(tid), "ptrace(SETREGS)", tid);
}

/** The call that this stop has found the thread in has ended, with a result or −errno. */
export function endCall(tid: number, result: number): void {
  checked(addon.endCall(tid, result), "ptrace(SETREGS)", tid);
}

/** From one stop to another, from which interrupted calls restart; returns its wait status. */
export function trapAgain(tid: number): number {
  return checked(addon.trapAgain(tid), "ptrace(INTERRUPT)", tid);
}

export function detach(tid: number): void {
  addon.syscall(NR.ptrace, PTRACE.detach, tid, null, 0);
}

export function eventMessage(tid: number): number {
  const message = Buffer.alloc(8);
  checked(addon.syscall(NR.ptrace, PTRACE.getEventMessage, tid, null, message), "ptrace(GETEVENTMSG)", tid);
  return Number(message.readBigUInt64LE());
}

const REGISTERS_BYTES = 216;
const ENOSYS = -38n;

/** At a seccomp event: the call is not made, and ends as it does where nobody traces (seccomp(2), SECCOMP_RET_TRACE). */
export function refuseCall(tid: number): void {
  const registers = Buffer.alloc(REGISTERS_BYTES);
  checked(addon.syscall(NR.ptrace, PTRACE.getRegisters, tid, null, registers), "ptrace(GETREGS)", tid);
  registers.writeBigInt64LE(-1n, REGISTER.origRax);
  registers.writeBigInt64LE(ENOSYS, REGISTER.rax);
  checked(addon.syscall(NR.ptrace, PTRACE.setRegisters, tid, null, registers), "ptrace(SETREGS)", tid);
}

/** A wait status, taken apart. */
export type Stop =
  | { kind: "exited"; code: number }
  | { kind: "killed"; signal: number }
  | { kind: "event"; event: number; signal: number }
  /** At the beginning or the end of a system call, where `untilCall` asked for it. */
  | { kind: "call" }
  | { kind: "signal"; signal: number };

/** SIGTRAP and the bit that PTRACE_O_TRACESYSGOOD adds. */
const CALL_STOP = 0x85;

export function parseStatus(status: number): Stop {
  const low = status & 0x7f;
  if (low === 0) return { kind: "exited", code: (status >> 8) & 0xff };
  if (low !== 0x7f) return { kind: "killed", signal: low };
  const signal = (status >> 8) & 0xff;
  const event = status >> 16;
  if (event) return { kind: "event", event, signal };
  return signal === CALL_STOP ? { kind: "call" } : { kind: "signal", signal: signal & 0x7f };
}

export function isInterruptStop(status: number): boolean {
  return status >> 16 === TRACE_EVENT.stop;
}

const WNOHANG = 1;
const WALL = 0x40000000;
const statusBuffer = Buffer.alloc(4);

/** Takes one pending status of any child or traced thread; undefined when there is none. */
export function waitAny(): { tid: number; status: number } | undefined {
  const tid = addon.syscall(NR.wait4, -1, statusBuffer, WNOHANG | WALL, null);
  return tid > 0 ? { tid, status: statusBuffer.readInt32LE() } : undefined;
}

/** Waits (blocking) until one thread changes state. */
export function waitFor(tid: number): number {
  checked(addon.syscall(NR.wait4, tid, statusBuffer, WALL, null), "wait4", tid);
  return statusBuffer.readInt32LE();
}

/**
 * The most that a thread's record takes as `dumpThreads` writes it: general registers, signal mask, xsave length, xsave area, which has
 * 576 to 11,008 bytes (CPUID leaf 0Dh: with AMX).
 */
export const RECORD_BYTES = addon.recordBytes();
const XSAVE_LENGTH_AT = 216 + 8;
const SIGMASK_AT = 216;

/** Byte offsets in user_regs_struct. */
const REGISTER = {
  r12: 24,
  rbx: 40,
  r10: 56,
  rax: 80,
  rcx: 88,
  rdx: 96,
  rsi: 104,
  rdi: 112,
  origRax: 120,
  rip: 128,
  rsp: 152,
  fsBase: 168,
} as const;

/** Records of all threads, RECORD_BYTES apart. All must be stopped. */
export function dumpThreads(tids: Int32Array, out: Buffer): void {
  checked(addon.dumpThreads(tids, out, RECORD_BYTES), "ptrace(GETREGSET)");
}

/** The used part of a record: the xsave area without what the thread has never touched at its end. */
export function recordLength(record: Buffer): number {
  return SIGMASK_AT + 16 + Number(record.readBigUInt64LE(XSAVE_LENGTH_AT));
}

/** In the xsave area: which components are not in their initial state (XSTATE_BV); tiles of AMX are the 18th. */
const XSTATE_IN_USE_AT = XSAVE_LENGTH_AT + 8 + 512;

export function usesTiles(record: Buffer): boolean {
  return ((record.readUInt32LE(XSTATE_IN_USE_AT) >>> 18) & 1) === 1;
}

/**
 * The call that a stop has found the thread in and that begins again after it, or that the kernel goes on with by restart_syscall(2); what it
 * was given second, for futex(2).
 */
export function interruptedCall(record: Buffer): { call: number; isResumed: boolean; operation: bigint } {
  const [original, result] = [record.readBigInt64LE(REGISTER.origRax), record.readBigInt64LE(REGISTER.rax)];
  const isResumed = original >= 0n && result === BigInt(RESTART.block);
  return { call: Number(original < 0n ? result : original), isResumed, operation: record.readBigInt64LE(REGISTER.rsi) };
}

/** futex(2): FUTEX_WAIT and FUTEX_WAIT_BITSET, without the flags for private memory and the clock. */
const FUTEX = 202;
const FUTEX_COMMAND = 0x7fn;
const FUTEX_WAITS = new Set([0n, 9n]);
const RESTARTS = -512n;

/** Whether a stop found the thread in a futex wait without a timeout, to which it goes back at once. */
export function waitsForFutex(record: Buffer): boolean {
  return (
    record.readBigInt64LE(REGISTER.origRax) === BigInt(FUTEX) &&
    record.readBigInt64LE(REGISTER.rax) === RESTARTS &&
    record.readBigInt64LE(REGISTER.r10) === 0n &&
    FUTEX_WAITS.has(record.readBigInt64LE(REGISTER.rsi) & FUTEX_COMMAND)
  );
}

const MADVISE = 28;
const MADV_GUARD_INSTALL = 102n;

/**
 * The range that a thread is putting a guard over when the stop has found it trying again and again: in the kernel, or about to call
 * it again, its registers wound back already (on a busy machine it loses the processor there most of the time).
 */
export function guardUnderWay(record: Buffer): [start: number, end: number] | undefined {
  if (record.readBigInt64LE(REGISTER.rdx) !== MADV_GUARD_INSTALL) return undefined;
  const result = record.readBigInt64LE(REGISTER.rax);
  const isInside = record.readInt32LE(REGISTER.origRax) === MADVISE && result === BigInt(RESTART.noIntr);
  if (!isInside && result !== BigInt(MADVISE)) return undefined;
  const start = Number(record.readBigUInt64LE(REGISTER.rdi));
  return [start, start + Number(record.readBigUInt64LE(REGISTER.rsi))];
}

export function setThread(tid: number, record: Buffer): void {
  checked(addon.setThread(tid, record), "ptrace(SETREGSET)", tid);
}

/** Of a stopped thread; a set bit blocks the signal. */
export function setSignalMask(tid: number, mask: Buffer): void {
  checked(addon.syscall(NR.ptrace, PTRACE.setSigMask, tid, mask.length, mask), "ptrace(SETSIGMASK)", tid);
}

export const NO_SIGNALS = Buffer.alloc(8);
export const ALL_SIGNALS = Buffer.alloc(8, 0xff);

/** struct ptrace_rseq_configuration (kernel 5.13) of a stopped thread, zeros when it has none. */
export function rseqConfiguration(tid: number, out: Buffer): void {
  out.fill(0);
  addon.syscall(NR.ptrace, PTRACE.getRseqConfiguration, tid, out.length, out);
}

export function signalMask(record: Buffer): bigint {
  return record.readBigUInt64LE(SIGMASK_AT);
}

/**
 * Makes an interrupted call start again where the kernel could not on another machine: −516, whose continuation block lives in
 * the old kernel's thread. (What a stop ends with EINTR has been dealt with before, see `restartWaits`.)
 * @returns whether the record was changed
 */
export function restartInterrupted(record: Buffer): boolean {
  const number = Number(record.readBigInt64LE(REGISTER.origRax));
  const result = Number(record.readBigInt64LE(REGISTER.rax));
  if (number < 0 || result !== RESTART.block) return false;
  record.writeBigInt64LE(BigInt(number), REGISTER.rax);
  record.writeBigInt64LE(record.readBigInt64LE(REGISTER.rip) - 2n, REGISTER.rip);
  record.writeBigInt64LE(-1n, REGISTER.origRax);
  return true;
}

const SIGINFO_BYTES = 128;
const pendingBuffer = Buffer.alloc(256 * 1024);

/** Signals that wait for each of the stopped threads (or, `shared`, for their processes): siginfos by index in `tids`. */
export function pendingSignals(tids: Int32Array, shared: boolean): Map<number, Buffer[]> {
  const used = checked(addon.pendingSignals(tids, shared, pendingBuffer), "ptrace(PEEKSIGINFO)");
  const pending = new Map<number, Buffer[]>();
  for (let at = 0; at < used; ) {
    const [index, count] = [pendingBuffer.readInt32LE(at), pendingBuffer.readInt32LE(at + 4)];
    at += 8;
    const list: Buffer[] = [];
    for (let i = 0; i < count; i++, at += SIGINFO_BYTES)
      list.push(Buffer.from(pendingBuffer.subarray(at, at + SIGINFO_BYTES)));
    pending.set(index, list);
  }
  return pending;
}
