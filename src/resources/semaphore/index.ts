/** System V semaphore sets: their values. */
import { call } from "../../kernel/calls.ts";
import { inIpcNamespace } from "../../kernel/namespace.ts";
import type { NamespaceKind, NamespaceWatch } from "../namespace-kind.ts";
import {
  createOwned,
  IPC,
  IPC_CREATE,
  IPC_EXCLUSIVE,
  nowSeconds,
  type Owned,
  ownedOf,
  permissions,
  type Row,
  Table,
} from "../sysv.ts";

export interface SemaphoreState extends Owned {
  values: number[];
}

const GETALL = 13;
const SETALL = 17;

class SemaphoreWatch implements NamespaceWatch<SemaphoreState> {
  readonly #namespaceFd: number;
  readonly #table: Table;
  #known = new Map<number, { row: string; state: SemaphoreState; lastSeconds: number }>();

  constructor(namespaceFd: number) {
    this.#namespaceFd = namespaceFd;
    this.#table = new Table(namespaceFd, "sem");
  }

  dump(): Array<[number, SemaphoreState]> {
    const rows = this.#table.rows();
    if (rows.length === 0) return [];
    const now = nowSeconds();
    const stale = rows.filter((row) => !this.#isFresh(row));
    if (stale.length > 0)
      inIpcNamespace(this.#namespaceFd, () => {
        for (const row of stale) this.#read(row, now);
      });
    const known = new Map(rows.map((row) => [Number(row.get("semid")), this.#known.get(Number(row.get("semid")))!]));
    this.#known = known;
    return [...known].map(([id, { state }]) => [id, state]);
  }

  /** Known as of a second later than that of its last change. */
  #isFresh(row: Row): boolean {
    const known = this.#known.get(Number(row.get("semid")));
    if (!known || known.row !== [...row.values()].join()) return false;
    return Math.max(Number(row.get("otime")), Number(row.get("ctime"))) < known.lastSeconds - 1;
  }

  #read(row: Row, now: number): void {
    const owned = ownedOf(row, "semid");
    const count = Number(row.get("nsems"));
    const values = Buffer.alloc(2 * count);
    call("semctl", owned.id, 0, GETALL, values);
    const state = { ...owned, values: Array.from({ length: count }, (_, i) => values.readUInt16LE(2 * i)) };
    this.#known.set(owned.id, { row: [...row.values()].join(), state, lastSeconds: now });
  }

  reset(): void {
    this.#known.clear();
  }

  close(): void {
    this.#table.close();
  }
}

/**
 * @kept identifiers, keys, modes, owners, values; who waits goes on waiting.
 * @unkept undo values (SEM_UNDO): the kernel shows them to nobody. Who changed a value last, and when.
 */
export const semaphore: NamespaceKind<SemaphoreState> = {
  kind: "semaphore",
  version: 1,
  watch: (namespaceFd) => new SemaphoreWatch(namespaceFd),
  create(states) {
    for (const state of states) {
      const flags = IPC_CREATE | IPC_EXCLUSIVE | (state.mode & 0o777);
      createOwned("sem", state, () => call("semget", state.key, state.values.length, flags));
      const values = Buffer.alloc(2 * state.values.length);
      state.values.forEach((value, i) => values.writeUInt16LE(value, 2 * i));
      call("semctl", state.id, 0, SETALL, values);
      call("semctl", state.id, 0, IPC.set, permissions(state, 64));
    }
  },
};
