/**
 * Reads the kernel's own memory, for what no call tells without taking it (messages of a queue) or at all (SEM_UNDO). A BPF
 * program that is run when asked copies a piece. Nothing is locked: who reads must find out himself whether it held still.
 * Refused by the kernel under lockdown=confidentiality.
 */
import { createMappableMap, loadTracepointProgram, tracepointRun } from "./bpf.ts";
import { Assembler } from "./bpf-assembler.ts";
import { closeDescriptor } from "./calls.ts";
import { checked, SystemCallError } from "./errors.ts";
import { KernelFields, memoryClosed } from "./kernel-fields.ts";
import { mapShared } from "./pages.ts";

/** One run copies so much at most. */
const PIECE_BYTES = 65536;
const RESULT_AT = 0;
const TASK_AT = 8;
const PIECE_AT = 16;
const MAP_BYTES = PIECE_AT + PIECE_BYTES;
/** Gathered together: so many structs, so much of each. */
const GATHERED = 64;
export const GATHERED_BYTES = 64;
const ADDRESSES_AT = GATHERED * GATHERED_BYTES;
const GATHER_BYTES = ADDRESSES_AT + 8 * GATHERED;

const FIELDS = new KernelFields(
  "task_struct.ptraced",
  "task_struct.ptrace_entry",
  "task_struct.thread_pid",
  "pid.level",
  "pid.numbers",
  "upid.nr",
  "upid",
  "task_struct.files",
  "files_struct.fdt",
  "fdtable.fd",
  "file.f_inode",
  "file.private_data",
  "socket.sk",
);

/** An address in the kernel; 0n is none. */
export type Address = bigint;

/** Whether an error tells that nothing is at an address: what is given back while it is read leads anywhere. */
export function isNothingThere(error: unknown): boolean {
  return error instanceof SystemCallError && (error.code === "EFAULT" || error.code === "ERANGE");
}

/** A program of ours and the memory through which it answers. */
interface Runnable {
  value: Buffer;
  run: () => void;
}

function runnable(
  name: string,
  bytes: number,
  args: Buffer,
  write: (code: Assembler, mapFd: number) => void,
): Runnable {
  const mapFd = createMappableMap(bytes);
  try {
    const code = new Assembler();
    write(code, mapFd);
    const programFd = loadTracepointProgram(name, code.exit().finish());
    return { value: mapShared(mapFd, bytes), run: tracepointRun(programFd, args) };
  } finally {
    // The program and the mapping hold it.
    closeDescriptor(mapFd);
  }
}

/** Context: address, bytes. */
function writePiece(code: Assembler, mapFd: number): void {
  code
    .move(6, 1)
    .load(3, 6, 0)
    .load(2, 6, 8)
    .andConstant(2, 2 * PIECE_BYTES - 1)
    .constant(7, PIECE_BYTES)
    .jump("greater", 2, 7, "end")
    .mapValue(1, mapFd)
    .addConstant(1, PIECE_AT)
    .readKernel()
    .mapValue(7, mapFd)
    .store(7, RESULT_AT, 0)
    .currentTask()
    .store(7, TASK_AT, 0)
    .label("end");
}

/** Reads the beginnings of many structs in one run. */
function writeGather(code: Assembler, mapFd: number): void {
  for (let i = 0; i < GATHERED; i++)
    code
      .mapValue(6, mapFd)
      .load(3, 6, ADDRESSES_AT + 8 * i)
      .move(1, 6)
      .addConstant(1, i * GATHERED_BYTES)
      .constant(2, GATHERED_BYTES)
      .readKernel();
}

export class KernelMemory {
  /** Of `#piece`: address, bytes. */
  readonly #args = Buffer.alloc(16);
  readonly #piece = runnable("us_peek", MAP_BYTES, this.#args, writePiece);
  readonly #gather = runnable("us_gather", GATHER_BYTES, Buffer.alloc(16), writeGather);

  private constructor() {}

  static #opened: KernelMemory | Error | undefined;

