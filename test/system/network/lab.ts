/** A small network for these tests: hosts as network namespaces on one bridge, in a namespace of the test's own. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { closeNamespace, inNamespace, openNamespace } from "../../../src/kernel/namespace.ts";

export function ip(...commands: string[]): void {
  const result = spawnSync("ip", ["-batch", "-"], { input: commands.join("\n") + "\n", encoding: "utf8" });
  if (result.status !== 0) throw new Error(`ip failed: ${result.stderr}\n${commands.join("\n")}`);
}

/** A process that does nothing but hold a new network namespace: the application's init as far as the network is concerned. */
export class Host {
  readonly name: string;
  readonly fd: number;
  readonly holder: ChildProcess;
  readonly #children: ChildProcess[] = [];
  #closed = false;

  private constructor(name: string, holder: ChildProcess) {
    this.name = name;
    this.holder = holder;
    this.fd = openNamespace(`/proc/${holder.pid}/ns/net`);
  }

  static async create(name: string): Promise<Host> {
    const holder = spawn("unshare", ["-n", "sh", "-c", "echo ready; exec sleep 600"], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await new Promise((resolve) => holder.stdout!.once("data", resolve));
    const host = new Host(name, holder);
    host.run(() => ip("link set lo up"));
    return host;
  }

  get pid(): number {
    return this.holder.pid!;
  }

  run<T>(fn: () => T): T {
    return inNamespace(this.fd, fn);
  }

  /** Runs a command here; returns its output. */
  exec(command: string, ...args: string[]): string {
    const result = this.run(() => spawnSync(command, args, { encoding: "utf8" }));
    return result.stdout + result.stderr;
  }

  spawn(command: string, args: string[]): ChildProcess {
    const child = this.run(() => spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] }));
    this.#children.push(child);
    return child;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const child of [this.holder, ...this.#children]) child.kill("SIGKILL");
    closeNamespace(this.fd);
  }
}

/** One "switch" with ports for nodes and clients. Each node has its bridge `br0` with an uplink. */
export class Network {
  readonly hosts: Host[] = [];
  readonly wire: Host;

  private constructor(wire: Host) {
    this.wire = wire;
    this.hosts.push(wire);
  }

  static async create(): Promise<Network> {
    const wire = await Host.create("wire");
    wire.run(() => ip("link add br0 type bridge", "link set br0 up"));
    return new Network(wire);
  }

  async client(address: string): Promise<Host> {
    const host = await Host.create("client");
    this.hosts.push(host);
    const end = `w${this.hosts.length}`;
    this.wire.run(() =>
      ip(`link add ${end} type veth peer name eth0 netns ${host.pid}`, `link set ${end} master br0 up`),
    );
    const nodad = address.includes(":") ? " nodad" : "";
    host.run(() => ip("link set eth0 up", `address add ${address} dev eth0${nodad}`));
    return host;
  }

  async node(address: string): Promise<Host> {
    const host = await Host.create("node");
    this.hosts.push(host);
    const end = `w${this.hosts.length}`;
    this.wire.run(() =>
      ip(`link add ${end} type veth peer name up0 netns ${host.pid}`, `link set ${end} master br0 up`),
    );
    host.run(() =>
      ip("link add br0 type bridge", "link set up0 master br0 up", "link set br0 up", `address add ${address} dev br0`),
    );
    return host;
  }

  async application(): Promise<Host> {
    const host = await Host.create("application");
    this.hosts.push(host);
    return host;
  }

  close(): void {
    for (const host of this.hosts) host.close();
  }
}

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
