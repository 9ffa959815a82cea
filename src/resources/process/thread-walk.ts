/**
 * A process's threads as the kernel has them, in one walk (BPF iterator, kernel 5.8 with BTF): how many sleep, at the price of
 * some 0.1 µs a thread; and who, at the price of one.
 */
import { createMappableMap, linkIterator, loadIteratorProgram } from "../../kernel/bpf.ts";
import { Assembler } from "../../kernel/bpf-assembler.ts";
import { kernelFunctionId, readKernelTypes } from "../../kernel/btf.ts";
import { closeDescriptor, readWalk } from "../../kernel/calls.ts";
import { mapShared } from "../../kernel/pages.ts";
import { readStatus, statusField } from "../../kernel/procfs.ts";

/** {u64 pending signals of its own, u32 thread, u32 state, u32 unused, u32 bytes that follow: none} */
const RECORD_BYTES = 24;
const RECORD = { pending: 0, tid: 8, state: 12, rest: 16 } as const;
const FIELDS = ["task_struct.pid", "task_struct.__state", "task_struct.pending", "sigpending.signal"];
/** struct bpf_iter__task */
const CONTEXT_TASK = 8;
/** TASK_INTERRUPTIBLE of include/linux/sched.h; other bits beside it do not change what it says. */
const SLEEPS = 1;
const FIRST_THREADS = 64;
const COUNT_BYTES = 8;
const NOTHING = Buffer.alloc(0);

function program(at: (field: string) => number) {
  const a = new Assembler();
  const put = (field: keyof typeof RECORD) => RECORD[field] - RECORD_BYTES;
  a.move(6, 1).load(7, 6, CONTEXT_TASK).jumpIfZero(7, "out");
  a.load(1, 7, at("task_struct.pending") + at("sigpending.signal")).store(10, put("pending"), 1);
  a.load32(1, 7, at("task_struct.pid")).store32(10, put("tid"), 1);
  a.load32(1, 7, at("task_struct.__state")).store32(10, put("state"), 1);
  a.constant(1, 0).store(10, put("rest"), 1).sequenceWrite(6, -RECORD_BYTES, RECORD_BYTES);
  return a.label("out").exit().finish();
}

/** Only counts those that sleep and that no signal of their own waits for: nothing is written down of a thousand of them. */
function countProgram(at: (field: string) => number, mapFd: number) {
  const a = new Assembler();
  a.load(7, 1, CONTEXT_TASK).jumpIfZero(7, "out");
  a.load(1, 7, at("task_struct.pending") + at("sigpending.signal"))
    .constant(2, 0)
    .jump("notEqual", 1, 2, "out");
  a.load32(1, 7, at("task_struct.__state")).andConstant(1, SLEEPS).jumpIfZero(1, "out");
  a.mapValue(6, mapFd).load(1, 6, 0).addConstant(1, 1).store(6, 0, 1);
  return a.label("out").exit().finish();
}

interface Links {
  records: number;
  count: number;
}

export class ThreadWalks {
  readonly #program: number;
  readonly #countProgram: number;
  readonly #count: Buffer;
  readonly #links = new Map<number, Links>();
  #records = Buffer.alloc(FIRST_THREADS * RECORD_BYTES);

  /** @throws Error when the kernel has no such walk, or numbers threads otherwise than this process sees them */
  constructor() {
    const { fields } = readKernelTypes([], FIELDS);
    const missing = FIELDS.filter((field) => !fields.has(field));
    if (missing.length > 0) throw new Error(`the kernel has no ${missing.join(", ")}`);
    if (!isFirstNamespace()) throw new Error("this process lives in a PID namespace");
    const id = kernelFunctionId("bpf_iter_task");
    const at = (field: string) => fields.get(field)!;
    this.#program = loadIteratorProgram("us_threads", program(at), id);
    const mapFd = createMappableMap(COUNT_BYTES);
    this.#countProgram = loadIteratorProgram("us_sleepers", countProgram(at, mapFd), id);
    this.#count = mapShared(mapFd, COUNT_BYTES);
  }

  /** How many threads of a process sleep until something wakes them up, and have no signal of their own waiting. */
  countAsleep(pid: number): number {
    this.#count.writeBigUInt64LE(0n);
    readWalk(this.#link(pid).count, NOTHING, NOTHING, RECORD_BYTES);
    return Number(this.#count.readBigUInt64LE());
  }

  /** Threads of a process that sleep until something wakes them up, and that no signal of their own waits for. */
  asleep(pid: number): Set<number> {
    const walk = () => readWalk(this.#link(pid).records, this.#records, NOTHING, RECORD_BYTES);
    let bytes = walk();
    for (; bytes < 0; bytes = walk()) this.#records = Buffer.alloc(2 * this.#records.length);
    const found = new Set<number>();
    for (let at = 0; at < bytes; at += RECORD_BYTES) {
      const sleeps = (this.#records.readUInt32LE(at + RECORD.state) & SLEEPS) !== 0;
      if (sleeps && this.#records.readBigUInt64LE(at + RECORD.pending) === 0n)
        found.add(this.#records.readUInt32LE(at + RECORD.tid));
    }
    return found;
  }

  #link(pid: number): Links {
    const known = this.#links.get(pid);
    if (known !== undefined) return known;
    const links = { records: linkIterator(this.#program, pid), count: linkIterator(this.#countProgram, pid) };
    this.#links.set(pid, links);
    return links;
  }

  forget(pid: number): void {
    const links = this.#links.get(pid);
    if (links === undefined) return;
    closeDescriptor(links.records);
    closeDescriptor(links.count);
    this.#links.delete(pid);
  }
}

/** The first namespace's processes have one number only. Its inode number is fixed (include/linux/proc_ns.h). */
function isFirstNamespace(): boolean {
  return !statusField(readStatus(process.pid), "NSpid").includes("\t");
}
