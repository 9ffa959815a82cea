/**
 * The lab's cluster store where it is not a SQLite file: an etcd with a member on each of the first three nodes, with the nodes'
 * own certificates, so that it loses a member with the node's power and gets it back with it; or one that the user runs.
 */
import { spawn } from "node:child_process";
import { chmod, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { OperatingError } from "../kernel/failure.ts";
import { collect } from "./command.ts";
import type { NodePlaces } from "./layout.ts";

const CLIENT_PORT = 2379;
const PEER_PORT = 2380;
const MOST_MEMBERS = 3;
/**
 * Milliseconds. A lost leader is missed after one to two election timeouts: soon enough that a switch hardly waits for it, and so
 * late that a busy machine does not elect all the time. An election costs nobody anything but the time of it.
 */
const HEARTBEAT_MS = 15;
const ELECTION_MS = 75;
/** Before all but the applications' own instances. */
const MEMBER_PRIORITY = -10;
const SQLITE_URL = "sqlite:/var/lib/understudy-store/store.db";

/** `sqlite`, `etcd`, or the URL of an etcd that runs already: `etcd://host:port,…`. */
export type StoreChoice = string;

/** @throws OperatingError `lab-store-invalid`, `etcd-missing` */
export async function requireStore(choice: StoreChoice): Promise<void> {
  if (choice === "sqlite" || choice.startsWith("etcd://")) return;
  if (choice !== "etcd") {
    throw new OperatingError("lab-store-invalid", `"${choice}" is no cluster store of a lab`, {
      remedy: 'Name "sqlite", "etcd", or "etcd://host:port,host:port" for one that runs already.',
    });
  }
  const found = await collect(spawn("etcd", ["--version"], { stdio: ["ignore", "pipe", "pipe"] })).catch(
    () => undefined,
  );
  if (found?.code === 0) return;
  throw new OperatingError("etcd-missing", "The program etcd is not on this machine", {
    remedy: "Install it (Debian: apt install etcd-server), or take --store sqlite.",
  });
}

/** The nodes that have a member: an odd number of them, as only a majority can decide. */
export function memberNodes(nodes: readonly NodePlaces[]): NodePlaces[] {
  return nodes.length < MOST_MEMBERS ? nodes.slice(0, 1) : nodes.slice(0, MOST_MEMBERS);
}

/** The store's URL in a node's configuration: the member on the node itself comes first, for it is asked first. */
export function storeUrl(choice: StoreChoice, node: NodePlaces, nodes: readonly NodePlaces[]): string {
  if (choice === "sqlite") return SQLITE_URL;
  if (choice !== "etcd") return choice;
  const members = memberNodes(nodes);
  const inOrder = [
    ...members.filter(({ name }) => name === node.name),
    ...members.filter(({ name }) => name !== node.name),
  ];
  return `etcd://${inOrder.map(({ address }) => `${address}:${CLIENT_PORT}`).join(",")}`;
}

/** On a node with a member: `understudy-store-member CGROUP` keeps it running. Part of the node's disk, below `upper`. */
export async function writeMember(upper: string, node: NodePlaces, nodes: readonly NodePlaces[]): Promise<void> {
  if (!memberNodes(nodes).includes(node)) return;
  const script = `#!/bin/sh
# Keeps this node's member of the cluster store running, in a session of its own. $1: the cgroup of it.
echo 0 >"$1/cgroup.procs"
# As etcd's own manual asks for: a member that waits for the processor is taken for dead by the others. Sessions share it.
if [ -e /proc/self/autogroup ]; then echo ${MEMBER_PRIORITY} >/proc/self/autogroup; fi
renice -n ${MEMBER_PRIORITY} -p $$ >/dev/null
while :; do
  etcd ${memberArguments(node, memberNodes(nodes)).join(" ")} >>/var/lib/understudy/etcd.log 2>&1
  sleep 0.5
done
`;
  const path = join(upper, MEMBER);
  await writeFile(path, script);
  await chmod(path, 0o755);
}

/** Where that script is on the node, and its cgroup's name in the node's. */
export const MEMBER = "/etc/understudy/store-member";
export const MEMBER_GROUP = "store";

function memberArguments(node: NodePlaces, members: readonly NodePlaces[]): string[] {
  const client = `https://${node.address}:${CLIENT_PORT}`;
  const peer = ({ address }: NodePlaces) => `https://${address}:${PEER_PORT}`;
  const tls = "/etc/understudy/tls";
  const security = (kind: "" | "peer-") => [
    `--${kind}cert-file=${tls}/node.crt`,
    `--${kind}key-file=${tls}/node.key`,
    `--${kind}trusted-ca-file=${tls}/ca.crt`,
    `--${kind}client-cert-auth`,
  ];
  return [
    `--name=${node.name}`,
    "--data-dir=/var/lib/understudy/etcd",
    `--listen-client-urls=${client}`,
    `--advertise-client-urls=${client}`,
    `--listen-peer-urls=${peer(node)}`,
    `--initial-advertise-peer-urls=${peer(node)}`,
    `--initial-cluster=${members.map((member) => `${member.name}=${peer(member)}`).join(",")}`,
    `--heartbeat-interval=${HEARTBEAT_MS}`,
    `--election-timeout=${ELECTION_MS}`,
    "--pre-vote",
    "--log-level=warn",
    ...security(""),
    ...security("peer-"),
  ];
}
