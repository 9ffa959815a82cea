/**
 * The cluster store: a small map from key to JSON value, changed only by compare-and-swap. It is the one arbiter of who
 * is primary (DESIGN.md, "Never two primaries"); everything else in a cluster may be wrong for a while.
 */

export interface Versioned<T = unknown> {
  value: T;
  /**
   * Grows with every change of the store and is never used twice, also not by a key that is deleted and made again; so
   * "unchanged" can be told from "changed and changed back".
   */
  revision: number;
}

export interface Entry<T = unknown> extends Versioned<T> {
  key: string;
}

/** What a watcher is told. `value` is undefined when the key is gone. */
export interface Change {
  key: string;
  value: unknown;
  revision: number;
}

export type SwapResult = { ok: true; revision: number } | { ok: false; current: Versioned | undefined };
export type DeleteResult = { ok: true } | { ok: false; current: Versioned | undefined };

/**
 * Every operation rejects with OperatingError `store-unreachable` when the store gave no answer in time. For `get` and
 * `list` that means nothing; after `compareAndSwap` and `delete` **the outcome is unknown**: the change may have been
 * made, or may still be made later. Read again before acting on either.
 */
export interface ClusterStore {
  /** Linearizable: sees every change that was confirmed before the call. */
  get<T = unknown>(key: string): Promise<Versioned<T> | undefined>;
  /** All entries whose key begins with `prefix`, in order of keys. Linearizable. */
  list<T = unknown>(prefix: string): Promise<Entry<T>[]>;
  /** Sets the key if its revision is still `expectedRevision`; 0 means that it must not exist. `value` is any JSON but undefined. */
  compareAndSwap(key: string, expectedRevision: number, value: unknown): Promise<SwapResult>;
  delete(key: string, expectedRevision: number): Promise<DeleteResult>;
  /**
   * Tells what is there now, then every change, own ones too, in order of revisions, until `signal` aborts or the store
   * is closed. States in between may be skipped; the last one never is. It outlives the absence of the store.
   */
  watch(prefix: string, listener: (change: Change) => void, signal: AbortSignal): void;
  /** Ends watches and pending operations. */
  close(): void;
}

/** The keys of DESIGN.md. */
export const storeKeys = {
  applications: "applications/",
  nodes: "nodes/",
  specification: (application: string) => `applications/${application}/spec`,
  view: (application: string) => `applications/${application}/view`,
  placement: (application: string) => `applications/${application}/placement`,
  /** Who looks after `balance: auto` for all. */
  balancer: "balancer",
  drained: (node: string) => `drained/${node}`,
  node: (node: string) => `nodes/${node}`,
} as const;
