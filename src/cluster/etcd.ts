/** The cluster store of a real cluster: etcd 3.4, by its JSON gateway. Keys stand under a prefix, so that an etcd may be shared. */
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { OperatingError } from "../kernel/failure.ts";
import { EtcdClient } from "./etcd-client.ts";
import type { Change, ClusterStore, DeleteResult, Entry, SwapResult, Versioned } from "./store.ts";
import type { MutualTlsOptions } from "./tls.ts";

export interface EtcdStoreOptions {
  /** `host:port` of the members. */
  endpoints: string[];
  prefix?: string;
  tls?: MutualTlsOptions | undefined;
  /** Milliseconds until a member that does not answer counts as unreachable; default 3000. */
  timeoutMs?: number;
  /** Milliseconds between two looks whether a watch still lives: a dead connection is silent; default 500. */
  checkMs?: number;
}

// protobuf's JSON: 64-bit numbers are strings, zero and empty are left out.
const number = z.string().default("0").transform(Number);
const base64 = z
  .string()
  .default("")
  .transform((text) => Buffer.from(text, "base64").toString("utf8"));
const pair = z.object({ key: base64, value: base64, mod_revision: number });
const header = z.object({ revision: number });
const rangeAnswer = z.object({ header, kvs: z.array(pair).default([]), count: number });
const swapAnswer = z.object({
  header,
  succeeded: z.boolean().default(false),
  responses: z.array(z.object({ response_range: z.object({ kvs: z.array(pair).default([]) }).optional() })).default([]),
});
const watchLine = z.object({
  result: z.object({
    canceled: z.boolean().default(false),
    events: z.array(z.object({ type: z.enum(["PUT", "DELETE"]).default("PUT"), kv: pair })).default([]),
  }),
});

type Pair = z.infer<typeof pair>;

export class EtcdStore implements ClusterStore {
  readonly #client: EtcdClient;
  readonly #options: EtcdStoreOptions;
  readonly #prefix: string;
  readonly #closing = new AbortController();

