/**
 * What a thread may change of itself without a trace in /proc, and what it shares with others: its alternate signal stack, its death
 * signal, the slack of its timers, its rights and filters, where its memory comes from. The kernel's memory tells in one look a thread
 * that all is as before; what it is, the thread is asked.
 */
import { KernelFields } from "../../kernel/kernel-fields.ts";
import { type Address, KernelMemory } from "../../kernel/kernel-memory.ts";

/**
 * Of struct task_struct. Other rights are another `cred`; no_new_privs is one of the atomic flags, what memory errors mean to it one of
 * the flags.
 */
const OWN = [
  ["task_struct.flags", 4],
  ["task_struct.mm", 8],
  ["task_struct.pdeath_signal", 4],
  ["task_struct.atomic_flags", 8],
  ["task_struct.cred", 8],
  ["task_struct.fs", 8],
  ["task_struct.files", 8],
  ["task_struct.sas_ss_sp", 8],
  ["task_struct.sas_ss_size", 8],
  ["task_struct.sas_ss_flags", 4],
  ["task_struct.seccomp", 16],
  ["task_struct.io_context", 8],
  ["task_struct.mempolicy", 8],
  ["task_struct.timer_slack_ns", 8],
] as const;
type Field = (typeof OWN)[number][0];

/** Behind two of them, which few threads have. */
const IO_PRIORITY = "io_context.ioprio";
const POLICY = "mempolicy.mode";
const FIELDS = new KernelFields(...OWN.map(([field]) => field), IO_PRIORITY, POLICY);
const IO_PRIORITY_BYTES = 2;
/** With the first 64 nodes. */
const POLICY_BYTES = 12;

/** A thread that calls exec takes over the leader's id, and is another one to the kernel. */
interface Thread {
  readonly tid: number;
  readonly process: { readonly image: number; readonly threads: ReadonlyMap<number, unknown> };
}

interface Known {
  task: Address;
  image: number;
  before: Buffer;
  behind: string;
}

/** What a thread works with; it is the same for all threads of a process, and for no two processes, unless somebody wants it otherwise. */
export interface Tables {
  memory: Address;
  descriptors: Address;
  directories: Address;
}

export class ThreadFacts<T extends Thread> {
  readonly #memory: KernelMemory;
  /** Where each is in the piece of the task that is looked at. */
  readonly #places: ReadonlyMap<Field, readonly [at: number, end: number]>;
  readonly #first: Address;
  readonly #bytes: number;
  readonly #known = new WeakMap<T, Known>();
  /** Who has changed and was not asked yet. */
  readonly #changed = new Set<T>();
  /** Grows whenever somebody has other tables than before. */
  tablesVersion = 0;

  private constructor(memory: KernelMemory) {
    this.#memory = memory;
    const there = OWN.flatMap(([field, bytes]) => {
      const at = FIELDS.find(field);
      return at === undefined ? [] : [{ field, at, end: at + bytes }];
    });
    const first = Math.min(...there.map(({ at }) => at));
    this.#first = BigInt(first);
    this.#bytes = Math.max(...there.map(({ end }) => end)) - first;
    this.#places = new Map(there.map(({ field, at, end }) => [field, [at - first, end - first]]));
  }

  /** Undefined where the kernel's memory cannot be read. */
  static tryOpen<T extends Thread>(): ThreadFacts<T> | undefined {
    const memory = KernelMemory.tryOpen();
    return memory && new ThreadFacts<T>(memory);
  }

  /**
   * Threads that are other than when they were asked last, new ones among them; who asks one takes it out. All are traced by this
   * thread and stand still.
   */
  changed(threads: Iterable<T>): Set<T> {
    for (const thread of this.#changed) if (!thread.process.threads.has(thread.tid)) this.#changed.delete(thread);
    for (const thread of threads) this.#look(thread);
    return this.#changed;
  }

  #look(thread: T): void {
    const one = this.#of(thread);
    const now = one.task === 0n ? undefined : this.#memory.tryRead(one.task + this.#first, this.#bytes);
    if (now === undefined) {
      // It is on its way out.
      this.#known.delete(thread);
      this.#changed.add(thread);
      return;
    }
    const behind = this.#behind(now);
    const isNew = one.before.length === 0;
    const differs = (field: Field): boolean => {
      const place = this.#places.get(field);
      return place !== undefined && (isNew || now.compare(one.before, ...place, ...place) !== 0);
    };
    if (differs("task_struct.mm") || differs("task_struct.files") || differs("task_struct.fs")) this.tablesVersion++;
    if (isNew || behind !== one.behind || OWN.some(([field]) => differs(field))) this.#changed.add(thread);
    one.before = now;
    one.behind = behind;
  }

  #pointer(bytes: Buffer, field: Field): Address {
    const place = this.#places.get(field);
    return place === undefined ? 0n : bytes.readBigUInt64LE(place[0]);
  }

  /** What is changed in place. */
  #behind(now: Buffer): string {
    const io = this.#pointer(now, "task_struct.io_context");
    const policy = this.#pointer(now, "task_struct.mempolicy");
    if (io === 0n && policy === 0n) return "";
    const read = (from: Address, field: typeof IO_PRIORITY | typeof POLICY, bytes: number) =>
      from === 0n ? "" : (this.#memory.tryRead(from + FIELDS.offset(field), bytes)?.toString("latin1") ?? "");
    return `${read(io, IO_PRIORITY, IO_PRIORITY_BYTES)} ${read(policy, POLICY, POLICY_BYTES)}`;
  }

  /** As of the last look; undefined: it was never looked at. */
  tablesOf(thread: T): Tables | undefined {
    const before = this.#known.get(thread)?.before;
    if (before === undefined || before.length === 0) return undefined;
    const pointer = (field: Field) => this.#pointer(before, field);
    return {
      memory: pointer("task_struct.mm"),
      descriptors: pointer("task_struct.files"),
      directories: pointer("task_struct.fs"),
    };
  }

  #of(thread: T): Known {
    const known = this.#known.get(thread);
    const { image } = thread.process;
    if (known?.image === image) return known;
    const fresh = { task: this.#memory.task(thread.tid), image, before: Buffer.alloc(0), behind: "" };
    this.#known.set(thread, fresh);
    return fresh;
  }
}
