/** What the end of a process adds to semaphores (SEM_UNDO): no call tells, the kernel's memory does. */
import { type Address, KernelMemory } from "../../kernel/peek.ts";

/** Of one set by processes that this thread traces and that stand still: those that have any, by their pids here. */
export function undoOf(pids: readonly number[], set: number, semaphores: number): Map<number, number[]> {
  const memory = KernelMemory.open();
  const found = new Map<number, number[]>();
  for (const pid of pids) {
    const adjustments = adjustmentsOf(memory, memory.task(pid), set, semaphores);
    if (adjustments) found.set(pid, adjustments);
  }
  return found;
}

function adjustmentsOf(memory: KernelMemory, task: Address, set: number, semaphores: number): number[] | undefined {
  const undos =
    task && memory.pointer(task + memory.offset("task_struct.sysvsem") + memory.offset("sysv_sem.undo_list"));
  if (!undos) return undefined;
  const head = undos + memory.offset("sem_undo_list.list_proc");
  for (const undo of memory.list(head, "sem_undo.list_proc")) {
    if (memory.read(undo + memory.offset("sem_undo.semid"), 4).readInt32LE() !== set) continue;
    const words = memory.read(adjustmentsAt(memory, undo), 2 * semaphores);
    const values = Array.from({ length: semaphores }, (_, i) => words.readInt16LE(2 * i));
    return values.some((value) => value !== 0) ? values : undefined;
  }
  return undefined;
}

/** Behind the struct, or in it (`short semadj[]`, kernel 6.2). */
function adjustmentsAt(memory: KernelMemory, undo: Address): Address {
  const at = undo + memory.offset("sem_undo.semadj");
  const isPointer = memory.offset("sem_undo") - memory.offset("sem_undo.semadj") >= 8n;
  return isPointer ? memory.pointer(at) : at;
}
