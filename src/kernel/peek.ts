/**
 * Reads the kernel's own memory, for what no call tells without taking it (messages of a queue) or at all (SEM_UNDO). A BPF
 * program that is run when asked copies a piece; where fields are, the kernel's types tell (BTF). Refused by the kernel under
 * lockdown=confidentiality.
 */
import { createMappableMap, loadTracepointProgram, runTracepointProgram } from "./bpf.ts";
import { Assembler } from "./bpf-assembler.ts";
import { type KernelTypes, readKernelTypes } from "./btf.ts";
import { checked, SystemCallError } from "./errors.ts";
import { OperatingError } from "./failure.ts";
import { mapShared } from "./pages.ts";

const PIECE_BYTES = 8192;
const RESULT_AT = PIECE_BYTES;
const TASK_AT = PIECE_BYTES + 8;
const MAP_BYTES = PIECE_BYTES + 16;
/** Gathered together: so many structs, so much of each. */
const GATHERED = 64;
export const GATHERED_BYTES = 64;
const ADDRESSES_AT = GATHERED * GATHERED_BYTES;
const GATHER_BYTES = ADDRESSES_AT + 8 * GATHERED;

/** Fields that are looked up together: a look takes some 50 ms. */
const FIELDS = [
  "task_struct.mm",
  "mm_struct.mm_mt",
  "mm_struct.mm_lock_seq",
  "mm_struct.def_flags",
  "maple_tree.ma_root",
  "vm_area_struct.vm_start",
  "vm_area_struct.vm_flags",
  "task_struct.ptraced",
  "task_struct.ptrace_entry",
  "task_struct.thread_pid",
  "pid.level",
  "pid.numbers",
  "upid.nr",
  "upid",
  "task_struct.sysvsem",
  "task_struct.files",
  "sysv_sem.undo_list",
  "sem_undo_list.list_proc",
  "sem_undo.list_proc",
  "sem_undo.semid",
  "sem_undo.semadj",
  "sem_undo",
  "files_struct.fdt",
  "fdtable.fd",
  "file.f_inode",
  "mqueue_inode_info.vfs_inode",
  "mqueue_inode_info.msg_tree",
  "mqueue_inode_info.notify",
  "mqueue_inode_info.notify_owner",
  "posix_msg_tree_node.rb_node",
  "posix_msg_tree_node.msg_list",
  "posix_msg_tree_node.priority",
  "msg_msg.m_list",
  "msg_msg.m_ts",
  "msg_msg.next",
  "msg_msg",
  "msg_msgseg",
  "rb_node.rb_left",
  "rb_node.rb_right",
] as const;

export type KernelField = (typeof FIELDS)[number];

/** An address in the kernel; 0n is none. */
export type Address = bigint;

function closed(cause: unknown): OperatingError {
  return new OperatingError(
    "kernel-memory-closed",
    "This kernel lets nobody read what a semaphore's undo or a message queue holds",
    { remedy: "Use a kernel with BTF and without lockdown=confidentiality, or run the program without these.", cause },
  );
}

export class KernelMemory {
  readonly #program: number;
  readonly #value: Buffer;
  readonly #types: KernelTypes;
  readonly #gather: { program: number; value: Buffer };
  readonly #args = Buffer.alloc(16);

  private constructor(program: number, value: Buffer, gather: { program: number; value: Buffer }, types: KernelTypes) {
    this.#program = program;
    this.#gather = gather;
    this.#value = value;
    this.#types = types;
  }

  static #opened: KernelMemory | Error | undefined;

  /** Takes some 50 ms the first time: to be called outside of a stop. What fails then is told by `open`. */
  static prepare(): void {
    try {
      KernelMemory.#opened ??= KernelMemory.#make();
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
    throw closed(opened);
  }

  static #make(): KernelMemory {
    const mapFd = createMappableMap(MAP_BYTES);
    const code = new Assembler()
      .move(6, 1)
      .load(3, 6, 0)
      .load(2, 6, 8)
      .andConstant(2, 2 * PIECE_BYTES - 1)
      .constant(7, PIECE_BYTES)
      .jump("greater", 2, 7, "end")
      .mapValue(1, mapFd)
      .readKernel()
      .mapValue(7, mapFd)
      .store(7, RESULT_AT, 0)
      .currentTask()
      .store(7, TASK_AT, 0)
      .label("end")
      .exit();
    const program = loadTracepointProgram("us_peek", code.finish());
    return new KernelMemory(
      program,
      mapShared(mapFd, MAP_BYTES),
      KernelMemory.#makeGather(),
      readKernelTypes([], [...FIELDS]),
    );
  }

