/** What a node sends and receives when nothing happens: heartbeats of its applications' streams, and its talk with the store. */
import { setTimeout as sleep } from "node:timers/promises";
import type { ApplicationReport, StreamLine } from "../src/agent/api-types.ts";
import { AgentClient } from "../src/agent/client.ts";
import { fromFailure } from "../src/kernel/failure.ts";
import type { Lab } from "../src/lab/lab.ts";

export interface Traffic {
  nodes: number;
  /** Both directions, mean over the nodes that have no member of the store: what members say to each other is the store's own. */
  bytesPerSecond: number;
}

const MEASURE_MS = 10_000;
const SETTLE_MS = 3000;
const BRINGING_LIMIT_MS = 180_000;
/** The lab's first nodes have the store's members. */
const MEMBERS = 3;

/** A lab of so many nodes, more than have members; on each an idle application with its standby on the next node. */
export async function measureTraffic(lab: Lab, nodes: number): Promise<Traffic> {
  await lab.up({ nodes, store: "etcd", replace: true });
  const names = (await lab.status()).nodes.map(({ name }) => name);
  for (const [index, home] of names.entries()) await protectIdle(lab, home, names[(index + 1) % names.length]!, index);
  const measured = names.slice(MEMBERS);
  for (const name of measured) await count(lab, name);
  await sleep(SETTLE_MS);
  const before = await Promise.all(measured.map((name) => counted(lab, name)));
  const began = performance.now();
  await sleep(MEASURE_MS);
  const after = await Promise.all(measured.map((name) => counted(lab, name)));
  const seconds = (performance.now() - began) / 1000;
  const bytes = after.reduce((sum, value, i) => sum + value - before[i]!, 0);
  return { nodes, bytesPerSecond: bytes / seconds / measured.length };
}

async function protectIdle(lab: Lab, home: string, standby: string, index: number): Promise<void> {
  const body = {
    name: `idle-${index}`,
    command: ["sleep", "infinity"],
    address: `10.77.0.${20 + index}/24`,
    standby: [standby],
  };
  const agent = AgentClient.unix(lab.agentSocket(home));
  const signal = AbortSignal.timeout(BRINGING_LIMIT_MS);
  for await (const line of agent.lines<StreamLine<ApplicationReport>>("POST", "/v1/applications", { body, signal }))
    if ("error" in line) throw fromFailure(line.error);
}

/** Counters in the node's packet filter: what its own processes send, and what comes for them. */
async function count(lab: Lab, node: string): Promise<void> {
  const rules = [
    "add table inet traffic",
    "add chain inet traffic out { type filter hook output priority 0; }",
    "add chain inet traffic in { type filter hook input priority 0; }",
    "add rule inet traffic out oifname br0 counter",
    "add rule inet traffic in iifname br0 counter",
  ];
  const { code, stderr } = await lab.exec(node, ["nft", "-f", "-"], { input: `${rules.join("\n")}\n` });
  if (code !== 0) throw new Error(`nft on "${node}": ${stderr}`);
}

async function counted(lab: Lab, node: string): Promise<number> {
  const { stdout } = await lab.exec(node, ["nft", "-j", "list", "table", "inet", "traffic"]);
  type Listed = { nftables: { rule?: { expr: { counter?: { bytes: number } }[] } }[] };
  const counters = (JSON.parse(stdout) as Listed).nftables.flatMap(({ rule }) => rule?.expr ?? []);
  return counters.reduce((sum, { counter }) => sum + (counter?.bytes ?? 0), 0);
}
