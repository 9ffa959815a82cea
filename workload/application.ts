/** An application under protection in a lab, as the demo, the benchmarks and the system tests see it from outside. */
import { setTimeout as sleep } from "node:timers/promises";
import type {
  ApplicationReport,
  CheckpointSummary,
  Health,
  NodeReport,
  ProtectProgress,
  ProtectRequest,
  StreamLine,
  SwitchResult,
} from "../src/agent/api-types.ts";
import { AgentClient } from "../src/agent/client.ts";
import type { AgentEvent } from "../src/agent/events.ts";
import type { CommitPolicy } from "../src/cluster/spec.ts";
import { fromFailure, OperatingError } from "../src/kernel/failure.ts";
import type { Lab } from "../src/lab/lab.ts";
import type { Spawn } from "./driver.ts";

export const POLL_MS = 50;

/** An empty Redis is in sync after seconds, on a busy machine, too. */
const PROTECT_LIMIT_MS = 60_000;

export interface ProtectOptions {
  commit?: CommitPolicy;
  home?: string;
  standby?: string[];
  period?: number | "auto";
  signal?: AbortSignal;
  onProgress?: (progress: ProtectProgress) => void;
  /** How long it may take until the standbys are in sync; default a minute. */
  limitMs?: number;
}

/** What an application is, wherever it runs. */
export type Program = Pick<
  ProtectRequest,
  | "name"
  | "command"
  | "environment"
  | "workingDirectory"
  | "address"
  | "placement"
  | "balance"
  | "restart"
  | "health"
  | "keep"
  | "disk"
  | "durable"
>;

export class ProtectedApplication {
  readonly lab: Lab;
  readonly program: Program;
  /** Starts a workload on the client host. */
  readonly spawn: Spawn;

  constructor(lab: Lab, program: Program) {
    this.lab = lab;
    this.program = program;
    // A process group of its own: an interrupt typed at the terminal is for the parent, who ends things in order.
    this.spawn = (argv) => lab.spawnInClient(argv, { stdio: ["pipe", "pipe", "pipe"], detached: true });
  }

  get name(): string {
    return this.program.name;
  }

  /** Starts it under protection; resolves when its standbys are in sync. @throws OperatingError the agent's */
  async protect(options: ProtectOptions = {}): Promise<ApplicationReport> {
    const { commit = "checkpoint", home = "node-a", standby = ["node-b"], period = "auto" } = options;
    const limit = AbortSignal.timeout(options.limitMs ?? PROTECT_LIMIT_MS);
    const signal = options.signal === undefined ? limit : AbortSignal.any([options.signal, limit]);
    const body: ProtectRequest = { ...this.program, standby, commit, period };
    const agent = AgentClient.unix(this.lab.agentSocket(home));
    await untilKnown(agent, standby, signal);
    const lines = agent.lines<StreamLine<ApplicationReport>>("POST", "/v1/applications", { body, signal });
    for await (const line of lines) {
      if ("error" in line) throw fromFailure(line.error);
      if ("result" in line) return line.result;
      options.onProgress?.(line.progress);
    }
    throw new OperatingError("protect-unanswered", `The agent of "${home}" ended its answer without a result`);
  }

  async report(): Promise<ApplicationReport> {
    return this.#ask("GET", `/v1/applications/${this.name}`);
  }

  async checkpoints(): Promise<CheckpointSummary[]> {
    return this.#ask("GET", `/v1/applications/${this.name}/checkpoints`);
  }

  /** What happened on all nodes that are on, oldest first. */
  async events(): Promise<AgentEvent[]> {
    return this.#ask("GET", `/v1/events?application=${this.name}`);
  }

  /** @throws OperatingError as `understudy switch` */
  async switchTo(to: string): Promise<SwitchResult> {
    return this.#ask("POST", `/v1/applications/${this.name}/switch`, { to });
  }

  /** Nodes on which a copy of the application runs, not only waits: there must never be two. */
  async copiesRunning(): Promise<string[]> {
    const { nodes } = await this.lab.status();
    const running = nodes.filter(({ agent }) => agent === "running");
    const healths = await Promise.all(
      running.map(({ agentSocket }) => AgentClient.unix(agentSocket).json<Health>("GET", "/v1/health")),
    );
    const primary = ({ application, role }: Health["instances"][number]) =>
      application === this.name && role === "primary";
    return healths.filter(({ instances }) => instances.some(primary)).map(({ name }) => name);
  }

  /** Switches on every node that is off. */
  async allOn(): Promise<void> {
    const { nodes } = await this.lab.status();
    for (const { name, power } of nodes) if (power === "off") await this.lab.powerOn(name);
  }

  /** Ends it everywhere. */
  async stop(): Promise<void> {
    await this.#ask("DELETE", `/v1/applications/${this.name}`);
  }

  /** Waits until the application runs and this many standbys are in sync. @throws OperatingError `not-protected` */
  async untilProtected({ standbys = 1, timeoutMs = 60_000, term = 0 } = {}): Promise<ApplicationReport> {
    const deadline = performance.now() + timeoutMs;
    let last: ApplicationReport | undefined;
    let failure: unknown;
    while (performance.now() < deadline) {
      try {
        last = await this.report();
        const inSync = last.standbys.filter(({ state }) => state === "in-sync").length;
        if (last.state === "ended") break;
        if (last.state === "protected" && inSync >= standbys && last.term >= term) return last;
      } catch (error) {
        failure = error;
      }
      await sleep(POLL_MS);
    }
    const state = last === undefined ? "unknown" : `${last.state} in term ${last.term} on "${last.primary}"`;
    const ended = last?.ended === undefined ? "" : ` (${last.ended.reason})`;
    throw new OperatingError("not-protected", `"${this.name}" is not protected but ${state}${ended}`, {
      details: { problems: last?.problems ?? [], standbys: last?.standbys ?? [] },
      cause: failure,
    });
  }

  /** Any agent may be asked anything; one that has just died is passed over. */
  async #ask<T>(method: string, path: string, body?: unknown): Promise<T> {
    const { nodes } = await this.lab.status();
    let failure: unknown = new OperatingError("lab-off", "All nodes of the lab are off");
    for (const { name } of nodes.filter(({ agent }) => agent === "running")) {
      try {
        const agent = AgentClient.unix(this.lab.agentSocket(name));
        const options = { timeoutMs: 60_000, ...(body !== undefined && { body }) };
        return await agent.json<T>(method, path, options);
      } catch (error) {
        if (!(error instanceof OperatingError) || error.code !== "node-unreachable") throw error;
        failure = error;
      }
    }
    throw failure;
  }
}

/** A node that has just been switched on answers before it has told the others of itself. */
async function untilKnown(agent: AgentClient, nodes: string[], signal: AbortSignal): Promise<void> {
  for (;;) {
    const known = await agent.json<NodeReport[]>("GET", "/v1/nodes", { signal });
    if (nodes.every((node) => known.some(({ name, alive }) => name === node && alive))) return;
    await sleep(POLL_MS, undefined, { signal });
  }
}
