/** The lab that the matrix runs in, asked through whichever of its agents answers. */
import { setTimeout as sleep } from "node:timers/promises";
import { AgentClient } from "../../src/agent/client.ts";
import { OperatingError } from "../../src/kernel/failure.ts";
import type { Lab } from "../../src/lab/lab.ts";

const REQUEST_MS = 90_000;
const POLL_MS = 120;

export class Cluster {
  readonly lab: Lab;
  readonly nodes: readonly string[];
  readonly #off = new Set<string>();

  constructor(lab: Lab, nodes: readonly string[]) {
    this.lab = lab;
    this.nodes = nodes;
  }

  async powerOff(node: string): Promise<void> {
    this.#off.add(node);
    await this.lab.powerOff(node);
  }

  async powerOn(node: string): Promise<void> {
    await this.lab.powerOn(node);
    this.#off.delete(node);
  }

  agent(node: string): AgentClient {
    return AgentClient.unix(this.lab.agentSocket(node));
  }

  /** Any agent may be asked anything. @param first the node to ask first, when it is on */
  async ask<T>(method: string, path: string, options: { body?: unknown; first?: string | undefined } = {}): Promise<T> {
    const { body, first } = options;
    const on = this.nodes.filter((node) => !this.#off.has(node));
    const order = first !== undefined && on.includes(first) ? [first, ...on.filter((node) => node !== first)] : on;
    let failure: unknown = new OperatingError("lab-off", "All nodes of the lab are off");
    for (const node of order) {
      try {
        const request = { timeoutMs: REQUEST_MS, ...(body !== undefined && { body }) };
        return await this.agent(node).json<T>(method, path, request);
      } catch (error) {
        if (!(error instanceof OperatingError) || error.code !== "node-unreachable") throw error;
        failure = error;
      }
    }
    throw failure;
  }
}

/** Looks until there is something; what went wrong last is told. The time is for a machine that others load, too. */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined> | T | undefined,
  timeoutMs = 60_000,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  let failure: unknown;
  for (;;) {
    try {
      const found = await look();
      if (found !== undefined) return found;
      failure = undefined;
    } catch (error) {
      if (error instanceof Wrong) throw error;
      failure = error;
    }
    if (performance.now() > deadline) break;
    await sleep(POLL_MS);
  }
  const why = failure === undefined ? "" : `: ${(failure as Error).message}`;
  throw new Error(`Not within ${timeoutMs / 1000} s: ${what}${why}`, { cause: failure });
}

/** The answer is known, and is no. */
export class Wrong extends Error {}
