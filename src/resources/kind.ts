/** What a kind of descriptor must be able to do. One folder per kind; `kinds.ts` lists them. */
import type { Clocks } from "../kernel/clocks.ts";
import { infoField } from "../kernel/procfs.ts";
import type { Remote, RemoteCall } from "../kernel/remote.ts";
import type { Contents } from "./nameless/contents.ts";
import type { Stamps } from "./tcp/stamp.ts";

/** One open file description of the application, and one place where it is found. */
export interface Description {
  /** Stable as long as it is open. */
  id: string;
  kind: string;
  /** Process (as this program sees it) and descriptor number. */
  pid: number;
  fd: number;
  /** What /proc/PID/fd/FD says. */
  link: string;
  /** O_* flags, without O_CLOEXEC, which belongs to the descriptor. */
  flags: number;
}

/** Inside the barrier: everything is stopped. */
export interface DumpContext {
  /** A duplicate in this process, closed when the stop ends: held longer, it would keep the application's file open. */
  take(description: Description): number;
  /** Where it is, for who takes it himself: a process's pidfd (−1: this process) and the descriptor there. */
  place(description: Description): { pidfd: number; fd: number };
  /** Where the kernel has it, as long as it is open; undefined where that cannot be told. */
  file(description: Description): bigint | undefined;
  /** The other way round: of all that any process has or that was adopted in this dump; undefined when none of them is there. */
  holder(file: bigint): Description | undefined;
  /** Another one whenever any process's table of descriptors is another. */
  tables: number;
  /** /proc/PID/fdinfo/FD */
  info(description: Description): string;
  /** What tells whether anything happened to a process's TCP sockets; undefined where the kernel cannot tell. */
  stamps(pid: number): Stamps | undefined;
  /** The same of anything else: see descriptor/open-files.ts and remembered.ts. */
  plainStamp(description: Description): Buffer | undefined;
  /** The description of a descriptor that came to this process in flight; it is dumped with the others and closed with them. */
  adopt(fd: number): Description;
  /** The description of the first descriptor that is wanted, of all that any process has. */
  find(isWanted: (pid: number, fd: number) => boolean): string | undefined;
  /** All processes of the application, as this program sees them. */
  processes(): Iterable<number>;
  /** The pid as the application sees it; 0 when it has none of that pid any more. */
  virtualPid(pid: number): number;
  /** By how much its clocks are ahead of this process's. */
  clocksAhead(): Clocks;
  /** Follows what is in files without a name; undefined where only what is there is asked for. */
  contents: Contents | undefined;
  /** Runs when all kinds have dumped, with all still stopped. */
  atEnd(action: () => void): void;
  /** Shared by all kinds in one dump. */
  shared: Map<string, unknown>;
}

/** A process of the clone in which calls can be made before it lives. */
export interface Inside {
  /** As this program sees it. */
  pid: number;
  remote: Remote;
  /** A duplicate there of a descriptor of this process. */
  give(fd: number): number;
  /** A pidfd, in this process, of a child of it that has ended and been collected. */
  handleOfEnded(): number;
  /** Moves a descriptor from there to this process. */
  fetch(fd: number): number;
}

/** On the clone's node, before the application lives. Descriptors made here are handed into its processes afterwards. */
export interface CreateContext {
  /** The application's root directory. */
  rootFd: number;
  /** Runs a function in the application's network namespace. */
  inNetwork<T>(body: () => T): T;
  /** Shared by all creations of one restore: both ends of a pipe are made at once. */
  shared: Map<string, unknown>;
  /** Every state being restored, by description. */
  states: ReadonlyMap<string, { kind: string; state: unknown }>;
  /**
   * A file without a name that the clone has been filled with or has mapped already: a descriptor that stays the giver's. By its
   * name in layouts. `unnamed`: it never had the name that the application's descriptors show.
   */
  object(id: string): { fd: number; unnamed: boolean } | undefined;
  /**
   * Makes what stands at the path: on a disk of the application's own (stage/disk.ts) it gets this inode number. Where it cannot, that
   * is told.
   */
  numbered<T>(path: string, inode: number, make: () => T): T;
  /** The master of a terminal that a session of the clone has already; the caller's from then on. */
  terminal(index: number): number | undefined;
  /** Runs when all descriptions exist: `own` is this process's descriptor of each. */
  whenCreated(action: (own: ReadonlyMap<string, number>) => void): void;
  /** The process that the application knows by this pid, or undefined; without a pid, its first. */
  inside(virtualPid: number): Inside | undefined;
  inside(): Inside;
  /** Runs when the application may speak and before it runs. */
  atLife(action: () => void): void;
}

/** Data of calls made in the clone: where it will be. */
export interface ConnectContext {
  /** The process, as the application sees it. */
  virtualPid: number;
  put(bytes: Buffer): number;
}

export interface DescriptorKind<State = unknown> {
  readonly kind: string;
  /** Grows when `State` changes its meaning; another version is refused. */
  readonly version: number;
  /** Kinds that must have been created before. */
  readonly after: readonly string[];
  matches(link: string): boolean;
  /** For what has a path: by its type and permissions, or by what is at `place` in /proc. Asked before `matches`. */
  matchesFile?(link: string, mode: number, place: string): boolean;
  /** For sockets, whose link says nothing: by SO_DOMAIN, SO_TYPE, SO_PROTOCOL. */
  matchesSocket?(socket: { domain: number; type: number; protocol: number }): boolean;
  /**
   * States of descriptions of this kind, in their order: the same array as in the dump before when they are the same. Throws what
   * makes the application unprotectable. Returns a function for what need not be done in the stop: called once the application
   * runs again, before the next dump; never, when this one failed after all.
   */
  dump(descriptions: Description[], context: DumpContext): State[] | (() => State[]);
  /** What of this kind goes on in the kernel though no process has it any more, by names of their own. After `dump`. */
  dumpOwnerless?(pids: readonly number[]): Array<[id: string, state: State]>;
  /** Looks up what takes some ten milliseconds: before the first stop, in which there is no time for it. */
  prepare?(): void;
  /** Lets go of what it keeps between dumps: the application is captured no more. */
  forget?(): void;
  /** Makes the description anew and returns a descriptor of this process. */
  create(state: State, context: CreateContext): number;
  /** As `create` for all of the kind at once, in their order, where that is cheaper. */
  createAll?(states: State[], context: CreateContext): number[];
  /** `connect` is asked for in every process that has it. */
  readonly connectsEach?: true;
  /** Calls to make in the process that has it as `fd`, once all its descriptors are in place. */
  connect?(state: State, fd: number, context: ConnectContext): RemoteCall[];
}

export const O = {
  accessMode: 3,
  readOnly: 0,
  writeOnly: 1,
  readWrite: 2,
  create: 0o100,
  exclusive: 0o200,
  truncate: 0o1000,
  append: 0o2000,
  nonBlock: 0o4000,
  path: 0o10000000,
  closeOnExec: 0o2000000,
} as const;

/** O_* flags of an open file description from its fdinfo, which also shows the descriptor's own. */
export function flagsOf(info: string): number {
  return Number.parseInt(infoField(info, "flags"), 8) & ~O.closeOnExec;
}
