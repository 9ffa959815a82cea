/**
 * What a process may change without a trace in /proc: its signal actions, the end of its heap, which registers and barriers it may
 * use, what it has asked of its memory as a whole, as the kernel has them.
 */
import { KernelFields } from "../../kernel/kernel-fields.ts";
import { type Address, KernelMemory } from "../../kernel/kernel-memory.ts";

const FIELDS = new KernelFields(
  "task_struct.sighand",
  "sighand_struct.action",
  "task_struct.mm",
  "mm_struct.brk",
  "mm_struct.membarrier_state",
  "mm_struct.flags",
  "task_struct",
  "task_struct.thread",
  "thread_struct.fpu",
  "fpu.perm",
  "fpu_state_perm.__state_perm",
);

/** struct k_sigaction of signals 1 … 64 (arch/x86/include/asm/signal.h). */
const ACTIONS_BYTES = 64 * 32;

/** Flags: dumpable, what a core holds, huge pages, merging, what is writable is not run. */
const FACTS_OF_MEMORY = [
  ["mm_struct.brk", 8],
  ["mm_struct.membarrier_state", 4],
  ["mm_struct.flags", 8],
] as const;

export class TracelessFacts {
  readonly #memory: KernelMemory;
  readonly #actions: Address;
  readonly #ofMemory: ReturnType<typeof factsOfMemory>;
  readonly #permission: Address | undefined;
  #before: readonly Buffer[] | undefined;

  private constructor(memory: KernelMemory, task: Address) {
    this.#memory = memory;
    this.#actions =
      memory.pointer(task + FIELDS.offset("task_struct.sighand")) + FIELDS.offset("sighand_struct.action");
    this.#ofMemory = factsOfMemory(memory.pointer(task + FIELDS.offset("task_struct.mm")));
    this.#permission = permissionOf(task);
  }

  /** Of a process that this thread traces and that stands still, until its next exec. Undefined where nothing can be read. */
  static of(pid: number): TracelessFacts | undefined {
    const memory = KernelMemory.tryOpen();
    const task = memory?.task(pid);
    return memory && task ? new TracelessFacts(memory, task) : undefined;
  }

  /** Whether they are others than at the last look. All threads stand still. */
  changed(): boolean {
    const now = [this.#memory.read(this.#actions, ACTIONS_BYTES), ...this.#memoryFacts()];
    if (this.#permission !== undefined) now.push(this.#memory.read(this.#permission, 8));
    const same = this.#before !== undefined && now.every((bytes, i) => bytes.equals(this.#before![i]!));
    this.#before = now;
    return !same;
  }

  /** In one look, which costs less than three. */
  #memoryFacts(): Buffer[] {
    const { at, bytes, parts } = this.#ofMemory;
    const all = this.#memory.read(at, bytes);
    return parts.map(([from, to]) => all.subarray(from, to));
  }
}

/** Where the facts of a process's memory are, and which parts of that they are. */
function factsOfMemory(mm: Address): { at: Address; bytes: number; parts: Array<[from: number, to: number]> } {
  const there = FACTS_OF_MEMORY.flatMap(([field, bytes]): Array<[number, number]> => {
    const at = FIELDS.find(field);
    return at === undefined ? [] : [[at, at + bytes]];
  });
  const first = Math.min(...there.map(([from]) => from));
  const parts = there.map(([from, to]): [number, number] => [from - first, to - first]);
  return { at: mm + BigInt(first), bytes: Math.max(...parts.map(([, to]) => to)), parts };
}

/** Which register state the process has asked for (arch_prctl(2), since Linux 5.16). `task`: its first thread. */
function permissionOf(task: Address): Address | undefined {
  const [permission, state] = [FIELDS.find("fpu.perm"), FIELDS.find("fpu_state_perm.__state_perm")];
  if (permission === undefined || state === undefined) return undefined;
  // Since Linux 6.16 it follows the task instead of being part of it.
  const inThread = FIELDS.find("thread_struct.fpu");
  const fpu = inThread === undefined ? FIELDS.at("task_struct") : FIELDS.at("task_struct.thread") + inThread;
  return task + BigInt(fpu + permission + state);
}
