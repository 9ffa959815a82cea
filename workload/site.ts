/**
 * A lab with a Redis in it, as the demo, the benchmarks and the system tests use it: protected under the service
 * address, or unprotected on a node's own address to compare with.
 */
import type { ChildProcess } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import type {
  ApplicationReport,
  CheckpointSummary,
  Health,
  ProtectProgress,
  StreamLine,
  SwitchResult,
} from "../src/agent/api-types.ts";
import { AgentClient } from "../src/agent/client.ts";
import type { AgentEvent } from "../src/agent/events.ts";
import type { CommitPolicy } from "../src/cluster/spec.ts";
import { fromFailure, OperatingError } from "../src/kernel/failure.ts";
import type { Lab } from "../src/lab/lab.ts";
import { fillKeys, type Spawn } from "./driver.ts";

export const APPLICATION = "redis";
export const SERVICE = { host: "10.77.0.10", port: 6379 };
const UNPROTECTED_PORT = 6390;
/** Of a key's value; a megabyte of data are a thousand keys, with what Redis needs besides. */
export const VALUE_BYTES = 900;
const KEYS_PER_MEGABYTE = 1000;
const POLL_MS = 50;
/** An empty Redis is in sync after seconds, on a busy machine, too. */
const PROTECT_LIMIT_MS = 60_000;

export const keysOf = (megabytes: number) => megabytes * KEYS_PER_MEGABYTE;

function redisCommand(port: number): string[] {
  const noDisk = ["--save", "", "--appendonly", "no"];
  return ["redis-server", "--port", String(port), "--bind", "0.0.0.0", "--protected-mode", "no", ...noDisk];
}

export interface ProtectOptions {
  commit?: CommitPolicy;
  home?: string;
  standby?: string[];
  period?: number | "auto";
  signal?: AbortSignal;
  onProgress?: (progress: ProtectProgress) => void;
}

export class RedisSite {
  readonly lab: Lab;
  /** Starts a workload on the client host. */
  readonly spawn: Spawn;

  constructor(lab: Lab) {
    this.lab = lab;
    // A process group of its own: an interrupt typed at the terminal is for the parent, who ends things in order.
    this.spawn = (argv) => lab.spawnInClient(argv, { stdio: ["pipe", "pipe", "pipe"], detached: true });
  }

  /** Starts Redis under protection; resolves when its standbys are in sync. @throws OperatingError the agent's */
  async protect(options: ProtectOptions = {}): Promise<ApplicationReport> {
    const { commit = "checkpoint", home = "node-a", standby = ["node-b"], period = "auto" } = options;
    const limit = AbortSignal.timeout(PROTECT_LIMIT_MS);
    const signal = options.signal === undefined ? limit : AbortSignal.any([options.signal, limit]);
    const address = `${SERVICE.host}/24`;
    const body = { name: APPLICATION, command: redisCommand(SERVICE.port), address, standby, commit, period };
    const agent = AgentClient.unix(this.lab.agentSocket(home));
    const lines = agent.lines<StreamLine<ApplicationReport>>("POST", "/v1/applications", { body, signal });
    for await (const line of lines) {
      if ("error" in line) throw fromFailure(line.error);
      if ("result" in line) return line.result;
      options.onProgress?.(line.progress);
    }
    throw new OperatingError("protect-unanswered", `The agent of "${home}" ended its answer without a result`);
  }

  /** Sets `megabytes` of data, every key once. */
  async fill(megabytes: number, target = SERVICE, onProgress: (share: number) => void = () => {}): Promise<void> {
    const keys = keysOf(megabytes);
    await fillKeys(this.spawn, { ...target, keys, valueBytes: VALUE_BYTES, progressMs: 1000 }, (message) => {
      if (message.event === "progress") onProgress(message.answered / keys);
    });
  }

  async report(): Promise<ApplicationReport> {
    return this.#ask("GET", `/v1/applications/${APPLICATION}`);
  }

  async checkpoints(): Promise<CheckpointSummary[]> {
    return this.#ask("GET", `/v1/applications/${APPLICATION}/checkpoints`);
  }

  /** What happened on all nodes that are on, oldest first. */
  async events(): Promise<AgentEvent[]> {
    return this.#ask("GET", `/v1/events?application=${APPLICATION}`);
  }

  /** @throws OperatingError as `understudy switch` */
  async switchTo(to: string): Promise<SwitchResult> {
    return this.#ask("POST", `/v1/applications/${APPLICATION}/switch`, { to });
  }

  /** Nodes on which a copy of the application runs, not only waits: there must never be two. */
  async copiesRunning(): Promise<string[]> {
    const { nodes } = await this.lab.status();
    const running = nodes.filter(({ agent }) => agent === "running");
    const healths = await Promise.all(
      running.map(({ agentSocket }) => AgentClient.unix(agentSocket).json<Health>("GET", "/v1/health")),
    );
    const primary = ({ application, role }: Health["instances"][number]) =>
      application === APPLICATION && role === "primary";
    return healths.filter(({ instances }) => instances.some(primary)).map(({ name }) => name);
  }

  /** Switches on every node that is off. */
  async allOn(): Promise<void> {
    const { nodes } = await this.lab.status();
    for (const { name, power } of nodes) if (power === "off") await this.lab.powerOn(name);
  }

  /** Ends Redis everywhere. */
  async stop(): Promise<void> {
    await this.#ask("DELETE", `/v1/applications/${APPLICATION}`);
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
    throw new OperatingError("not-protected", `"${APPLICATION}" is not protected but ${state}${ended}`, {
      details: { problems: last?.problems ?? [], standbys: last?.standbys ?? [] },
      cause: failure,
    });
  }

  /** An unprotected Redis on a node's own address; it ends with the scope. */
  async unprotected(node = "node-a"): Promise<{ host: string; port: number } & AsyncDisposable> {
    const { address: host } = await this.lab.requireNode(node);
    const child = await this.lab.spawn(node, redisCommand(UNPROTECTED_PORT), { stdio: "ignore" });
    const target = { host, port: UNPROTECTED_PORT };
    try {
      await this.#untilAnswers(target, child);
    } catch (error) {
      await kill(child);
      throw error;
    }
    return { ...target, [Symbol.asyncDispose]: () => kill(child) };
  }

  async #untilAnswers({ host, port }: { host: string; port: number }, child: ChildProcess): Promise<void> {
    for (let tries = 0; tries < 100 && child.exitCode === null; tries++) {
      const { stdout } = await this.lab.client(["redis-cli", "-h", host, "-p", String(port), "ping"]);
      if (stdout.startsWith("PONG")) return;
      await sleep(POLL_MS);
    }
    throw new OperatingError("redis-start", `The unprotected Redis at ${host}:${port} does not answer`);
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

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await gone;
}
