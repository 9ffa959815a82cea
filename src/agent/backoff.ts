/** Paces attempts: after a failure wait, twice as long after each further one, never two attempts of one thing at once. */
import { limits } from "./limits.ts";

interface Record {
  running: boolean;
  failures: number;
  notBeforeMs: number;
}

export class Backoff {
  readonly #records = new Map<string, Record>();

  /** True when an attempt may begin now; `begin` it then. */
  ready(key: string, nowMs: number): boolean {
    const record = this.#records.get(key);
    return record === undefined || (!record.running && nowMs >= record.notBeforeMs);
  }

  begin(key: string): void {
    const record = this.#records.get(key);
    this.#records.set(key, { failures: record?.failures ?? 0, notBeforeMs: record?.notBeforeMs ?? 0, running: true });
  }

  succeeded(key: string, nowMs: number): void {
    // Success that does not last must not become a busy loop.
    this.#records.set(key, { running: false, failures: 0, notBeforeMs: nowMs + limits.retryFirstMs });
  }

  failed(key: string, nowMs: number): void {
    const failures = (this.#records.get(key)?.failures ?? 0) + 1;
    const waitMs = Math.min(limits.retryFirstMs * 2 ** (failures - 1), limits.retryLastMs);
    this.#records.set(key, { running: false, failures, notBeforeMs: nowMs + waitMs });
  }

  /** Forgets everything whose key begins so. Attempts that run go on. */
  forget(prefix: string): void {
    for (const key of this.#records.keys()) if (key.startsWith(prefix)) this.#records.delete(key);
  }
}
