/** System V semaphore sets: their values, and what is undone when a process ends (SEM_UNDO, see semop(2)). */
import { call } from "../../kernel/calls.ts";
import { KernelMemory } from "../../kernel/kernel-memory.ts";
import type { Inside } from "../kind.ts";
import type { Member, NamespaceKind } from "../namespace-kind.ts";
import {
  createOwned,
  IPC,
  IPC_CREATE,
  IPC_EXCLUSIVE,
  IPC_NOWAIT,
  type Owned,
  ownedOf,
  permissions,
  type Row,
  TableWatch,
} from "../sysv.ts";
import { undoOf } from "./undo.ts";

export interface SemaphoreState extends Owned {
  values: number[];
  /** What the end of a process adds to each value, by pid as the application sees it; only of those who have such. */
  undo: Array<[virtualPid: number, adjustments: number[]]>;
}

const GETALL = 13;
const SETALL = 17;
const SEM_UNDO = 0x1000;
/** No step of an adjustment is larger: a value has room for it above or below. Values end at 32767. */
const STEP = 16383;

function read(row: Row, members: Iterable<Member>): SemaphoreState {
  const owned = ownedOf(row, "semid");
  const count = Number(row.get("nsems"));
  const words = Buffer.alloc(2 * count);
  call("semctl", owned.id, 0, GETALL, words);
  const values = Array.from({ length: count }, (_, i) => words.readUInt16LE(2 * i));
  const processes = [...members];
  const undone = undoOf(
    processes.map(({ pid }) => pid),
    owned.id,
    count,
  );
  const undo = processes.flatMap(({ pid, virtualPid }): SemaphoreState["undo"] => {
    const adjustments = undone.get(pid);
    return adjustments ? [[virtualPid, adjustments]] : [];
  });
  return { ...owned, values, undo };
}

/** The process takes the adjustments on itself anew; values stay as they are. */
function adjust({ id, values }: SemaphoreState, adjustments: number[], { remote }: Inside): void {
  for (const [semaphore, wanted] of adjustments.entries())
    for (let left = wanted; left !== 0; ) {
      // Undone is the contrary of what was done.
      const step = Math.sign(left) * Math.min(Math.abs(left), STEP);
      const undone = [-step, SEM_UNDO];
      const plain = [step, 0];
      const isFirst = values[semaphore]! - step >= 0 && values[semaphore]! - step <= 32767;
      const operations = Buffer.alloc(12);
      (isFirst ? [undone, plain] : [plain, undone]).forEach(([by, flags], i) => {
        operations.writeUInt16LE(semaphore, 6 * i);
        operations.writeInt16LE(by!, 6 * i + 2);
        operations.writeInt16LE(flags! | IPC_NOWAIT, 6 * i + 4);
      });
      remote.reset();
      remote.call("semop", id, remote.put(operations), 2);
      left -= step;
    }
}

/**
 * @kept identifiers, keys, modes, owners, values, what the end of each process undoes (SEM_UNDO); who waits goes on waiting.
 * @unkept who changed a value last, and when.
 */
export const semaphore: NamespaceKind<SemaphoreState> = {
  kind: "semaphore",
  version: 2,
  watch(namespaceFd) {
    KernelMemory.prepare();
    return new TableWatch(namespaceFd, "sem", ["otime", "ctime"], read);
  },
  create(states, inside) {
    for (const state of states) {
      const flags = IPC_CREATE | IPC_EXCLUSIVE | (state.mode & 0o777);
      createOwned("sem", state, () => call("semget", state.key, state.values.length, flags));
      const values = Buffer.alloc(2 * state.values.length);
      state.values.forEach((value, i) => values.writeUInt16LE(value, 2 * i));
      call("semctl", state.id, 0, SETALL, values);
      for (const [virtualPid, adjustments] of state.undo) {
        const process = inside(virtualPid);
        if (process) adjust(state, adjustments, process);
      }
      call("semctl", state.id, 0, IPC.set, permissions(state, 64));
    }
  },
};
