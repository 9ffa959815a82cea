/** What System V shared memory, semaphores and message queues have in common. See sysvipc(7), proc(5). */
import { readFileSync, writeFileSync } from "node:fs";
import { call, openPath, Reader } from "../kernel/calls.ts";
import { inIpcNamespace } from "../kernel/namespace.ts";
import type { Member, NamespaceWatch } from "./namespace-kind.ts";

export const IPC_CREATE = 0o1000;
export const IPC_EXCLUSIVE = 0o2000;
export const IPC_NOWAIT = 0o4000;
export const IPC = { remove: 0, set: 1, status: 2 } as const;
/** struct ipc64_perm */
export const PERMISSION_BYTES = 48;

/** Who may do what with an object. */
export interface Owned {
  id: number;
  key: number;
  /** Permission bits, and those of the kind. */
  mode: number;
  uid: number;
  gid: number;
  creatorUid: number;
  creatorGid: number;
}

/** One object's line of /proc/sysvipc, by column. */
export type Row = ReadonlyMap<string, string>;

/** Reads one of the tables of /proc/sysvipc. The file belongs to the namespace in which it was opened. */
export class Table {
  readonly #reader: Reader;

  constructor(namespaceFd: number, name: "shm" | "sem" | "msg") {
    this.#reader = inIpcNamespace(namespaceFd, () => new Reader(openPath(`/proc/sysvipc/${name}`, 0)));
  }

  rows(): Row[] {
    const text = this.#reader.read();
    // The head alone: nothing there, the usual case.
    const headEnd = text.indexOf(10);
    if (headEnd + 1 >= text.length) return [];
    const [head, ...lines] = text.toString("latin1").trimEnd().split("\n");
    const columns = head!.trim().split(/\s+/);
    return lines.map((line) => {
      const values = line.trim().split(/\s+/);
      return new Map(columns.map((column, i) => [column, values[i]!]));
    });
  }

  close(): void {
    this.#reader.close();
  }
}

interface KnownObject<State> {
  row: string;
  state: State;
  /** When it was read. */
  seconds: number;
}

/** Follows the objects of one of the tables; those whose line has not changed for seconds are not read again. */
export class TableWatch<State> implements NamespaceWatch<State> {
  readonly #namespaceFd: number;
  readonly #table: Table;
  readonly #identifier: string;
  readonly #times: readonly string[];
  readonly #read: (row: Row, members: Iterable<Member>) => State;
  #known = new Map<number, KnownObject<State>>();

  /**
   * @param times columns with seconds of changes
   * @param read tells all of an object, with this thread in its namespace
   */
  constructor(
    namespaceFd: number,
    name: "sem" | "msg",
    times: readonly string[],
    read: (row: Row, members: Iterable<Member>) => State,
  ) {
    this.#namespaceFd = namespaceFd;
    this.#table = new Table(namespaceFd, name);
    this.#identifier = `${name === "sem" ? "sem" : "msq"}id`;
    this.#times = times;
    this.#read = read;
  }

  dump(members: Iterable<Member>): Array<[number, State]> {
    const rows = this.#table.rows();
    if (rows.length === 0) return [];
    const seconds = nowSeconds();
    const stale = rows.some((row) => this.#fresh(row) === undefined);
    const look = () =>
      rows.map((row): [number, KnownObject<State>] => [
        Number(row.get(this.#identifier)),
        this.#fresh(row) ?? { row: [...row.values()].join(), state: this.#read(row, members), seconds },
      ]);
    this.#known = new Map(stale ? inIpcNamespace(this.#namespaceFd, look) : look());
    return [...this.#known].map(([id, { state }]) => [id, state]);
  }

  /** What is known, if it was read a second later than that of the last change. */
  #fresh(row: Row): KnownObject<State> | undefined {
    const known = this.#known.get(Number(row.get(this.#identifier)));
    if (!known || known.row !== [...row.values()].join()) return undefined;
    return Math.max(...this.#times.map((column) => Number(row.get(column)))) < known.seconds - 1 ? known : undefined;
  }

  reset(): void {
    this.#known.clear();
  }

  close(): void {
    this.#table.close();
  }
}

/** @param identifier name of the column with it */
export function ownedOf(row: Row, identifier: string): Owned {
  const number = (column: string) => Number(row.get(column));
  return {
    id: number(identifier),
    key: number("key"),
    mode: Number.parseInt(row.get("perms")!, 8),
    uid: number("uid"),
    gid: number("gid"),
    creatorUid: number("cuid"),
    creatorGid: number("cgid"),
  };
}

/** Times in the tables are whole seconds: what happened in this second may happen again in it unseen. */
export function nowSeconds(): number {
  return Math.floor(Date.now() / 1000);
}

/** struct ipc64_perm for IPC_SET, with `more` bytes behind it. */
export function permissions(owned: Owned, more: number): Buffer {
  const data = Buffer.alloc(PERMISSION_BYTES + more);
  data.writeUInt32LE(owned.uid, 4);
  data.writeUInt32LE(owned.gid, 8);
  data.writeUInt32LE(owned.mode & 0o777, 20);
  return data;
}

const UNCHANGED = 0xffffffff;
const PR_SET_DUMPABLE = 4;

/** Runs `make` as the object's creator, and so that the next object gets this identifier. In the clone's IPC namespace. */
export function createOwned(type: "shm" | "sem" | "msg", owned: Owned, make: () => number): void {
  const chooser = `/proc/sys/kernel/${type}_next_id`;
  writeFileSync(chooser, String(owned.id));
  const id = asCreator(owned, make);
  if (id === owned.id) return;
  throw new Error(`The kernel made ${type} ${id} in place of ${owned.id} (${readFileSync(chooser, "latin1").trim()})`);
}

/** Only this thread changes its user: the creator is remembered for good and may always do what the owner may. */
function asCreator<T>({ creatorUid, creatorGid }: Owned, make: () => T): T {
  if (creatorUid === 0 && creatorGid === 0) return make();
  call("setresgid", UNCHANGED, creatorGid, UNCHANGED);
  try {
    call("setresuid", UNCHANGED, creatorUid, UNCHANGED);
    try {
      return make();
    } finally {
      call("setresuid", UNCHANGED, 0, UNCHANGED);
    }
  } finally {
    call("setresgid", UNCHANGED, 0, UNCHANGED);
    call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0);
  }
}
