/** System calls made in the application: one at a time in any stopped thread, or many at once in a clone's. */
import { readFileSync } from "node:fs";
import { addon } from "./addon.ts";
import { checked, SystemCallError } from "./errors.ts";
import { NR } from "./numbers.ts";
import {
  ALL_SIGNALS,
  dumpThreads,
  isInterruptStop,
  RECORD_BYTES,
  setSignalMask,
  setThread,
  trapAgain,
} from "./trace.ts";

/** A call to make: its name and up to six integers (addresses are those of the application). */
export type RemoteCall = [name: keyof typeof NR, ...args: number[]];

const CALL_BYTES = 64;
export const CODE_BYTES = 4096;
export const SCRATCH_BYTES = CODE_BYTES + 128 * 1024;
const TABLE_CALLS = 512;
const DATA_AT = CODE_BYTES + TABLE_CALLS * CALL_BYTES;

/** Runs r12 calls from the table at rbx, each of eight words: nr, six arguments, result; then traps. */
// biome-ignore format: one instruction a line
const LOOP = Buffer.from([
  0x48, 0x8b, 0x03,             // mov rax, [rbx]
  0x48, 0x8b, 0x7b, 0x08,       // mov rdi, [rbx+8]
  0x48, 0x8b, 0x73, 0x10,       // mov rsi, [rbx+16]
  0x48, 0x8b, 0x53, 0x18,       // mov rdx, [rbx+24]
  0x4c, 0x8b, 0x53, 0x20,       // mov r10, [rbx+32]
  0x4c, 0x8b, 0x43, 0x28,       // mov r8, [rbx+40]
  0x4c, 0x8b, 0x4b, 0x30,       // mov r9, [rbx+48]
  0x0f, 0x05,                   // syscall
  0x48, 0x89, 0x43, 0x38,       // mov [rbx+56], rax
  0x48, 0x83, 0xc3, 0x40,       // add rbx, 64
  0x49, 0xff, 0xcc,             // dec r12
  0x75, 0xd6,                   // jnz back to the first instruction
  0xcc,                         // int3
]);
/** Where in the scratch the code is that writes page streams, see native/apply.c. */
export const APPLY_AT = 512;
const APPLY = readFileSync(new URL("../../build/apply.bin", import.meta.url));

/** Where in LOOP its `syscall` is: usable for single calls once the scratch is mapped. */
const LOOP_SYSCALL_AT = 27;

const args = new Float64Array(6);
const out = new Float64Array(2);

/** One system call in a stopped thread; registers stay as the call left them. Returns [result or −errno, pid of a child]. */
export function rawRemoteCall(tid: number, gadget: number, call: RemoteCall): [number, number] {
  args.fill(0);
  for (let i = 1; i < call.length; i++) args[i - 1] = call[i] as number;
  checked(addon.remoteCall(tid, gadget, NR[call[0]], args, out), `ptrace(remote ${call[0]})`, tid);
  return [out[0]!, out[1]!];
}

/** A stopped thread in which calls are made; its registers are kept and put back by `end`. */
export class Remote {
  readonly tid: number;
  /** Address of a `syscall` instruction in the thread's memory. */
  gadget: number;
  /** Process whose memory holds data for the calls. */
  readonly #memory: number;
  #scratch = 0;
  #dataAt = DATA_AT;
  #saved: Buffer | undefined;

  constructor(tid: number, gadget: number, memoryFd: number) {
    this.tid = tid;
    this.gadget = gadget;
    this.#memory = memoryFd;
  }

  /** Keeps the registers and blocks all signals, so that none ends a call half-way. */
  begin(): this {
    const record = Buffer.alloc(RECORD_BYTES);
    dumpThreads(Int32Array.of(this.tid), record);
    this.#saved = record;
    setSignalMask(this.tid, ALL_SIGNALS);
    return this;
  }

