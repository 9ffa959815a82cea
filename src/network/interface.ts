/** The application's network: a veth between its namespace and the node's bridge, its address, and what may pass. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { isIPv6 } from "node:net";
import { closeDescriptor, makeMemory, openPath, spawn } from "../kernel/calls.ts";
import { OperatingError } from "../kernel/failure.ts";
import { O_RDWR, writeAt } from "../kernel/files.ts";
import { FrameSender, FrameTap, interfaceIndex } from "../kernel/link.ts";
import { closeNamespace, inNamespace, openNamespace } from "../kernel/namespace.ts";
import { announcement } from "./announcement.ts";
import { Gate, PASS } from "./gate.ts";

/**
 * `blocked`: nothing passes, either way. `collecting`: the address is answered for (ARP, neighbour discovery), what arrives is
 * kept, nothing leaves. `speaking`: the same, but what the application sends passes. `forwarding`: what was kept is
 * delivered, everything passes. A take-over goes through all four: restored connections must have sent what they have
 * (`speaking`) before anything reaches them, because the kernel throws away a packet that acknowledges more than was sent.
 */
export type PortState = "blocked" | "collecting" | "speaking" | "forwarding";

export interface InterfaceOptions {
  application: string;
  /** Process 1 of the application, as this node sees it, already in its own network namespace. */
  initPid: number;
  /** The node's bridge, in the network namespace of the calling process. */
  bridge: string;
  /** `10.77.0.10/24` or an IPv6 address with prefix length. */
  address: string;
  gateway?: string;
  /** True on a standby: routes let restored connections send all they have at once (see `tuneRoutes`). */
  restoring?: boolean;
}

const APPLICATION_END = "eth0";
const NAME_LIMIT = 15;
const TAP_GRACE_MS = 1000;

const portFlags: Record<PortState, number> = {
  blocked: 0,
  collecting: PASS.neighbours,
  speaking: PASS.neighbours | PASS.out,
  forwarding: PASS.neighbours | PASS.in | PASS.out,
};

function stateOf(flags: number): PortState {
  const states = Object.keys(portFlags) as PortState[];
  return states.find((state) => portFlags[state] === (flags & ~PASS.free)) ?? "blocked";
}

/** Name of the node's end: `us-NAME`, shortened with a hash when it would not fit. */
export function nodeEndName(application: string): string {
  const plain = `us-${application}`;
  if (plain.length <= NAME_LIMIT && /^[\w.-]+$/.test(plain)) return plain;
  return `us-${createHash("sha256")
    .update(application)
    .digest("hex")
    .slice(0, NAME_LIMIT - 3)}`;
}

/** The application's MAC address: the same on every node, locally administered, so that neighbours' tables stay right. */
export function macAddress(application: string): string {
  const hash = createHash("sha256").update(`understudy ${application}`).digest();
  return ["02", ...[...hash.subarray(0, 5)].map((byte) => byte.toString(16).padStart(2, "0"))].join(":");
}

export class ApplicationInterface {
  readonly nodeEnd: string;
  readonly address: string;
  readonly #options: InterfaceOptions;
  readonly #namespaceFd: number;
  readonly #gate: Gate;
  readonly #announcer: FrameSender;
  readonly #redeliver: FrameSender;
  readonly #applicationIndex: number;
  readonly #announcement: Buffer;
  #tap: FrameTap | undefined;
  #state: PortState = "blocked";
  #free = true;
  #closed = false;

  private constructor(
    options: InterfaceOptions,
    namespaceFd: number,
    gate: Gate,
    indexes: [node: number, application: number],
  ) {
    this.#options = options;
    this.nodeEnd = nodeEndName(options.application);
    this.address = options.address.split("/")[0]!;
    this.#namespaceFd = namespaceFd;
    this.#gate = gate;
    this.#applicationIndex = indexes[1];
    this.#announcement = announcement(this.address, macAddress(options.application));
    this.#redeliver = new FrameSender(indexes[0], true);
    // Sockets stay in the namespace they are made in: later calls need no visit there.
    this.#announcer = inNamespace(namespaceFd, () => new FrameSender(indexes[1]));
    this.#prepareTap();
  }