  /** Takes some 50 ms the first time: to be called outside of a stop. What fails then is told by `open`. */
  static prepare(): void {
    if (KernelMemory.#opened !== undefined) return;
    try {
      KernelFields.lookUpAll();
      KernelMemory.#opened = new KernelMemory();
    } catch (error) {
      KernelMemory.#opened = error as Error;
    }
  }

  /** Undefined where it may not be read. */
  static tryOpen(): KernelMemory | undefined {
    KernelMemory.prepare();
    return KernelMemory.#opened instanceof KernelMemory ? KernelMemory.#opened : undefined;
  }

  /** One for this process. Errors: `kernel-memory-closed` */
  static open(): KernelMemory {
    KernelMemory.prepare();
    const opened = KernelMemory.#opened;
    if (opened instanceof KernelMemory) return opened;
    throw memoryClosed(opened);
  }

  /** The first `GATHERED_BYTES` of each struct; zeros where nothing is. */
  *gather(addresses: readonly Address[]): Generator<Buffer> {
    const { value, run } = this.#gather;
    for (let from = 0; from < addresses.length; from += GATHERED) {
      const part = addresses.slice(from, from + GATHERED);
      for (let i = 0; i < GATHERED; i++) value.writeBigUInt64LE(part[i] ?? 0n, ADDRESSES_AT + 8 * i);
      run();
      for (let i = 0; i < part.length; i++) yield value.subarray(i * GATHERED_BYTES, (i + 1) * GATHERED_BYTES);
    }
  }

  /** A copy; throws EFAULT or ERANGE where nothing is: see `isNothingThere`. */
  read(address: Address, length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length);
    checked(this.#copy(address, bytes), "read of the kernel's memory", address.toString(16));
    return bytes;
  }

  /** Undefined where nothing is. */
  tryRead(address: Address, length: number): Buffer | undefined {
    const bytes = Buffer.allocUnsafe(length);
    return this.#copy(address, bytes) === 0 ? bytes : undefined;
  }

  /** 0 or −errno. */
  #copy(address: Address, into: Buffer): number {
    const { value, run } = this.#piece;
    for (let done = 0; done < into.length; done += PIECE_BYTES) {
      const length = Math.min(PIECE_BYTES, into.length - done);
      this.#args.writeBigUInt64LE(BigInt.asUintN(64, address + BigInt(done)), 0);
      this.#args.writeBigUInt64LE(BigInt(length), 8);
      run();
      const result = Number(value.readBigInt64LE(RESULT_AT));
      if (result !== 0) return result;
      value.copy(into, done, PIECE_AT, PIECE_AT + length);
    }
    return 0;
  }

  pointer(address: Address): Address {
    return this.read(address, 8).readBigUInt64LE();
  }

  /** Structs on a list, by its head and where in them the field is that links them. */
  *list(head: Address, link: bigint): Generator<Address> {
    for (let at = this.pointer(head); at !== head; at = this.pointer(at)) yield at - link;
  }

  /** What runs this program now. */
  current(): Address {
    this.#args.fill(0);
    this.#piece.run();
    return this.#piece.value.readBigUInt64LE(TASK_AT);
  }

  readonly #tasks = new Map<number, Address>();

  /** The task of a thread that this one traces and that stands still, by its id as this program sees it. 0n: there is none. */
  task(tid: number): Address {
    const known = this.#tasks.get(tid);
    if (known !== undefined && this.isTraced(known, tid)) return known;
    this.#tasks.clear();
    const own = this.current();
    const level = this.#level();
    for (const task of this.list(own + FIELDS.offset("task_struct.ptraced"), FIELDS.offset("task_struct.ptrace_entry")))
      this.#tasks.set(this.#pidOf(task, level), task);
    return this.#tasks.get(tid) ?? 0n;
  }

  /** Of this program's pid namespace. */
  #level(): number {
    const own = this.pointer(this.current() + FIELDS.offset("task_struct.thread_pid"));
    return this.#integer(own + FIELDS.offset("pid.level"));
  }

  /** Whether a task is still what `task` found. What is none any more is not on the list, whatever is there now. */
  isTraced(task: Address, tid: number): boolean {
    const entry = task + FIELDS.offset("task_struct.ptrace_entry");
    try {
      return this.pointer(this.pointer(entry + 8n)) === entry && this.#pidOf(task, this.#level()) === tid;
    } catch (error) {
      if (isNothingThere(error)) return false;
      throw error;
    }
  }

  #integer(address: Address): number {
    return this.read(address, 4).readInt32LE();
  }

  /** As seen in the pid namespace of that level. */
  #pidOf(task: Address, level: number): number {
    return this.pidNumber(this.pointer(task + FIELDS.offset("task_struct.thread_pid")), level);
  }

  /** What the process of a `struct pid` is called in the pid namespace of that level; this program's by default. */
  pidNumber(pid: Address, level = this.#level()): number {
    const numbers = pid + FIELDS.offset("pid.numbers");
    return this.#integer(numbers + BigInt(level) * FIELDS.offset("upid") + FIELDS.offset("upid.nr"));
  }

  /** The `struct file` behind a descriptor of this process. */
  file(fd: number): Address {
    const files = this.pointer(this.current() + FIELDS.offset("task_struct.files"));
    const table = this.pointer(files + FIELDS.offset("files_struct.fdt"));
    return this.pointer(this.pointer(table + FIELDS.offset("fdtable.fd")) + BigInt(8 * fd));
  }

  inodeOf(file: Address): Address {
    return this.pointer(file + FIELDS.offset("file.f_inode"));
  }

  /** What a file's own kind keeps for it: a socket, a pipe. */
  privateOf(file: Address): Address {
    return this.pointer(file + FIELDS.offset("file.private_data"));
  }

  /** The `struct sock` behind a socket's descriptor of this process. */
  socket(fd: number): Address {
    return this.pointer(this.privateOf(this.file(fd)) + FIELDS.offset("socket.sk"));
  }
}
