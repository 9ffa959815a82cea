/** A cluster on this machine: nodes and a client host in namespaces, for tests, benchmarks, the demo and for playing. */
import type { ChildProcess, SpawnOptions } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, readFile, rename, rm, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isPopulated, killCgroup } from "../agent/cgroup.ts";
import { AgentClient } from "../agent/client.ts";
import { createAuthority, issueCertificate } from "../cluster/pki.ts";
import type { TlsFiles } from "../cluster/tls.ts";
import { OperatingError } from "../kernel/failure.ts";
import { tryLock } from "../kernel/file-lock.ts";
import { probeHost, requireHost } from "../kernel/host.ts";
import { type CollectOptions, type CommandResult, collect } from "./command.ts";
import { memberNodes, requireStore, type StoreChoice } from "./etcd.ts";
import {
  API_PORT,
  CLIENT,
  clientAddress,
  type LabPlaces,
  labPlaces,
  MOST_NODES,
  type NodePlaces,
  namespaceOf,
  nodePlaces,
  runRoot,
  SWITCH,
  stateRoot,
} from "./layout.ts";
import { cutLinks, healLinks, type Link, listCuts, makeSwitch, namespacesOf, removeNamespaces } from "./network.ts";
import {
  AGENT_COMMAND,
  answers,
  isOn,
  makeDisk,
  memberOff,
  memberOn,
  powerOff,
  powerOn,
  spawnInCgroup,
  spawnInNode,
} from "./node.ts";

const LOCK_WAIT_MS = 15_000;
/** File systems that go with the last process write out what is in memory, and the machine may have much else to do. */
const END_LIMIT_MS = 60_000;
const POLL_MS = 20;
/** Three members elect their first leader, and every agent registers. */
const STORE_WAIT_MS = 30_000;

export interface LabOptions {
  /** Default `lab`. */
  name?: string;
  /** For tests of the lab itself: what each node runs as its agent. It shall listen on /run/understudy/agent.sock. */
  agentCommand?: string[];
}

export interface UpOptions {
  /** 1 to 9; default 3. */
  nodes?: number;
  /** The cluster store: `sqlite` (default), `etcd`: members on the nodes, or `etcd://host:port,…`: one that runs already. */
  store?: StoreChoice;
  /** Further keys of agents' configurations, by node. */
  configurations?: Record<string, object>;
  /** Takes down a lab of this name that is up, instead of refusing. */
  replace?: boolean;
  /** Called with what is being done. */
  onProgress?: (what: string) => void;
}

export interface LabStatus {
  name: string;
  up: boolean;
  store: StoreChoice;
  nodes: NodeStatus[];
  client: { address: string };
  cuts: Link[];
}

export interface NodeStatus {
  name: string;
  address: string;
  api: string;
  power: "on" | "off";
  agent: "running" | "starting" | "off";
  /** Unix socket of the agent, reachable from this machine. */
  agentSocket: string;
  stateDirectory: string;
  log: string;
}

interface LabRecord {
  name: string;
  nodes: number;
  store: StoreChoice;
  createdAt: string;
  agentCommand: string[];
}

export class Lab {
  readonly name: string;
  readonly #places: LabPlaces;
  readonly #agentCommand: string[];
  #coming: { controller: AbortController; done: Promise<void> } | undefined;

  /** Of a lab that is up already or will be: nothing is done yet. @throws OperatingError `lab-name-invalid` */
  constructor({ name = "lab", agentCommand = AGENT_COMMAND }: LabOptions = {}) {
    this.name = name;
    this.#places = labPlaces(name);
    this.#agentCommand = agentCommand;
  }

  /**
   * Makes the lab and waits until every agent answers and knows all the others. What a crashed lab of this name left is cleared away first.
   * Whatever fails, nothing stays behind.
   * @throws OperatingError `lab-exists`, `lab-busy`, `lab-nodes-invalid`, `host-lacks`, `node-start`
   */
  async up(options: UpOptions = {}): Promise<void> {
    const controller = new AbortController();
    const done = this.#up(options, controller.signal);
    this.#coming = { controller, done };
    try {
      await done;
    } finally {
      this.#coming = undefined;
    }
  }