  /** Makes the veth and configures both ends (about 20 ms). The port begins `blocked`, before either end is up. */
  static create(options: InterfaceOptions): ApplicationInterface {
    const nodeEnd = nodeEndName(options.application);
    const namespaceFd = openNamespace(`/proc/${options.initPid}/ns/net`);
    const mac = macAddress(options.application);
    ip([
      ...(interfaceIndex(nodeEnd) === undefined ? [] : [`link del ${nodeEnd}`]),
      `link add ${nodeEnd} type veth peer name ${APPLICATION_END} address ${mac} netns ${options.initPid}`,
      `link set ${nodeEnd} addrgenmode none`,
      `link set ${nodeEnd} master ${options.bridge}`,
    ]);
    const nodeIndex = interfaceIndex(nodeEnd)!;
    const gate = Gate.create();
    gate.guardOutput(nodeIndex);
    const applicationIndex = inNamespace(namespaceFd, () => {
      const index = interfaceIndex(APPLICATION_END)!;
      gate.guardInput(index);
      configureApplicationEnd(options);
      return index;
    });
    ip([`link set ${nodeEnd} up`]);
    return new ApplicationInterface(options, namespaceFd, gate, [nodeIndex, applicationIndex]);
  }

  /** Takes up the interface of a running application after this process's predecessor died; undefined when it is gone. */
  static adopt(options: InterfaceOptions): ApplicationInterface | undefined {
    const nodeIndex = interfaceIndex(nodeEndName(options.application));
    if (nodeIndex === undefined) return undefined;
    const gate = Gate.find(nodeIndex);
    if (gate === undefined) return undefined;
    const namespaceFd = openNamespace(`/proc/${options.initPid}/ns/net`);
    const applicationIndex = inNamespace(namespaceFd, () => interfaceIndex(APPLICATION_END));
    if (applicationIndex === undefined) {
      closeNamespace(namespaceFd);
      return undefined;
    }
    const adopted = new ApplicationInterface(options, namespaceFd, gate, [nodeIndex, applicationIndex]);
    adopted.#state = stateOf(gate.flags);
    if (adopted.#state === "collecting" || adopted.#state === "speaking") adopted.#tap!.start();
    adopted.#free = (gate.flags & PASS.free) !== 0;
    return adopted;
  }

  /** The application's network namespace, for `inNamespace`. */
  get namespaceFd(): number {
    return this.#namespaceFd;
  }

  get portState(): PortState {
    return this.#state;
  }

  /** Microseconds; starts no program and takes no lock of the network's configuration. */
  setPort(state: PortState): void {
    if (state === this.#state) return;
    const collects = state === "collecting" || state === "speaking";
    const collected = this.#state === "collecting" || this.#state === "speaking";
    if (collects && !collected) (this.#tap ?? this.#prepareTap()).start();
    this.#state = state;
    this.#apply();
    if (collected && !collects) this.#endCollecting(this.#tap!, state === "forwarding");
  }

  /** Whether what leaves goes out at once (true, as at the beginning) or through the rule that holds it. */
  setFree(free: boolean): void {
    this.#free = free;
    this.#apply();
  }

  get free(): boolean {
    return this.#free;
  }

  /** Tells the network where the address is now: gratuitous ARP or unsolicited neighbour advertisement. */
  announce(): void {
    this.#announcer.send(this.#announcement);
  }

  /** Packets refused in the port's present state. */
  dropped(): { out: number; in: number } {
    return this.#gate.dropped();
  }

  /**
   * Restoring: a route with a first window of 60000 segments, so that a restored connection sends its whole queue at once (a
   * peer may acknowledge more than the clone has sent so far; that is ignored until it was sent). Otherwise the kernel's
   * usual values, right for a live connection whose round trips include the hold. Returns at once; done some ms later.
   * The event loop must not know of the program: `Tracees` takes every child's end, so it would wait for that pid for ever, and take
   * what a thread of the application tells that gets the number later.
   */
  tuneRoutes(restoring: boolean): void {
    const commands = makeMemory("routes");
    const nothing = openPath("/dev/null", O_RDWR);
    try {
      writeAt(commands, Buffer.from(routes(this.#options, restoring).join("\n")), 0);
      const argv = ["env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "ip", "-batch", "-"];
      const descriptors = Int32Array.of(commands, 0, nothing, 1, nothing, 2);
      inNamespace(this.#namespaceFd, () => spawn("/usr/bin/env", argv, descriptors));
    } finally {
      closeDescriptor(commands);
      closeDescriptor(nothing);
    }
  }

  /** Closes what this process holds; the interface itself stays (for `adopt`). */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#tap?.close();
    this.#tap = undefined;
    this.#announcer.close();
    this.#redeliver.close();
    this.#gate.close();
    closeNamespace(this.#namespaceFd);
  }

  /** Removes the veth from node and application. Idempotent. */
  remove(): void {
    if (!this.#closed) this.setPort("blocked");
    this.close();
    removeInterface(this.#options.application);
  }

  #apply(): void {
    this.#gate.set(portFlags[this.#state] | (this.#free ? PASS.free : 0));
  }

  #prepareTap(): FrameTap {
    this.#tap = inNamespace(this.#namespaceFd, () => new FrameTap(this.#applicationIndex));
    return this.#tap;
  }

  /** The gate is open already: a packet may come twice, as on any network, rather than not at all. */
  #endCollecting(tap: FrameTap, deliver: boolean): void {
    tap.stop();
    if (deliver) tap.sendOn(this.#redeliver);
    this.#tap = undefined;
    setTimeout(() => tap.close(), TAP_GRACE_MS).unref();
  }
}

/** Removes what a predecessor left on this node; no error when there is nothing. */
export function removeInterface(application: string): void {
  const name = nodeEndName(application);
  if (interfaceIndex(name) === undefined) return;
  try {
    ip([`link del ${name}`]);
  } catch (error) {
    // With the application's namespace the kernel removes both ends, at a time of its own.
    if (interfaceIndex(name) !== undefined) throw error;
  }
}

function configureApplicationEnd(options: InterfaceOptions): void {
  const nodad = isIPv6(options.address.split("/")[0]!) ? " nodad" : "";
  // The address is known to be this application's: no duplicate detection, which would keep it unusable for a second.
  for (const key of ["accept_dad", "dad_transmits"]) {
    try {
      writeFileSync(`/proc/sys/net/ipv6/conf/${APPLICATION_END}/${key}`, "0");
    } catch {
      // A kernel without IPv6.
    }
  }
  ip([
    "link set lo up",
    `link set ${APPLICATION_END} up`,
    `address replace ${options.address} dev ${APPLICATION_END}${nodad}`,
    ...routes(options, options.restoring ?? false),
  ]);
}

function routes(options: InterfaceOptions, restoring: boolean): string[] {
  const [address = "", length = ""] = options.address.split("/");
  const tuning = restoring ? " initcwnd 60000 rto_min 5ms" : "";
  if (isIPv6(address)) {
    const via =
      options.gateway === undefined
        ? []
        : [`route replace ::/0 via ${options.gateway} dev ${APPLICATION_END}${tuning}`];
    return [
      `route replace ${subnet6(address, Number(length))} dev ${APPLICATION_END} proto kernel metric 256${tuning}`,
      ...via,
    ];
  }
  const subnet = `${subnet4(address, Number(length))}/${length}`;
  const out = [`route replace ${subnet} dev ${APPLICATION_END} proto kernel scope link src ${address}${tuning}`];
  if (options.gateway !== undefined)
    out.push(`route replace default via ${options.gateway} dev ${APPLICATION_END}${tuning}`);
  return out;
}

function subnet4(address: string, length: number): string {
  const mask = length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0;
  const value = address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
  const base = (value & mask) >>> 0;
  return [24, 16, 8, 0].map((shift) => (base >>> shift) & 255).join(".");
}

/** `ip` masks the host part of an IPv6 prefix itself only for addresses: done here. */
function subnet6(address: string, length: number): string {
  const words = new URL(`http://[${address}]/`).hostname.slice(1, -1);
  const [head = "", tail = ""] = words.split("::");
  const first = head === "" ? [] : head.split(":");
  const last = tail === "" ? [] : tail.split(":");
  const all = words.includes("::") ? [...first, ...Array(8 - first.length - last.length).fill("0"), ...last] : first;
  const masked = all.map((word, i) => {
    const bits = Math.max(0, Math.min(16, length - i * 16));
    return (Number.parseInt(word, 16) & (0xffff << (16 - bits)) & 0xffff).toString(16);
  });
  return `${masked.join(":")}/${length}`;
}

function ip(commands: string[]): void {
  const result = spawnSync("ip", ["-batch", "-"], { input: commands.join("\n") + "\n", encoding: "utf8" });
  if (result.status === 0) return;
  throw new OperatingError("network-setup-failed", `Configuring the network failed: ${(result.stderr ?? "").trim()}`, {
    remedy: "See that the bridge of the node's configuration exists and that the iproute2 package is installed.",
    details: { commands },
    cause: result.error,
  });
}
