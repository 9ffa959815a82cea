/** Who makes the moves of `balance: auto`, and what the next one knows of them. The store and the other nodes are made up. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { AutoBalancer } from "../../../src/agent/auto-balance.ts";
import type { AgentContext } from "../../../src/agent/context.ts";
import type { ApplicationRecord } from "../../../src/agent/records.ts";
import { type ApplicationSpec, applicationDefaults } from "../../../src/cluster/spec.ts";

const GB = 2 ** 30;

class Cluster {
  #word: { value: unknown; revision: number } | undefined;
  /** Where the applications run; each has the other node for a standby. */
  readonly primaries = new Map<string, string>();
  /** Cores that each uses. */
  readonly cpu = new Map<string, number>();
  readonly moves: string[] = [];

  balancer(node: string): AutoBalancer {
    const context = {
      node,
      drained: new Set(),
      log: { warn: (_: object, text: string) => assert.fail(text) },
      events: {
        add: ({ kind, application }: { kind: string; application: string }) =>
          kind === "balancing" && this.moves.push(`${node}: ${application}`),
      },
      records: {
        nodes: async () => ["a", "b"].map((name) => ({ name, labels: {} })),
        applications: async () => new Map(this.#records().map((record) => [record.name, record])),
        known: async () => assert.fail("No move is made"),
      },
      peers: {
        health: async (name: string) => ({
          load: {
            capacity: { cpu: 4, memory: 16 * GB, network: 1e9 },
            applications: Object.fromEntries(
              [...this.primaries]
                .filter(([, primary]) => primary === name)
                .map(([one]) => [one, { cpu: this.cpu.get(one)!, memory: GB, network: 0 }]),
            ),
          },
        }),
      },
      store: {
        get: async () => this.#word,
        compareAndSwap: async (_: string, revision: number, value: unknown) => {
          if (revision !== (this.#word?.revision ?? 0)) return { ok: false };
          this.#word = { value: structuredClone(value), revision: revision + 1 };
          return { ok: true };
        },
      },
    };
    return new AutoBalancer(context as unknown as AgentContext, () => this.#records());
  }

  #records(): ApplicationRecord[] {
    return [...this.primaries].map(([name, primary]) => {
      const standby = primary === "a" ? "b" : "a";
      const spec = { ...applicationDefaults, name, home: primary, standby: [standby] } as unknown as ApplicationSpec;
      const balance = name.startsWith("auto") ? "auto" : "manual";
      return {
        name,
        spec: { value: { ...spec, balance }, revision: 1 },
        view: { value: { term: 1, primary, inSync: [standby] }, revision: 1 },
      };
    });
  }
}

test("what one has moved rests for the next one, which does not move it back at once", async () => {
  const cluster = new Cluster();
  const { signal } = new AbortController();
  for (const [name, primary, cpu] of [
    ["fixed-a", "a", 2],
    ["auto", "a", 1.5],
    ["fixed-b", "b", 0.1],
  ] as const) {
    cluster.primaries.set(name, primary);
    cluster.cpu.set(name, cpu);
  }
  const first = cluster.balancer("a");
  for (let look = 0; look < 3; look++) await first.look(signal);
  assert.deepEqual(cluster.moves, ["a: auto"]);
  // It has moved; now the other node is much fuller, and the first one has nothing to look after any more.
  cluster.primaries.set("auto", "b");
  cluster.cpu.set("fixed-a", 0.1);
  cluster.cpu.set("fixed-b", 2);
  const second = cluster.balancer("b");
  for (let look = 0; look < 12; look++) {
    await first.look(signal);
    await second.look(signal);
  }
  assert.deepEqual(cluster.moves, ["a: auto"]);
});
