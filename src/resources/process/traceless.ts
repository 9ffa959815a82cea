/** What a process may change without a trace in /proc: its signal actions and the end of its heap, as the kernel has them. */
import { KernelFields } from "../../kernel/kernel-fields.ts";
import { type Address, KernelMemory } from "../../kernel/kernel-memory.ts";

const FIELDS = new KernelFields("task_struct.sighand", "sighand_struct.action", "task_struct.mm", "mm_struct.brk");

/** struct k_sigaction of signals 1 … 64 (arch/x86/include/asm/signal.h). */
const ACTIONS_BYTES = 64 * 32;

export class TracelessFacts {
  readonly #memory: KernelMemory;
  readonly #actions: Address;
  readonly #brk: Address;
  #before: readonly [Buffer, Buffer] | undefined;

  private constructor(memory: KernelMemory, task: Address) {
    this.#memory = memory;
    this.#actions =
      memory.pointer(task + FIELDS.offset("task_struct.sighand")) + FIELDS.offset("sighand_struct.action");
    this.#brk = memory.pointer(task + FIELDS.offset("task_struct.mm")) + FIELDS.offset("mm_struct.brk");
  }

  /** Of a process that this thread traces and that stands still, until its next exec. Undefined where nothing can be read. */
  static of(pid: number): TracelessFacts | undefined {
    const memory = KernelMemory.tryOpen();
    const task = memory?.task(pid);
    return memory && task ? new TracelessFacts(memory, task) : undefined;
  }

  /** Whether they are others than at the last look. All threads stand still. */
  changed(): boolean {
    const now = [this.#memory.read(this.#actions, ACTIONS_BYTES), this.#memory.read(this.#brk, 8)] as const;
    const same = this.#before !== undefined && now[0].equals(this.#before[0]) && now[1].equals(this.#before[1]);
    this.#before = now;
    return !same;
  }
}
