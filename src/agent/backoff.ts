/** Paces attempts: after a failure wait, twice as long after each further one, never two attempts of one thing at once. */
import { limits } from "./limits.ts";

interface Record {
  running: boolean;
  failures: number;
  notBeforeMs: number;
  /** Of the last success. */
  succeededMs: number;
}

export class Backoff {
  readonly #records = new Map<string, Record>();

  /** True when an attempt may begin now; `begin` it then. */
  ready(key: string, nowMs: number): boolean {
    const record = this.#records.get(key);
    return record === undefined || (!record.running && nowMs >= record.notBeforeMs);
  }

  /** True when what was seen at `seenMs` cannot know yet that the last attempt succeeded. */
  isOld(key: string, seenMs: number): boolean {
    return seenMs <= (this.#records.get(key)?.succeededMs ?? Number.NEGATIVE_INFINITY);
  }

  begin(key: string): void {
    const record = this.#records.get(key);
    const { failures = 0, notBeforeMs = 0, succeededMs = 0 } = record ?? {};
    this.#records.set(key, { failures, notBeforeMs, succeededMs, running: true });
  }

  succeeded(key: string, nowMs: number): void {
    // Success that does not last must not become a busy loop.
    const notBeforeMs = nowMs + limits.retryFirstMs;
    this.#records.set(key, { running: false, failures: 0, notBeforeMs, succeededMs: nowMs });
  }

  failed(key: string, nowMs: number): void {
    const { failures: before = 0, succeededMs = 0 } = this.#records.get(key) ?? {};
    const failures = before + 1;
    const waitMs = Math.min(limits.retryFirstMs * 2 ** (failures - 1), limits.retryLastMs);
    this.#records.set(key, { running: false, failures, notBeforeMs: nowMs + waitMs, succeededMs });
  }

  /** Forgets everything whose key begins so. Attempts that run go on. */
  forget(prefix: string): void {
    for (const key of this.#records.keys()) if (key.startsWith(prefix)) this.#records.delete(key);
  }
}
