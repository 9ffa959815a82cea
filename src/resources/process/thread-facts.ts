/**
 * What a thread may change of itself without a trace in /proc: its alternate signal stack, its death signal, the slack of its
 * timers. The kernel's memory tells in one go for many threads that they are as before; what they are, the thread is asked.
 */
import { KernelFields } from "../../kernel/kernel-fields.ts";
import { type Address, KernelMemory } from "../../kernel/kernel-memory.ts";

const FIELDS = new KernelFields(
  "task_struct.sas_ss_sp",
  "task_struct.sas_ss_flags",
  "task_struct.pdeath_signal",
  "task_struct.timer_slack_ns",
);
const FLAGS_BYTES = 4;
const SIGNAL_BYTES = 4;
const SLACK_BYTES = 8;

/** A thread that calls exec takes over the leader's id, and is another one to the kernel. */
interface Thread {
  readonly tid: number;
  readonly process: { readonly image: number };
}

interface Known {
  task: Address;
  image: number;
  before: Buffer;
}

export class ThreadFacts<T extends Thread> {
  readonly #memory: KernelMemory;
  /** Address and length of what is looked at, from the task's beginning on. */
  readonly #pieces: ReadonlyArray<readonly [at: Address, bytes: number]>;
  readonly #bytes: number;
  readonly #known = new WeakMap<T, Known>();

  private constructor(memory: KernelMemory) {
    this.#memory = memory;
    const stack = FIELDS.at("task_struct.sas_ss_sp");
    this.#pieces = [
      [BigInt(stack), FIELDS.at("task_struct.sas_ss_flags") + FLAGS_BYTES - stack],
      [FIELDS.offset("task_struct.pdeath_signal"), SIGNAL_BYTES],
      [FIELDS.offset("task_struct.timer_slack_ns"), SLACK_BYTES],
    ];
    this.#bytes = this.#pieces.reduce((sum, [, bytes]) => sum + bytes, 0);
  }

  /** Undefined where the kernel's memory cannot be read. */
  static tryOpen<T extends Thread>(): ThreadFacts<T> | undefined {
    const memory = KernelMemory.tryOpen();
    return memory && new ThreadFacts<T>(memory);
  }

  /**
   * Threads that are other than at the last look, new ones among them. All are traced by this thread and stand still.
   */
  changed(threads: readonly T[]): Set<T> {
    const known = threads.map((thread) => this.#of(thread));
    const addresses = known.flatMap(({ task }) => this.#pieces.map(([at]) => task + at));
    const found = this.#memory.gather(addresses);
    const changed = new Set<T>();
    const now = Buffer.allocUnsafe(this.#bytes * threads.length);
    known.forEach((one, i) => {
      const own = now.subarray(i * this.#bytes, (i + 1) * this.#bytes);
      let at = 0;
      for (const [, bytes] of this.#pieces) at += (found.next().value as Buffer).copy(own, at, 0, bytes);
      if (own.equals(one.before)) return;
      one.before = Buffer.from(own);
      changed.add(threads[i]!);
    });
    return changed;
  }

  #of(thread: T): Known {
    const known = this.#known.get(thread);
    const { image } = thread.process;
    if (known?.image === image) return known;
    const fresh = { task: this.#memory.task(thread.tid), image, before: Buffer.alloc(0) };
    this.#known.set(thread, fresh);
    return fresh;
  }
}