  async #up(
    { nodes: count = 3, store = "sqlite", configurations = {}, replace = false, onProgress = () => {} }: UpOptions,
    signal: AbortSignal,
  ): Promise<void> {
    if (!Number.isInteger(count) || count < 1 || count > MOST_NODES) {
      throw new OperatingError("lab-nodes-invalid", `A lab has 1 to ${MOST_NODES} nodes, not "${count}"`);
    }
    requireHost(await probeHost());
    await requireStore(store);
    using _lock = await this.#lock();
    if (this.isUp() && !replace) {
      throw new OperatingError("lab-exists", `The lab "${this.name}" is up already`, {
        remedy: `understudy lab down --name ${this.name}, or another --name`,
      });
    }
    try {
      await this.#clear();
      signal.throwIfAborted();
      onProgress("making the network and the nodes' disks");
      const places = this.#places;
      const nodes = Array.from({ length: count }, (_, index) => nodePlaces(places, index));
      await Promise.all([places.store, places.runDirectory].map((path) => mkdir(path, { recursive: true })));
      await Promise.all([makeSwitch(places), this.#makeDisks(nodes, store, configurations)]);
      signal.throwIfAborted();
      onProgress(`starting ${count === 1 ? "one node" : `${count} nodes`}`);
      await settleAll(nodes.map((node) => powerOn(places, node, this.#agentCommand, signal)));
      signal.throwIfAborted();
      if (store !== "sqlite") onProgress("waiting for the cluster store");
      if (this.#agentCommand === AGENT_COMMAND) await this.#untilRegistered(nodes, signal);
      await this.#writeRecord({
        name: this.name,
        nodes: count,
        store,
        createdAt: new Date().toISOString(),
        agentCommand: this.#agentCommand,
      });
    } catch (error) {
      onProgress("clearing away");
      await this.#clear();
      if (signal.aborted)
        throw new OperatingError("lab-interrupted", `The start of the lab "${this.name}" was interrupted`);
      throw error;
    }
  }

  async #makeDisks(nodes: NodePlaces[], store: StoreChoice, configurations: Record<string, object>): Promise<void> {
    const places = this.#places;
    await createAuthority(places.authority);
    const names = nodes.map(({ address, name }) => `${address} ${name}\n`).join("");
    const hosts = `${await readFile("/etc/hosts", "utf8").catch(() => "127.0.0.1 localhost\n")}${names}`;
    const client = { name: CLIENT, hosts: [clientAddress], outDirectory: places.clientTls };
    await Promise.all([
      ...nodes.map((node) => makeDisk(places, node, { nodes, hosts, store, more: configurations[node.name] ?? {} })),
      issueCertificate(places.authority, client),
    ]);
  }

  /** Every node knows all the others: so the store answers, and each agent has written its record. */
  async #untilRegistered(nodes: NodePlaces[], signal: AbortSignal): Promise<void> {
    const deadline = performance.now() + STORE_WAIT_MS;
    for (const { name, agentSocket } of nodes) {
      for (let known = 0; known < nodes.length; ) {
        signal.throwIfAborted();
        try {
          known = (await AgentClient.unix(agentSocket).json<unknown[]>("GET", "/v1/nodes", { timeoutMs: 2000 })).length;
          if (known < nodes.length && performance.now() > deadline)
            throw new Error(`It knows ${known} of ${nodes.length} nodes`);
        } catch (cause) {
          if (performance.now() < deadline) continue;
          throw new OperatingError("lab-store-silent", `The cluster store does not answer "${name}"`, {
            remedy: `Look at the nodes' logs: understudy lab log --name ${this.name} ${name}; with --store etcd at etcd.log beside them.`,
            cause,
          });
        } finally {
          await sleep(POLL_MS);
        }
      }
    }
  }

  async #writeRecord(record: LabRecord): Promise<void> {
    await writeFile(`${this.#places.record}.new`, `${JSON.stringify(record, null, 2)}\n`);
    await rename(`${this.#places.record}.new`, this.#places.record);
  }

  /** Removes the lab with everything of it; ends a start of this object that is under way. Never up: nothing to do. */
  async down(): Promise<void> {
    this.#coming?.controller.abort();
    await this.#coming?.done.catch(() => {});
    using _lock = await this.#lock();
    await this.#clear();
  }

  async #clear(): Promise<void> {
    const { cgroup, directory, runDirectory } = this.#places;
    await killCgroup(cgroup, END_LIMIT_MS);
    if (isPopulated(cgroup)) {
      throw new OperatingError("lab-stuck", `Processes of the lab "${this.name}" do not end`, {
        remedy: `Look at the processes in ${cgroup}`,
      });
    }
    await removeNamespaces(this.name);
    for (const path of [runDirectory, directory]) await rm(path, { recursive: true, force: true, maxRetries: 10 });
    // The parents go with the last lab.
    for (const path of [runRoot, stateRoot, join(cgroup, "..")]) await rmdir(path).catch(() => {});
  }

  async #lock(): Promise<Disposable> {
    const deadline = performance.now() + LOCK_WAIT_MS;
    for (;;) {
      const lock = tryLock(this.#places.lock);
      if (lock !== undefined) return lock;
      if (performance.now() > deadline) {
        throw new OperatingError("lab-busy", `Another command is making or removing the lab "${this.name}"`, {
          remedy: "Wait for it, or end it.",
        });
      }
      await sleep(POLL_MS);
    }
  }

  /** True from the end of `up` until `down` (or the machine's reboot), whatever the power of its nodes. */
  isUp(): boolean {
    const switchNamespace = namespaceOf(this.name, SWITCH);
    // A reboot takes the namespaces, but where /run is on a disk it leaves their names: the mount tells them apart.
    const mounted = () => readFileSync("/proc/self/mountinfo", "utf8").includes(`/run/netns/${switchNamespace} `);
    return existsSync(this.#places.record) && namespacesOf(this.name).includes(switchNamespace) && mounted();
  }

  /** @throws OperatingError `lab-down` */
  async #record(): Promise<LabRecord> {
    if (!this.isUp()) {
      throw new OperatingError("lab-down", `The lab "${this.name}" is not up`, {
        remedy: `understudy lab up --name ${this.name}`,
      });
    }
    return JSON.parse(await readFile(this.#places.record, "utf8")) as LabRecord;
  }

  async #nodes(): Promise<NodePlaces[]> {
    const { nodes } = await this.#record();
    return Array.from({ length: nodes }, (_, index) => nodePlaces(this.#places, index));
  }

  async #node(name: string): Promise<NodePlaces> {
    const nodes = await this.#nodes();
    const node = nodes.find((candidate) => candidate.name === name);
    if (node !== undefined) return node;
    throw new OperatingError("no-such-node", `The lab "${this.name}" has no node "${name}"`, {
      remedy: `Its nodes: ${nodes.map((candidate) => candidate.name).join(", ")}`,
    });
  }

  /**
   * Everything of the node dies in one instant; nothing of it, not even a goodbye of its kernel, reaches the network.
   * @throws OperatingError `lab-down`, `no-such-node`, `node-off`
   */
  async powerOff(name: string): Promise<void> {
    const node = await this.#node(name);
    if (!isOn(node)) throw new OperatingError("node-off", `"${name}" is off already`);
    await powerOff(this.#places, node);
  }

  /**
   * Starts the node with the disk it had, and waits until its agent answers.
   * @throws OperatingError `lab-down`, `no-such-node`, `node-on`, `node-start`
   */
  async powerOn(name: string): Promise<void> {
    const node = await this.#node(name);
    if (isOn(node)) throw new OperatingError("node-on", `"${name}" is on already`);
    await powerOn(this.#places, node, (await this.#record()).agentCommand);
  }

  /**
   * Ends the node's member of the lab's etcd, and only it.
   * @throws OperatingError `lab-down`, `no-such-node`, `no-member`
   */
  async storeOff(name: string): Promise<void> {
    await memberOff(await this.#member(name));
  }

  /** Starts the node's member again with the data it had. @throws OperatingError as `storeOff`, and `node-off` */
  async storeOn(name: string): Promise<void> {
    await memberOn(await this.#member(name));
  }

  async #member(name: string): Promise<NodePlaces> {
    const [node, nodes, { store }] = await Promise.all([this.#node(name), this.#nodes(), this.#record()]);
    const members = store === "etcd" ? memberNodes(nodes).map((member) => member.name) : [];
    if (members.includes(node.name)) return node;
    throw new OperatingError("no-member", `"${name}" has no member of the cluster store`, {
      remedy: members.length === 0 ? "Make the lab with --store etcd." : `Nodes that have one: ${members.join(", ")}`,
    });
  }

  /** Cuts what `from` sends to `to`, and back unless `oneWay`. Hosts are nodes or `client`. */
  async cut(from: string, to: string, { oneWay = false }: { oneWay?: boolean } = {}): Promise<void> {
    await cutLinks(this.#places, await this.#links(from, to, oneWay));
  }

  /** Heals the link between two hosts, both ways unless `oneWay`; without hosts, all links. */
  async heal(from?: string, to?: string, { oneWay = false }: { oneWay?: boolean } = {}): Promise<void> {
    await this.#record();
    const links = from === undefined || to === undefined ? undefined : await this.#links(from, to, oneWay);
    await healLinks(this.#places, links);
  }

  async #links(from: string, to: string, oneWay: boolean): Promise<Link[]> {
    for (const host of [from, to]) if (host !== CLIENT) await this.#node(host);
    if (from === to) throw new OperatingError("link-invalid", `"${from}" has no link to itself`);
    return [{ from, to }, ...(oneWay ? [] : [{ from: to, to: from }])];
  }

  /** Runs a command on a node, to its end. @throws OperatingError `node-off`, `no-such-node`, `lab-down` */
  async exec(name: string, argv: string[], options: CollectOptions = {}): Promise<CommandResult> {
    const child = await this.spawn(name, argv, { stdio: ["pipe", "pipe", "pipe"] });
    return collect(child, options);
  }

  /** Starts a command on a node: all its namespaces, its file system, its cgroup. */
  async spawn(name: string, argv: string[], options: SpawnOptions = {}): Promise<ChildProcess> {
    return spawnInNode(await this.#node(name), argv, options);
  }

  /** Starts a command on the client host: its network, this machine's file system. It ends with the lab. */
  async spawnInClient(argv: string[], options: SpawnOptions = {}): Promise<ChildProcess> {
    await this.#record();
    const cgroup = join(this.#places.cgroup, CLIENT);
    await mkdir(cgroup, { recursive: true });
    const enter = ["nsenter", `--net=/run/netns/${namespaceOf(this.name, CLIENT)}`, "--"];
    return spawnInCgroup(cgroup, [...enter, ...argv], options);
  }

  /** Runs a command on the client host, to its end. */
  async client(argv: string[], options: CollectOptions = {}): Promise<CommandResult> {
    return collect(await this.spawnInClient(argv, { stdio: ["pipe", "pipe", "pipe"] }), options);
  }

  /** Unix socket of a node's agent, reachable from this machine. */
  agentSocket(name: string): string {
    return join(this.#places.runDirectory, name, "agent.sock");
  }

  /** The node's state directory as this machine sees it (on the node: /var/lib/understudy). */
  stateDirectory(name: string): string {
    return join(this.#places.directory, name, "state");
  }

  /** One node, or the error that lists those there are. @throws OperatingError `no-such-node`, `lab-down` */
  async requireNode(name: string): Promise<NodeStatus> {
    return this.#nodeStatus(await this.#node(name));
  }

  /** Everything the node's agent has printed. */
  agentLog(name: string): string {
    return join(this.#places.directory, name, "agent.log");
  }

  /** cgroup2 directory of a node. */
  cgroup(name: string): string {
    return join(this.#places.cgroup, name);
  }

  /** A certificate of the cluster's authority for the client host. */
  get clientTls(): TlsFiles {
    const at = (file: string) => join(this.#places.clientTls, file);
    return { ca: at("ca.crt"), certificate: at("node.crt"), key: at("node.key") };
  }

  async status(): Promise<LabStatus> {
    if (!this.isUp())
      return { name: this.name, up: false, store: "sqlite", nodes: [], client: { address: clientAddress }, cuts: [] };
    const nodes = await Promise.all((await this.#nodes()).map((node) => this.#nodeStatus(node)));
    const { store = "sqlite" } = await this.#record();
    return {
      name: this.name,
      up: true,
      store,
      nodes,
      client: { address: clientAddress },
      cuts: await listCuts(this.#places),
    };
  }

  async #nodeStatus(node: NodePlaces): Promise<NodeStatus> {
    const on = isOn(node);
    const agent = !on ? "off" : (await answers(node.agentSocket)) ? "running" : "starting";
    const { name, address, agentSocket, log } = node;
    const api = `https://${address}:${API_PORT}`;
    return {
      name,
      address,
      api,
      power: on ? "on" : "off",
      agent,
      agentSocket,
      stateDirectory: this.stateDirectory(name),
      log,
    };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.down();
  }
}

/** Waits for all, also when one fails: what is cleared away afterwards must not be made meanwhile. */
async function settleAll(work: Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(work)).find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}
