/**
 * The lab's network: a switch (a bridge in a namespace of its own) with one port per host. Each node has `eth0`, the
 * other end of its port, in its own bridge `br0`, which holds the node's address and the applications' interfaces.
 */
import { readdirSync } from "node:fs";
import { OperatingError } from "../kernel/failure.ts";
import { ipBatch, run } from "./command.ts";
import {
  CLIENT,
  clientAddress,
  clientMac,
  type LabPlaces,
  type NodePlaces,
  namespaceOf,
  namespacePattern,
  PREFIX_LENGTH,
  SWITCH,
} from "./layout.ts";

/** No spanning tree and no delay: a port forwards at once. No multicast snooping: nobody would answer its queries. */
const BRIDGE = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0";
const NAMESPACES = "/run/netns";
/** One nftables table holds the cut links; it exists only while a link is cut, so that packets else pay nothing. */
const TABLE = "bridge understudy_lab";

export interface Link {
  from: string;
  to: string;
}

export async function makeSwitch(lab: LabPlaces): Promise<void> {
  const switchNamespace = namespaceOf(lab.name, SWITCH);
  const clientNamespace = namespaceOf(lab.name, CLIENT);
  await ipBatch([`netns add ${switchNamespace}`, `netns add ${clientNamespace}`]);
  await run([
    ...["ip", "netns", "exec", switchNamespace, "sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1"],
    ...["net.ipv6.conf.default.disable_ipv6=1", "-e", "net.bridge.bridge-nf-call-iptables=0"],
    ...["net.bridge.bridge-nf-call-ip6tables=0", "net.bridge.bridge-nf-call-arptables=0"],
  ]);
  await ipBatch([`link add br0 ${BRIDGE}`, "link set br0 up"], switchNamespace);
  await plug(lab, CLIENT, clientMac);
  await ipBatch(
    ["link set lo up", `address add ${clientAddress}/${PREFIX_LENGTH} dev eth0`, "link set eth0 up"],
    clientNamespace,
  );
}

export async function makeNodeNetwork(lab: LabPlaces, node: NodePlaces): Promise<void> {
  await ipBatch([`netns add ${node.namespace}`]);
  await plug(lab, node.name, node.mac);
  await ipBatch(
    [
      "link set lo up",
      // An address of its own: else the bridge takes the lowest of its ports, and changes it with every application.
      `link add br0 address ${node.mac} ${BRIDGE}`,
      "link set eth0 master br0",
      "link set eth0 up",
      "link set br0 up",
      `address add ${node.address}/${PREFIX_LENGTH} dev br0`,
    ],
    node.namespace,
  );
  // Bridged packets go through iptables' FORWARD, where output is held. Not every kernel has it per namespace.
  await run([
    ...["ip", "netns", "exec", node.namespace, "sysctl", "-q", "-e", "-w"],
    "net.bridge.bridge-nf-call-iptables=1",
  ]);
}

/** A cable from the switch to a host's `eth0`. Its namespace must exist. */
async function plug(lab: LabPlaces, host: string, mac: string): Promise<void> {
  const ends = `netns ${namespaceOf(lab.name, host)} type veth peer name ${host} netns ${namespaceOf(lab.name, SWITCH)}`;
  await ipBatch([`link add eth0 address ${mac} ${ends}`]);
  await ipBatch([`link set ${host} master br0`, `link set ${host} up`], namespaceOf(lab.name, SWITCH));
}

/** From here on nothing that the node still sends leaves it. */
export async function unplug(lab: LabPlaces, node: NodePlaces): Promise<void> {
  await ipBatch([`link set ${node.name} down`], namespaceOf(lab.name, SWITCH)).catch(ifThere);
}

/** Takes the node's namespace and its cable away. The processes must be gone: they would keep the namespace. */
export async function removeNodeNetwork(lab: LabPlaces, node: NodePlaces): Promise<void> {
  await ipBatch([`link delete ${node.name}`], namespaceOf(lab.name, SWITCH)).catch(ifThere);
  await ipBatch([`netns delete ${node.namespace}`]).catch(ifThere);
}

/** A power-on that failed early has no cable or no namespace yet. */
function ifThere(error: Error): void {
  if (!/Cannot find device|No such file or directory/.test(error.message)) throw error;
}

export function namespacesOf(lab: string): string[] {
  const pattern = namespacePattern(lab);
  try {
    return readdirSync(NAMESPACES).filter((name) => pattern.test(name));
  } catch {
    return [];
  }
}

/** Works on what a crash or a reboot left too: then the name may be a plain file, no namespace. */
export async function removeNamespaces(lab: string): Promise<void> {
  const names = namespacesOf(lab);
  if (names.length > 0) await ipBatch(names.map((name) => `netns delete ${name}`));
}

/** Frames of every protocol, ARP too, are dropped in the switch between the two ports. */
export async function cutLinks(lab: LabPlaces, links: Link[]): Promise<void> {
  const elements = links.map(({ from, to }) => `"${from}" . "${to}"`).join(", ");
  await nft(lab, [
    `add table ${TABLE}`,
    `add set ${TABLE} cut { type ifname . ifname; }`,
    `add chain ${TABLE} forward { type filter hook forward priority 0; }`,
    `flush chain ${TABLE} forward`,
    `add rule ${TABLE} forward iifname . oifname @cut drop`,
    `add element ${TABLE} cut { ${elements} }`,
  ]);
}

/** Heals these links, or all. A link that is not cut is no error. */
export async function healLinks(lab: LabPlaces, links?: Link[]): Promise<void> {
  const healed = new Set(links?.map(({ from, to }) => `${from}>${to}`));
  const cut = await listCuts(lab);
  const left = links === undefined ? [] : cut.filter(({ from, to }) => !healed.has(`${from}>${to}`));
  if (cut.length === 0) return;
  if (left.length === 0) return nft(lab, [`delete table ${TABLE}`]);
  const gone = cut.filter((link) => !left.includes(link)).map(({ from, to }) => `"${from}" . "${to}"`);
  if (gone.length > 0) await nft(lab, [`delete element ${TABLE} cut { ${gone.join(", ")} }`]);
}

export async function listCuts(lab: LabPlaces): Promise<Link[]> {
  const text = await run([...inSwitch(lab), "nft", "-j", "list", "sets", "bridge"]);
  const { nftables } = JSON.parse(text) as { nftables: { set?: { name: string; elem?: { concat: string[] }[] } }[] };
  const set = nftables.find((entry) => entry.set?.name === "cut")?.set;
  return (set?.elem ?? []).map(({ concat }) => ({ from: concat[0]!, to: concat[1]! }));
}

const inSwitch = (lab: LabPlaces) => ["ip", "netns", "exec", namespaceOf(lab.name, SWITCH)];

async function nft(lab: LabPlaces, lines: string[]): Promise<void> {
  try {
    await run([...inSwitch(lab), "nft", "-f", "-"], { input: `${lines.join("\n")}\n` });
  } catch (cause) {
    throw new OperatingError("link-filter", "Cannot change the switch's filter", {
      remedy: "The kernel needs nftables for bridges (CONFIG_NF_TABLES_BRIDGE).",
      cause,
    });
  }
}