  constructor(options: EtcdStoreOptions) {
    this.#options = options;
    this.#prefix = options.prefix ?? "understudy/";
    const answerMs = options.timeoutMs ?? 3000;
    this.#client = new EtcdClient({
      endpoints: options.endpoints,
      tls: options.tls,
      connectMs: Math.min(1000, answerMs),
      answerMs,
    });
  }

  async get<T>(key: string): Promise<Versioned<T> | undefined> {
    const { kvs } = await this.#range({ key: this.#encode(key) });
    return kvs[0] === undefined ? undefined : versioned<T>(kvs[0]);
  }

  async list<T>(prefix: string): Promise<Entry<T>[]> {
    const { kvs } = await this.#range(this.#under(prefix));
    return kvs.map((kv) => this.#entry<T>(kv)).sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  compareAndSwap(key: string, expectedRevision: number, value: unknown): Promise<SwapResult> {
    const json = JSON.stringify(value);
    if (json === undefined) throw new TypeError(`The value of "${key}" is not JSON`);
    const text = json + signature();
    return this.#transact(key, expectedRevision, { success: [this.#put(key, text)], proof: key, text });
  }

  async delete(key: string, expectedRevision: number): Promise<DeleteResult> {
    if (expectedRevision === 0) throw new TypeError(`A key that must not exist ("${key}") cannot be deleted`);
    // Of a key that is gone nobody could say who deleted it; a token that is for one use would be taken for two.
    const [proof, text] = [`deleted/${key}`, signature()];
    const success = [{ request_delete_range: { key: this.#encode(key) } }, this.#put(proof, text)];
    const result = await this.#transact(key, expectedRevision, { success, proof, text });
    return result.ok ? { ok: true } : result;
  }

  watch(prefix: string, listener: (change: Change) => void, signal: AbortSignal): void {
    void this.#watch(prefix, listener, AbortSignal.any([signal, this.#closing.signal]));
  }

  /** The node's certificate has been renewed. */
  renew(tls: MutualTlsOptions): void {
    this.#client.renew(tls);
  }

  close(): void {
    this.#closing.abort();
    this.#client.close();
  }

  #put(key: string, text: string): object {
    return { request_put: { key: this.#encode(key), value: Buffer.from(text).toString("base64") } };
  }

  /** May be done twice: the second time the revision has changed, and the text at `proof`, which nobody else writes, tells that it was done. */
  async #transact(
    key: string,
    expectedRevision: number,
    { success, proof, text }: { success: object[]; proof: string; text: string },
  ): Promise<SwapResult> {
    const encoded = this.#encode(key);
    const body = {
      compare: [{ key: encoded, target: "MOD", result: "EQUAL", mod_revision: String(expectedRevision) }],
      success,
      failure: [key, proof].map((one) => ({ request_range: { key: this.#encode(one) } })),
    };
    const { body: told, attempts } = await this.#reach(() => this.#client.ask("/v3/kv/txn", body, true));
    const answer = swapAnswer.parse(told);
    if (answer.succeeded) return { ok: true, revision: answer.header.revision };
    const [current, proven] = answer.responses.map(({ response_range }) => response_range?.kvs[0]);
    if (attempts > 1 && proven?.value === text) return { ok: true, revision: proven.mod_revision };
    return { ok: false, current: current && versioned(current) };
  }

  async #range(body: object): Promise<z.infer<typeof rangeAnswer>> {
    const { body: told } = await this.#reach(() => this.#client.ask("/v3/kv/range", body));
    return rangeAnswer.parse(told);
  }

  async #reach<T>(ask: () => Promise<T>): Promise<T> {
    try {
      if (this.#closing.signal.aborted) throw new Error("The store is closed");
      return await ask();
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new OperatingError("store-unreachable", `The cluster store does not answer: ${reason}`, {
        remedy: "Applications that are in sync go on meanwhile. Check that a majority of the etcd members runs.",
        cause,
        details: { endpoints: this.#options.endpoints },
      });
    }
  }

  /** The present, then a stream of changes; after an interruption the difference between what was told and what is. */
  async #watch(prefix: string, listener: (change: Change) => void, signal: AbortSignal): Promise<void> {
    const told = new Map<string, number>();
    while (!signal.aborted) {
      try {
        const { header, kvs } = await this.#range(this.#under(prefix));
        if (signal.aborted) return;
        this.#tellDifference(told, kvs, header.revision, listener);
        const interrupted = new AbortController();
        const either = AbortSignal.any([signal, interrupted.signal]);
        void this.#checkWatch(prefix, told, either, interrupted);
        await this.#follow(prefix, header.revision + 1, told, listener, either);
      } catch (error) {
        if (error instanceof ListenerError) throw error.cause;
      }
      if (!signal.aborted) await sleep(50, undefined, { signal }).catch(() => {});
    }
  }

  #tellDifference(told: Map<string, number>, kvs: Pair[], revision: number, listener: (change: Change) => void): void {
    const present = new Set(kvs.map((kv) => kv.key));
    for (const kv of kvs.toSorted((a, b) => a.mod_revision - b.mod_revision)) this.#tell(told, kv, false, listener);
    for (const key of told.keys()) {
      if (!present.has(key)) this.#tell(told, { key, value: "", mod_revision: revision }, true, listener);
    }
  }

  async #follow(
    prefix: string,
    revision: number,
    told: Map<string, number>,
    listener: (change: Change) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const body = { create_request: { ...this.#under(prefix), start_revision: String(revision) } };
    for await (const line of this.#client.stream("/v3/watch", body, signal)) {
      const { result } = watchLine.parse(line);
      for (const { type, kv } of result.events) {
        if (signal.aborted) return;
        this.#tell(told, kv, type === "DELETE", listener);
      }
      // Its history was compacted away, or the member is leaving.
      if (result.canceled) return;
    }
  }

  #tell(told: Map<string, number>, kv: Pair, deleted: boolean, listener: (change: Change) => void): void {
    if ((told.get(kv.key) ?? 0) >= kv.mod_revision) return;
    if (deleted) told.delete(kv.key);
    else told.set(kv.key, kv.mod_revision);
    const change = {
      key: kv.key.slice(this.#prefix.length),
      value: deleted ? undefined : JSON.parse(kv.value),
      revision: kv.mod_revision,
    };
    try {
      listener(change);
    } catch (cause) {
      throw new ListenerError("A watcher failed", { cause });
    }
  }

  /** Interrupts a watch whose member is dead or cut off: by a question of its own, for silence alone says nothing. */
  async #checkWatch(
    prefix: string,
    told: Map<string, number>,
    signal: AbortSignal,
    interrupted: AbortController,
  ): Promise<void> {
    const newest = { ...this.#under(prefix), sort_order: "DESCEND", sort_target: "MOD", limit: "1", keys_only: true };
    let missing = 0;
    while (!signal.aborted) {
      await sleep(this.#options.checkMs ?? 500, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      try {
        const { kvs, count } = await this.#range(newest);
        const complete = count === told.size && (kvs[0] === undefined || told.get(kvs[0].key) === kvs[0].mod_revision);
        // Once may be a change that is under way.
        missing = complete ? 0 : missing + 1;
        if (missing < 2) continue;
      } catch {
        // The range has tried every member; the watch is not better off.
      }
      interrupted.abort();
      return;
    }
  }

  #entry<T>(kv: Pair): Entry<T> {
    return { key: kv.key.slice(this.#prefix.length), ...versioned<T>(kv) };
  }

  #encode(key: string): string {
    return Buffer.from(this.#prefix + key).toString("base64");
  }

  /** etcd's range of a prefix: up to, not including, the prefix with its last byte raised. */
  #under(prefix: string): { key: string; range_end: string } {
    const end = Buffer.from(this.#prefix + prefix);
    end[end.length - 1] = end.at(-1)! + 1;
    return { key: this.#encode(prefix), range_end: end.toString("base64") };
  }
}

class ListenerError extends Error {}

function versioned<T>(kv: Pair): Versioned<T> {
  return { value: JSON.parse(kv.value) as T, revision: kv.mod_revision };
}

const SIGNATURE_BYTES = 8;

/** Space that means nothing in JSON and is different each time: two who write the same value can tell whose it is. */
function signature(): string {
  const bits = [...randomBytes(SIGNATURE_BYTES)].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  return `\n${bits.replaceAll("0", " ").replaceAll("1", "\t")}`;
}
