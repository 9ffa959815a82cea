/** What the end of a process adds to semaphores (SEM_UNDO): no call tells, the kernel's memory does. */
import { KernelFields } from "../../kernel/kernel-fields.ts";
import { type Address, KernelMemory } from "../../kernel/kernel-memory.ts";

const FIELDS = new KernelFields(
  "task_struct.sysvsem",
  "sysv_sem.undo_list",
  "sem_undo_list.list_proc",
  "sem_undo.list_proc",
  "sem_undo.semid",
  "sem_undo.semadj",
  "sem_undo",
);

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
    task && memory.pointer(task + FIELDS.offset("task_struct.sysvsem") + FIELDS.offset("sysv_sem.undo_list"));
  if (!undos) return undefined;
  const head = undos + FIELDS.offset("sem_undo_list.list_proc");
  for (const undo of memory.list(head, FIELDS.offset("sem_undo.list_proc"))) {
    if (memory.read(undo + FIELDS.offset("sem_undo.semid"), 4).readInt32LE() !== set) continue;
    const words = memory.read(adjustmentsAt(memory, undo), 2 * semaphores);
    const values = Array.from({ length: semaphores }, (_, i) => words.readInt16LE(2 * i));
    return values.some((value) => value !== 0) ? values : undefined;
  }
  return undefined;
}

/** Behind the struct, or in it (`short semadj[]`, kernel 6.2). */
function adjustmentsAt(memory: KernelMemory, undo: Address): Address {
  const at = undo + FIELDS.offset("sem_undo.semadj");
  const isPointer = FIELDS.offset("sem_undo") - FIELDS.offset("sem_undo.semadj") >= 8n;
  return isPointer ? memory.pointer(at) : at;
}