  /** Reads the beginnings of many structs in one run. */
  static #makeGather(): { program: number; value: Buffer } {
    const mapFd = createMappableMap(GATHER_BYTES);
    const code = new Assembler();
    for (let i = 0; i < GATHERED; i++)
      code
        .mapValue(6, mapFd)
        .load(3, 6, ADDRESSES_AT + 8 * i)
        .move(1, 6)
        .addConstant(1, i * GATHERED_BYTES)
        .constant(2, GATHERED_BYTES)
        .readKernel();
    const program = loadTracepointProgram("us_gather", code.exit().finish());
    return { program, value: mapShared(mapFd, GATHER_BYTES) };
  }

  /** The first `GATHERED_BYTES` of each struct; zeros where nothing is. */
  *gather(addresses: readonly Address[]): Generator<Buffer> {
    const { program, value } = this.#gather;
    for (let from = 0; from < addresses.length; from += GATHERED) {
      const part = addresses.slice(from, from + GATHERED);
      for (let i = 0; i < GATHERED; i++) value.writeBigUInt64LE(part[i] ?? 0n, ADDRESSES_AT + 8 * i);
      runTracepointProgram(program, this.#args);
      for (let i = 0; i < part.length; i++) yield value.subarray(i * GATHERED_BYTES, (i + 1) * GATHERED_BYTES);
    }
  }

  /** Where a field is in its struct, or a struct's size. */
  offset(field: KernelField): bigint {
    const offset = this.#types.fields.get(field);
    if (offset === undefined) throw closed(new Error(`This kernel's types have no ${field}`));
    return BigInt(offset);
  }

  /** A copy; throws EFAULT or ERANGE where nothing is. */
  read(address: Address, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    for (let done = 0; done < length; done += PIECE_BYTES) {
      const n = Math.min(PIECE_BYTES, length - done);
      this.#args.writeBigUInt64LE(BigInt.asUintN(64, address + BigInt(done)), 0);
      this.#args.writeBigUInt64LE(BigInt(n), 8);
      runTracepointProgram(this.#program, this.#args);
      checked(Number(this.#value.readBigInt64LE(RESULT_AT)), "read of the kernel's memory", address.toString(16));
      this.#value.copy(bytes, done, 0, n);
    }
    return bytes;
  }

  pointer(address: Address): Address {
    return this.read(address, 8).readBigUInt64LE();
  }

  /** The pointer in a field of the struct at an address. */
  follow(address: Address, field: KernelField): Address {
    return this.pointer(address + this.offset(field));
  }

  /** Structs on a list, by its head and the field that links them. */
  *list(head: Address, field: KernelField): Generator<Address> {
    for (let at = this.pointer(head); at !== head; at = this.pointer(at)) yield at - this.offset(field);
  }

  /** What runs this program now. */
  #current(): Address {
    this.#args.fill(0);
    runTracepointProgram(this.#program, this.#args);
    return this.#value.readBigUInt64LE(TASK_AT);
  }

  readonly #tasks = new Map<number, Address>();

  /** The task of a thread that this one traces and that stands still, by its id as this program sees it. 0n: there is none. */
  task(tid: number): Address {
    const known = this.#tasks.get(tid);
    if (known !== undefined && this.isTraced(known, tid)) return known;
    this.#tasks.clear();
    const own = this.#current();
    const level = this.#level();
    for (const task of this.list(own + this.offset("task_struct.ptraced"), "task_struct.ptrace_entry"))
      this.#tasks.set(this.#pidOf(task, level), task);
    return this.#tasks.get(tid) ?? 0n;
  }

  /** Of this program's pid namespace. */
  #level(): number {
    return this.#integer(this.follow(this.#current(), "task_struct.thread_pid"), "pid.level");
  }

  /** Whether a task is still what `task` found. What is none any more is not on the list, whatever is there now. */
  isTraced(task: Address, tid: number): boolean {
    const entry = task + this.offset("task_struct.ptrace_entry");
    try {
      return this.pointer(this.pointer(entry + 8n)) === entry && this.#pidOf(task, this.#level()) === tid;
    } catch (error) {
      if (error instanceof SystemCallError && (error.code === "EFAULT" || error.code === "ERANGE")) return false;
      throw error;
    }
  }

  #integer(address: Address, field: KernelField): number {
    return this.read(address + this.offset(field), 4).readInt32LE();
  }

  /** As seen in the pid namespace of that level. */
  #pidOf(task: Address, level: number): number {
    const numbers = this.follow(task, "task_struct.thread_pid") + this.offset("pid.numbers");
    return this.#integer(numbers + BigInt(level) * this.offset("upid"), "upid.nr");
  }

  /** The inode behind a descriptor of this process. */
  inode(fd: number): Address {
    const table = this.follow(this.follow(this.#current(), "task_struct.files"), "files_struct.fdt");
    return this.follow(this.pointer(this.follow(table, "fdtable.fd") + BigInt(8 * fd)), "file.f_inode");
  }
}
