/** The agents of the other nodes, by name. */
import type { Identity } from "../cluster/identity.ts";
import type { Health } from "./api-types.ts";
import { AgentClient } from "./client.ts";
import { limits } from "./limits.ts";
import type { Records } from "./records.ts";
import { isStoreAway } from "./store-watch.ts";

export class Peers {
  readonly #records: Records;
  readonly #identity: Identity;
  readonly #headers: () => Record<string, string>;
  readonly #clients = new Map<string, { api: string; client: AgentClient }>();

  /** @param headers what goes with every question */
  constructor(records: Records, identity: Identity, headers: () => Record<string, string>) {
    this.#headers = headers;
    this.#records = records;
    this.#identity = identity;
    identity.onRenewed(() => {
      for (const { client } of this.#clients.values()) client.retire();
      this.#clients.clear();
    });
  }

  /** @throws OperatingError `node-unknown` */
  async client(node: string): Promise<AgentClient> {
    const known = this.#clients.get(node);
    const record = await this.#records.node(node).catch((error: unknown) => {
      // Where it was is where it is.
      if (known !== undefined && isStoreAway(error)) return known;
      throw error;
    });
    const { api } = record;
    if (known?.api === api) return known.client;
    known?.client.close();
    const client = AgentClient.tls(api, this.#identity.options, node, this.#headers);
    this.#clients.set(node, { api, client });
    return client;
  }

  /** @throws OperatingError `node-unknown`, `node-unreachable` */
  async health(node: string): Promise<Health> {
    const client = await this.client(node);
    return client.json<Health>("GET", "/v1/health", { timeoutMs: limits.peerHealthTimeoutMs });
  }

  /** What is asked of a node that dies or is cut off meanwhile fails soon, long before the answer is overdue. */
  async whileHealthy<T>(node: string, ask: (signal: AbortSignal) => Promise<T>): Promise<T> {
    await this.health(node);
    const abort = new AbortController();
    let failures = 0;
    const timer = setInterval(() => {
      this.health(node).then(
        () => {
          failures = 0;
        },
        (error) => {
          failures++;
          if (failures >= limits.peerFailures) abort.abort(error);
        },
      );
    }, limits.peerHealthTimeoutMs);
    try {
      return await ask(abort.signal);
    } finally {
      clearInterval(timer);
    }
  }

  close(): void {
    for (const { client } of this.#clients.values()) client.close();
  }
}
