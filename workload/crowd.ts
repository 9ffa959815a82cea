/** Many small applications that do nothing, spread over the nodes of a lab: what there is of them, and where. */
import { setTimeout as sleep } from "node:timers/promises";
import type { ApplicationReport } from "../src/agent/api-types.ts";
import { AgentClient } from "../src/agent/client.ts";
import type { Lab } from "../src/lab/lab.ts";
import { ProtectedApplication } from "./application.ts";

/** So many are started at a time: each is two processes that want their share of the machine. */
const AT_A_TIME = 4;
const FIRST_HOST = 100;
/** Each look asks every primary: it must not be what they are busy with. */
const POLL_MS = 3000;

export class Crowd {
  readonly #lab: Lab;
  readonly applications: ProtectedApplication[];

  constructor(lab: Lab, count: number) {
    this.#lab = lab;
    this.applications = Array.from({ length: count }, (_, index) => {
      const address = `10.77.0.${FIRST_HOST + index}/24`;
      const placement = { standbys: 1, replaceAfter: 2 };
      return new ProtectedApplication(lab, {
        name: `small-${index}`,
        command: ["sleep", "infinity"],
        address,
        placement,
      });
    });
  }

  /** Starts them, on one node after the other; where their clones are the cluster chooses. Resolves when all run. */
  async start(nodes: readonly string[]): Promise<void> {
    const left = this.applications.map((one, index) => ({ one, home: nodes[index % nodes.length]! }));
    const worker = async () => {
      for (let next = left.shift(); next !== undefined; next = left.shift())
        await next.one.protect({ home: next.home, standby: [], limitMs: 180_000 });
    };
    await Promise.all(Array.from({ length: AT_A_TIME }, worker));
  }

  /** Resolves when each has a clone in sync. @throws the reports of those that have none when the time is over */
  async untilProtected(limitMs: number): Promise<ApplicationReport[]> {
    const deadline = performance.now() + limitMs;
    for (;;) {
      const reports = await this.#reports();
      const open = reports.filter(({ state, inSync }) => state !== "protected" || inSync.length === 0);
      if (reports.length >= this.applications.length && open.length === 0) return reports;
      if (performance.now() > deadline)
        throw new Error(`Not protected: ${open.map(({ name, state }) => `${name} (${state})`).join(", ")}`);
      await sleep(POLL_MS);
    }
  }

  async #reports(): Promise<ApplicationReport[]> {
    const { nodes } = await this.#lab.status();
    const asked = nodes.find(({ agent }) => agent === "running");
    if (asked === undefined) return [];
    const client = AgentClient.unix(asked.agentSocket);
    try {
      return await client.json<ApplicationReport[]>("GET", "/v1/applications", { timeoutMs: 20_000 });
    } catch {
      // It has just lost its power, or its store: the next look asks again.
      return [];
    } finally {
      client.close();
    }
  }
}

/** How many primaries and clones each node has. */
export function copiesByNode(
  reports: readonly ApplicationReport[],
): Map<string, { primaries: number; clones: number }> {
  const copies = new Map<string, { primaries: number; clones: number }>();
  const at = (node: string) => {
    const found = copies.get(node) ?? { primaries: 0, clones: 0 };
    copies.set(node, found);
    return found;
  };
  for (const { primary, inSync } of reports) {
    if (primary !== null) at(primary).primaries++;
    for (const node of inSync) at(node).clones++;
  }
  return copies;
}
