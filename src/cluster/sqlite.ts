/**
 * The cluster store for everything on one machine: a SQLite file that several processes open, any of which may be
 * killed at any instant (its locks go with it, the log is recovered by the next).
 */
import { randomUUID } from "node:crypto";
import { mkdirSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { OperatingError } from "../kernel/failure.ts";
import type { Change, ClusterStore, DeleteResult, Entry, SwapResult, Versioned } from "./store.ts";

export interface SqliteStoreOptions {
  /** Milliseconds an operation waits for a locked store before it gives up; default 2000. */
  timeoutMs?: number;
  /** Milliseconds between two looks for changes; default 25. A look costs some 10 µs. */
  pollMs?: number;
}

/** SQLite waits in the calling thread, and an instance's thread has an application to stop and let go: so wait little, try often. */
const lockWaitMs = 2;
const retryMs = 4;

// A deleted key stays as a row without value, so that watchers learn of it; there are as many as names were ever used.
// synchronous=NORMAL: a commit survives the death of any process, not that of the machine, which would end all nodes
// of such a cluster anyway; in exchange no change of view waits for a disk.
const schema = `
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = NORMAL;
  CREATE TABLE IF NOT EXISTS store (only INTEGER PRIMARY KEY CHECK (only = 1), identity TEXT NOT NULL, version INTEGER NOT NULL);
  CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value TEXT, revision INTEGER NOT NULL UNIQUE) STRICT;
`;
const schemaVersion = 1;

interface Row {
  key: string;
  value: string | null;
  revision: number;
}

interface Connection {
  database: DatabaseSync;
  /** Device and inode: a file of the same name may be another one. */
  file: string;
  get: StatementSync;
  since: StatementSync;
  put: StatementSync;
  dataVersion: StatementSync;
}

interface Watcher {
  prefix: string;
  listener: (change: Change) => void;
  seen: number;
}

export class SqliteStore implements ClusterStore {
  readonly #path: string;
  readonly #timeoutMs: number;
  readonly #pollMs: number;
  readonly #watchers = new Set<Watcher>();
  #connection: Connection | undefined;
  /** Set by the first opening: a store that is lost is not replaced by an empty one. */
  #identity: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #dataVersion = -1;
  #closed = false;

  constructor(path: string, options: SqliteStoreOptions = {}) {
    this.#path = path;
    this.#timeoutMs = options.timeoutMs ?? 2000;
    this.#pollMs = options.pollMs ?? 25;
  }

  get<T>(key: string): Promise<Versioned<T> | undefined> {
    return this.#attempt((connection) => current<T>(connection, key));
  }

  list<T>(prefix: string): Promise<Entry<T>[]> {
    return this.#attempt((connection) =>
      rowsSince(connection, prefix, 0)
        .filter((row) => row.value !== null)
        .map((row) => ({ key: row.key, value: JSON.parse(row.value!) as T, revision: row.revision }))
        .sort((a, b) => (a.key < b.key ? -1 : 1)),
    );
  }

  compareAndSwap(key: string, expectedRevision: number, value: unknown): Promise<SwapResult> {
    const text = JSON.stringify(value);
    if (text === undefined) throw new TypeError(`The value of "${key}" is not JSON`);
    return this.#change(key, expectedRevision, text);
  }

  async delete(key: string, expectedRevision: number): Promise<DeleteResult> {
    if (expectedRevision === 0) throw new TypeError(`A key that must not exist ("${key}") cannot be deleted`);
    const result = await this.#change(key, expectedRevision, null);
    return result.ok ? { ok: true } : result;
  }

  watch(prefix: string, listener: (change: Change) => void, signal: AbortSignal): void {
    if (signal.aborted || this.#closed) return;
    const watcher: Watcher = { prefix, listener, seen: 0 };
    this.#watchers.add(watcher);
    signal.addEventListener("abort", () => this.#unwatch(watcher), { once: true });
    this.#dataVersion = -1;
    this.#timer ??= setInterval(() => this.#poll(), this.#pollMs);
  }

  close(): void {
    this.#closed = true;
    for (const watcher of this.#watchers) this.#unwatch(watcher);
    this.#disconnect();
  }

  /** Opens the file, making it if it is not there. @throws OperatingError `store-unreachable` */
  open(): Promise<void> {
    return this.#attempt(() => undefined);
  }

  #unwatch(watcher: Watcher): void {
    this.#watchers.delete(watcher);
    if (this.#watchers.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  async #change(key: string, expectedRevision: number, text: string | null): Promise<SwapResult> {
    const result = await this.#attempt((connection): SwapResult => {
      connection.database.exec("BEGIN IMMEDIATE");
      try {
        const found = current(connection, key);
        if ((found?.revision ?? 0) !== expectedRevision) {
          connection.database.exec("ROLLBACK");
          return { ok: false, current: found };
        }
        const { revision } = connection.put.get(key, text) as { revision: number };
        connection.database.exec("COMMIT");
        return { ok: true, revision };
      } catch (error) {
        if (connection.database.isTransaction) connection.database.exec("ROLLBACK");
        throw error;
      }
    });
    // data_version does not count what this connection did itself.
    if (result.ok) this.#dataVersion = -1;
    return result;
  }

  /** Runs `work` as soon as the lock allows, without blocking the event loop meanwhile. */
  async #attempt<T>(work: (connection: Connection) => T): Promise<T> {
    const deadline = performance.now() + this.#timeoutMs;
    for (;;) {
      if (this.#closed) throw unreachable(this.#path, new Error("The store is closed"));
      try {
        return work(this.#connect());
      } catch (error) {
        if (!isBusy(error)) {
          this.#disconnect();
          throw unreachable(this.#path, error);
        }
        if (performance.now() > deadline) throw unreachable(this.#path, error);
      }
      await new Promise((resolve) => setTimeout(resolve, retryMs * (0.5 + Math.random())));
    }
  }

  #poll(): void {
    try {
      const connection = this.#connect();
      const { data_version: version } = connection.dataVersion.get() as { data_version: number };
      if (version === this.#dataVersion) return;
      for (const watcher of this.#watchers) this.#tell(watcher, connection);
      this.#dataVersion = version;
    } catch (error) {
      // The next poll tries again; who needs the store now learns of it by his own operation.
      if (error instanceof ListenerError) throw error.cause;
      if (!isBusy(error)) this.#disconnect();
    }
  }

  #tell(watcher: Watcher, connection: Connection): void {
    const first = watcher.seen === 0;
    for (const row of rowsSince(connection, watcher.prefix, watcher.seen)) {
      watcher.seen = row.revision;
      // To a new watcher a key deleted long ago is no news.
      if (first && row.value === null) continue;
      if (!this.#watchers.has(watcher)) return;
      const value: unknown = row.value === null ? undefined : JSON.parse(row.value);
      try {
        watcher.listener({ key: row.key, value, revision: row.revision });
      } catch (cause) {
        throw new ListenerError("A watcher failed", { cause });
      }
    }
  }

  /** The connection, after a look whether its file is still the one under that name: a moved file would be a store of our own. */
  #connect(): Connection {
    const file = this.#connection === undefined ? undefined : identify(this.#path);
    if (this.#connection !== undefined && file === this.#connection.file) return this.#connection;
    this.#disconnect();
    if (this.#identity === undefined) mkdirSync(dirname(this.#path), { recursive: true });
    // Only the first opening may make the file.
    else statSync(this.#path);
    const database = new DatabaseSync(this.#path, { timeout: lockWaitMs });
    try {
      this.#connection = prepare(database, this.#path, this.#identity);
    } catch (error) {
      database.close();
      throw error;
    }
    this.#identity = (database.prepare("SELECT identity FROM store").get() as { identity: string }).identity;
    this.#dataVersion = -1;
    return this.#connection;
  }

  #disconnect(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    try {
      connection?.database.close();
    } catch {
      // A connection to a broken file may not close well; it is given up either way.
    }
  }
}

class ListenerError extends Error {}

function prepare(database: DatabaseSync, path: string, identity: string | undefined): Connection {
  database.exec(schema);
  database.prepare("INSERT OR IGNORE INTO store VALUES (1, ?, ?)").run(randomUUID(), schemaVersion);
  const store = database.prepare("SELECT identity, version FROM store").get() as { identity: string; version: number };
  if (store.version !== schemaVersion) throw new Error(`The store has version ${store.version}, not ${schemaVersion}`);
  if (identity !== undefined && store.identity !== identity) throw new Error("Another store stands in its place");
  return {
    database,
    file: identify(path),
    get: database.prepare("SELECT value, revision FROM entries WHERE key = ? AND value IS NOT NULL"),
    // By the index of revisions; a LIKE or GLOB would give some characters of the prefix a meaning.
    since: database.prepare(
      "SELECT key, value, revision FROM entries WHERE revision > ? AND substr(key, 1, length(?2)) = ?2 ORDER BY revision",
    ),
    put: database.prepare(
      `INSERT INTO entries VALUES (?, ?, (SELECT ifnull(max(revision), 0) + 1 FROM entries))
       ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision RETURNING revision`,
    ),
    dataVersion: database.prepare("PRAGMA data_version"),
  };
}

function current<T>(connection: Connection, key: string): Versioned<T> | undefined {
  const row = connection.get.get(key) as { value: string; revision: number } | undefined;
  return row === undefined ? undefined : { value: JSON.parse(row.value) as T, revision: row.revision };
}

function rowsSince(connection: Connection, prefix: string, revision: number): Row[] {
  return connection.since.all(revision, prefix) as unknown as Row[];
}

function identify(path: string): string {
  const { dev, ino } = statSync(path);
  return `${dev}:${ino}`;
}

/** SQLITE_BUSY and SQLITE_LOCKED, with their extended codes (https://www.sqlite.org/rescode.html). */
function isBusy(error: unknown): boolean {
  const code = (error as { errcode?: number }).errcode;
  return code !== undefined && [5, 6].includes(code & 0xff);
}

function unreachable(path: string, cause: unknown): OperatingError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new OperatingError("store-unreachable", `The cluster store "${path}" does not answer: ${reason}`, {
    remedy:
      "Applications that are in sync go on meanwhile. Check that the file and its directory are there and writable.",
    cause,
  });
}
