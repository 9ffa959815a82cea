/**
 * What a kind of object must be able to do that is in the application's IPC namespace rather than behind a descriptor. One
 * folder per kind; `namespace-kinds.ts` lists them.
 */
import type { Inside } from "./kind.ts";

/** A process of the application. */
export interface Member {
  /** As this program sees it. */
  pid: number;
  /** As the application sees it. */
  virtualPid: number;
}

/** Follows all objects of a kind in one namespace. */
export interface NamespaceWatch<State = unknown> {
  /** All objects now, by identifier. In the stop: where nothing has changed it must cost next to nothing. */
  dump(members: Iterable<Member>): Array<[id: number | string, State]>;
  /** The next dump looks at everything anew. */
  reset(): void;
  close(): void;
}

export interface NamespaceKind<State = unknown> {
  readonly kind: string;
  /** Grows when `State` changes its meaning; another version is refused. */
  readonly version: number;
  watch(namespaceFd: number): NamespaceWatch<State>;
  /** Makes the objects of a clone anew, with this thread in its IPC namespace. `inside`: its processes, by virtual pid. */
  create(states: State[], inside: (virtualPid: number) => Inside | undefined): void;
}