  /** Puts registers and signal mask back, in a stop from which interrupted calls restart. */
  end(): void {
    const status = trapAgain(this.tid);
    if (!isInterruptStop(status)) throw new SystemCallError("ptrace(INTERRUPT)", -4, `unexpected stop ${status}`);
    if (this.#saved) setThread(this.tid, this.#saved);
    this.#saved = undefined;
  }

  [Symbol.dispose](): void {
    if (this.#saved) this.end();
  }

  call(...call: RemoteCall): number {
    const [result] = rawRemoteCall(this.tid, this.gadget, call);
    if (result < 0 && result > -4096)
      throw new SystemCallError(`${call[0]} in the application`, result, call.slice(1).join(", "));
    return result;
  }

  tryCall(...call: RemoteCall): number {
    return rawRemoteCall(this.tid, this.gadget, call)[0];
  }

  /** A call that makes a process or thread: returns its pid as this process sees it. */
  callForChild(...call: RemoteCall): number {
    const [result, child] = rawRemoteCall(this.tid, this.gadget, call);
    if (result < 0) throw new SystemCallError(`${call[0]} in the application`, result, call.slice(1).join(", "));
    return child;
  }

  /** Maps memory for the code of batches and for data; `at` 0 lets the kernel choose. */
  mapScratch(at = 0): number {
    const fixed = at ? 0x100000 : 0;
    this.useScratch(this.call("mmap", at, SCRATCH_BYTES, 7, 0x22 | fixed, -1, 0));
    return this.#scratch;
  }

  /** Maps memory for data only: a process may have forbidden itself memory that can be written and run (PR_SET_MDWE). */
  mapData(): void {
    this.useScratch(this.call("mmap", 0, SCRATCH_BYTES, 3, 0x22, -1, 0), false);
  }

  /** Uses scratch that another thread of the process mapped. */
  useScratch(at: number, write = true): void {
    this.#scratch = at;
    if (!write) return;
    this.write(at, LOOP);
    this.write(at + APPLY_AT, APPLY);
  }

  get scratch(): number {
    return this.#scratch;
  }

  get scratchGadget(): number {
    return this.#scratch + LOOP_SYSCALL_AT;
  }

  unmapScratch(): void {
    if (this.#scratch) this.call("munmap", this.#scratch, SCRATCH_BYTES);
    this.#scratch = 0;
  }

  /** Writes into the process's memory, whatever its protection. */
  write(address: number, bytes: Buffer): void {
    const n = checked(
      addon.syscall(NR.pwrite64, this.#memory, bytes, bytes.length, address),
      "write to the application",
    );
    if (n !== bytes.length) throw new SystemCallError("write to the application", -14, `${n} of ${bytes.length} bytes`);
  }

  read(address: number, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    const n = checked(addon.syscall(NR.pread64, this.#memory, bytes, length, address), "read from the application");
    if (n !== length) throw new SystemCallError("read from the application", -14, `${n} of ${length} bytes`);
    return bytes;
  }

  /** Puts data into the scratch and returns its address; `reset` forgets all data put before. */
  put(bytes: Buffer): number {
    const at = this.#scratch + this.#dataAt;
    if (this.#dataAt + bytes.length > SCRATCH_BYTES)
      throw new RangeError(`Scratch is full: ${bytes.length} bytes more`);
    this.write(at, bytes);
    this.#dataAt = (this.#dataAt + bytes.length + 15) & ~15;
    return at;
  }

  putString(text: string): number {
    return this.put(Buffer.from(text + "\0"));
  }

  room(): number {
    return SCRATCH_BYTES - this.#dataAt;
  }

  reset(): void {
    this.#dataAt = DATA_AT;
  }

  /** Runs code of the process until its breakpoint; returns 0, or the number of a signal met before. */
  run(code: number, rdi: number, rsi: number, stack: number): number {
    return checked(addon.remoteRun(this.tid, code, rdi, rsi, stack), "ptrace(run)", this.tid);
  }

  /** Makes all calls in the thread with one stop per 512; returns their results (−errno not thrown). */
  batch(calls: RemoteCall[]): number[] {
    const results: number[] = [];
    for (let from = 0; from < calls.length; from += TABLE_CALLS) {
      const part = calls.slice(from, from + TABLE_CALLS);
      const table = Buffer.alloc(part.length * CALL_BYTES);
      part.forEach((call, i) => {
        table.writeBigInt64LE(BigInt(NR[call[0]]), i * CALL_BYTES);
        for (let a = 1; a < call.length; a++) table.writeBigInt64LE(BigInt(call[a] as number), i * CALL_BYTES + a * 8);
      });
      const at = this.#scratch + CODE_BYTES;
      this.write(at, table);
      checked(addon.remoteBatch(this.tid, this.#scratch, at, part.length), "ptrace(batch)", this.tid);
      const done = this.read(at, table.length);
      for (let i = 0; i < part.length; i++) results.push(Number(done.readBigInt64LE(i * CALL_BYTES + 56)));
    }
    return results;
  }

  /** As `batch`, but the first failure is thrown. */
  batchChecked(calls: RemoteCall[]): number[] {
    const results = this.batch(calls);
    results.forEach((r, i) => {
      const call = calls[i]!;
      if (r < 0 && r > -4096) throw new SystemCallError(`${call[0]} in the clone`, r, call.slice(1).join(", "));
    });
    return results;
  }
}
