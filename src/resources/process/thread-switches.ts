/**
 * When threads fell asleep, and whether they have been awake since: what the kernel's scheduler notes of each, read from its memory. Also
 * of threads that run.
 */
import { KernelFields } from "../../kernel/kernel-fields.ts";
import { type Address, KernelMemory } from "../../kernel/kernel-memory.ts";

const FIELDS = new KernelFields(
  "task_struct.nvcsw",
  "task_struct.sched_info",
  "sched_info.last_arrival",
  "task_struct.se",
  "sched_entity.sum_exec_runtime",
  "sched_entity.prev_sum_exec_runtime",
  "task_struct.restart_block",
  "restart_block.nanosleep",
);

/** In the union of struct restart_block (include/linux/restart_block.h). */
const NANOSLEEP = { clock: 0, expires: 16 } as const;
const FUTEX = { expires: 24 } as const;
const POLL = { hasLimit: 12, seconds: 16, nanoseconds: 24 } as const;
const CLOCK_MONOTONIC = 1;
const SECOND_NS = 1_000_000_000n;
const RESTART_BYTES = 56;

/** System calls that go on by restart_syscall(2), with a limit relative to their beginning. */
const CALL = { poll: 7, nanosleep: 35, futex: 202, clockNanosleep: 230 } as const;
const RESUMED_CALLS: ReadonlySet<number> = new Set(Object.values(CALL));
const FUTEX_WAIT = 0n;
const FUTEX_COMMAND = 0x7fn;

/** A thread that calls exec takes over the leader's id, and is another one to the kernel. */
export interface Switching {
  readonly tid: number;
  readonly process: { readonly image: number };
}

export interface Sight {
  /** How often it has fallen asleep. */
  switches: bigint;
  /** When it fell asleep last, if it sleeps: nanoseconds of CLOCK_MONOTONIC. */
  since: bigint;
}

/** So far apart the scheduler's clock and CLOCK_MONOTONIC drift at most: 500 ppm is what adjtimex(2) allows. */
const DRIFT_PER = 2000n;
/**
 * What interrupts and a hypervisor have taken of a thread's last run is not counted in that (rq_clock_task): so much later it may have fallen
 * asleep. No call may end early, and a timer may be late.
 */
const UNCOUNTED_NS = 1_000_000n;

export class ThreadSwitches {
  readonly #memory: KernelMemory;
  readonly #tasks = new WeakMap<Switching, { task: Address; image: number }>();
  readonly #own: Address;
  /** The scheduler's clock is ahead of CLOCK_MONOTONIC by so much, or by a little more, as of when that was found. */
  #ahead: bigint;
  #aheadAt = process.hrtime.bigint();

  private constructor(memory: KernelMemory) {
    this.#memory = memory;
    FIELDS.require();
    this.#own = memory.current();
    this.#ahead = this.#aheadNow();
  }

  /** Undefined where the kernel's memory cannot be read, or does not tell. */
  static tryOpen(): ThreadSwitches | undefined {
    try {
      const memory = KernelMemory.tryOpen();
      return memory && new ThreadSwitches(memory);
    } catch {
      return undefined;
    }
  }

  /** How often each thread has fallen asleep. */
  counts(threads: readonly Switching[]): bigint[] {
    const at = FIELDS.offset("task_struct.nvcsw");
    const counts: bigint[] = [];
    for (const bytes of this.#memory.gather(threads.map((thread) => this.#of(thread) + at)))
      counts.push(bytes.readBigUInt64LE());
    return counts;
  }

  sights(threads: readonly Switching[]): Sight[] {
    const switches = this.counts(threads);
    const fell = this.#lastRun(threads.map((thread) => this.#of(thread)));
    this.#lookAhead();
    return switches.map((count, i) => ({ switches: count, since: fell[i]! - this.#ahead + UNCOUNTED_NS }));
  }

  /** What it says of this thread, which runs, is up to a tick old: the look that found most is nearest to the truth. */
  #lookAhead(): void {
    const now = process.hrtime.bigint();
    const drifted = this.#ahead - (now - this.#aheadAt) / DRIFT_PER;
    const found = this.#aheadNow();
    this.#ahead = found > drifted ? found : drifted;
    this.#aheadAt = now;
  }

  #aheadNow(): bigint {
    const [own] = this.#lastRun([this.#own]);
    // Too little only makes waits end later, too much would end them early.
    return own! - process.hrtime.bigint();
  }

  /** By the scheduler's clock, when each task stopped running, or was last seen running. */
  #lastRun(tasks: readonly Address[]): bigint[] {
    const arrival = FIELDS.offset("task_struct.sched_info") + FIELDS.offset("sched_info.last_arrival");
    const ran = FIELDS.offset("task_struct.se") + FIELDS.offset("sched_entity.sum_exec_runtime");
    const before = FIELDS.at("sched_entity.prev_sum_exec_runtime") - FIELDS.at("sched_entity.sum_exec_runtime");
    const words: bigint[] = [];
    for (const bytes of this.#memory.gather(tasks.flatMap((task) => [task + arrival, task + ran]))) {
      words.push(bytes.readBigUInt64LE());
      words.push(bytes.readBigUInt64LE(before));
    }
    return tasks.map((_task, i) => words[4 * i]! + words[4 * i + 2]! - words[4 * i + 3]!);
  }

  /**
   * When the call that a stop has found the thread in ends by itself, nanoseconds of CLOCK_MONOTONIC; undefined for calls that tell of their end
   * otherwise, or have none.
   * @param operation the second argument: which operation of futex(2)
   */
  endOf(thread: Switching, call: number, operation: bigint): bigint | undefined {
    if (!RESUMED_CALLS.has(call) || (call === CALL.futex && (operation & FUTEX_COMMAND) !== FUTEX_WAIT))
      return undefined;
    const block = this.#memory.read(this.#of(thread) + FIELDS.offset("task_struct.restart_block"), RESTART_BYTES);
    const at = FIELDS.at("restart_block.nanosleep");
    switch (call) {
      case CALL.poll:
        if (block.readInt32LE(at + POLL.hasLimit) === 0) return undefined;
        return block.readBigInt64LE(at + POLL.seconds) * SECOND_NS + block.readBigInt64LE(at + POLL.nanoseconds);
      case CALL.futex:
        return block.readBigInt64LE(at + FUTEX.expires);
      default:
        if (block.readInt32LE(at + NANOSLEEP.clock) !== CLOCK_MONOTONIC) return undefined;
        return block.readBigInt64LE(at + NANOSLEEP.expires);
    }
  }

  #of(thread: Switching): Address {
    const { image } = thread.process;
    const known = this.#tasks.get(thread);
    if (known?.image === image) return known.task;
    const task = this.#memory.task(thread.tid);
    this.#tasks.set(thread, { task, image });
    return task;
  }
}
