/** A cluster of real agents on the loopback addresses, each with its own directories and cgroup, and fake instances. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { stringify } from "yaml";
import type { ApplicationReport, ProtectProgress, ProtectRequest, StreamLine } from "../../../src/agent/api-types.ts";
import { cgroupMount, killCgroup } from "../../../src/agent/cgroup.ts";
import { AgentClient } from "../../../src/agent/client.ts";
import { createAuthority, issueCertificate } from "../../../src/cluster/pki.ts";
import { fromFailure, OperatingError } from "../../../src/kernel/failure.ts";

const agentProgram = new URL("../../../src/agent/main.ts", import.meta.url).pathname;
const instanceProgram = new URL("./fake-instance.ts", import.meta.url).pathname;

export interface TestNode {
  name: string;
  host: string;
  port: number;
  directory: string;
  run: string;
  cgroup: string;
  client: AgentClient;
  process: ChildProcess | undefined;
}

export class TestCluster {
  readonly directory = mkdtempSync(join(tmpdir(), "understudy-agent-"));
  readonly nodes = new Map<string, TestNode>();
  readonly cgroup = join(cgroupMount(), `understudy-test-${process.pid}-${Math.random().toString(36).slice(2, 8)}`);

  /** @param more keys of every node's configuration; `lifetimeSeconds` of the certificates they begin with */
  static async start(names: string[], more: object = {}, lifetimeSeconds = 86_400): Promise<TestCluster> {
    const cluster = new TestCluster();
    cluster.#more = more;
    cluster.#lifetimeSeconds = lifetimeSeconds;
    mkdirSync(cluster.cgroup);
    await createAuthority(join(cluster.directory, "ca"));
    for (const [index, name] of names.entries()) await cluster.#prepare(name, `127.0.0.${index + 1}`);
    await Promise.all(names.map((name) => cluster.startAgent(name)));
    return cluster;
  }

  #more: object = {};
  #lifetimeSeconds = 0;

  node(name: string): TestNode {
    return this.nodes.get(name)!;
  }

  async startAgent(name: string): Promise<void> {
    const node = this.node(name);
    const child = spawn(process.execPath, [agentProgram, "--config", join(node.directory, "agent.yaml")], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, UNDERSTUDY_LOG: "info" },
    });
    node.process = child;
    let text = "";
    child.stderr.on("data", (chunk) => {
      text += chunk;
    });
    for (;;) {
      if (child.exitCode !== null) throw new Error(`The agent of ${name} ended:\n${text}`);
      if (existsSync(join(node.run, "agent.sock"))) {
        if (
          await node.client.json("GET", "/v1/health", { timeoutMs: 500 }).then(
            () => true,
            () => false,
          )
        )
          return;
      }
      await sleep(20);
    }
  }

  async kill(name: string, signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const { process: child } = this.node(name);
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, "exit");
    child.kill(signal);
    await exit;
  }

  async protect(
    node: string,
    request: Partial<ProtectRequest>,
    onProgress: (progress: ProtectProgress) => void = () => {},
    signal?: AbortSignal,
  ): Promise<ApplicationReport> {
    const body = { name: "app", command: ["sleep", "1000"], address: "10.99.0.10/24", ...request };
    const lines = this.node(node).client.lines<StreamLine<ApplicationReport>>("POST", "/v1/applications", {
      body,
      signal,
    });
    return resultOf(lines, onProgress);
  }

  /** Removes every application, on all nodes. */
  async removeAll(): Promise<void> {
    const { client } = this.nodes.values().next().value!;
    for (const { name } of await client.json<{ name: string }[]>("GET", "/v1/applications"))
      await client.json("DELETE", `/v1/applications/${name}`);
  }

  report(node: string, application = "app"): Promise<ApplicationReport> {
    return this.node(node).client.json("GET", `/v1/applications/${application}`);
  }

  async close(): Promise<void> {
    await Promise.all([...this.nodes.keys()].map((name) => this.kill(name)));
    await killCgroup(this.cgroup);
    for (const { client } of this.nodes.values()) client.close();
    rmSync(this.directory, { recursive: true, force: true });
  }

  async #prepare(name: string, host: string): Promise<void> {
    const directory = join(this.directory, name);
    const run = join(directory, "run");
    const cgroup = join(this.cgroup, name);
    const port = await freePort(host);
    mkdirSync(run, { recursive: true });
    mkdirSync(cgroup);
    const tls = await issueCertificate(join(this.directory, "ca"), {
      name,
      hosts: [host],
      outDirectory: join(directory, "tls"),
      days: this.#lifetimeSeconds / 86_400,
    });
    const config = {
      name,
      listen: { host, port },
      bridge: "no-bridge",
      store: `sqlite:${this.directory}/store.db`,
      tls,
      stateDirectory: join(directory, "state"),
      runDirectory: run,
      cgroup,
      instanceProgram,
      // The first node is where the cluster was made.
      ...(this.nodes.size === 0 && { authority: join(this.directory, "ca") }),
      ...this.#more,
    };
    writeFileSync(join(directory, "agent.yaml"), stringify(config));
    const client = AgentClient.unix(join(run, "agent.sock"));
    this.nodes.set(name, { name, host, port, directory, run, cgroup, client, process: undefined });
  }

  /** A node whose `agent.yaml` `understudy join` has written in a directory of its name; its agent is started. */
  async startJoined(name: string, host: string, port: number): Promise<void> {
    const directory = join(this.directory, name);
    const run = join(directory, "run");
    const cgroup = join(this.cgroup, name);
    mkdirSync(run, { recursive: true });
    mkdirSync(cgroup);
    const here = {
      bridge: "no-bridge",
      stateDirectory: join(directory, "state"),
      runDirectory: run,
      cgroup,
      instanceProgram,
    };
    appendFileSync(join(directory, "agent.yaml"), stringify(here));
    const client = AgentClient.unix(join(run, "agent.sock"));
    this.nodes.set(name, { name, host, port, directory, run, cgroup, client, process: undefined });
    await this.startAgent(name);
  }
}

/** What a streamed answer comes to; throws the error in it. */
export async function resultOf<R, P>(
  lines: AsyncIterable<StreamLine<R, P>>,
  onProgress: (progress: P) => void = () => {},
): Promise<R> {
  for await (const line of lines) {
    if ("progress" in line) onProgress(line.progress);
    else if ("error" in line) throw fromFailure(line.error);
    else return line.result;
  }
  throw new Error("The answer ended early");
}

/** For assert.rejects: an operating error of this code, with such a message. */
export function failure(code: string, pattern = /./): (error: unknown) => true {
  return (error) => {
    assert.ok(error instanceof OperatingError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, pattern);
    return true;
  };
}

/** Polls until `probe` gives something true; fails with what it gave last. */
export async function eventually<T>(probe: () => Promise<T> | T, what: string, timeoutMs = 10_000): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  let last: unknown;
  do {
    try {
      const value = await probe();
      if (value) return value;
      last = value;
    } catch (error) {
      last = error;
    }
    await sleep(50);
  } while (performance.now() < deadline);
  throw new Error(`${what} did not happen within ${timeoutMs} ms; last: ${String(last)}`);
}

export function isAlive(pid: number): boolean {
  try {
    return !readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ");
  } catch {
    return false;
  }
}

export function freePort(host: string): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, host, () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
