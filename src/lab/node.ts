/** One node of a lab: its disk, its power, and commands in it. */
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { stringify } from "yaml";
import { isPopulated, killCgroup } from "../agent/cgroup.ts";
import { issueCertificate } from "../cluster/pki.ts";
import { OperatingError } from "../kernel/failure.ts";
import { MEMBER, MEMBER_GROUP, type StoreChoice, storeUrl, writeMember } from "./etcd.ts";
import { API_PORT, type LabPlaces, type NodePlaces } from "./layout.ts";
import { makeNodeNetwork, namespacesOf, removeNodeNetwork, unplug } from "./network.ts";

/** Groups of a node: the supervising shell, the agent, the instances' applications, commands of `lab exec`, its store member. */
const GROUPS = ["supervisor", "agent", "apps", "exec", MEMBER_GROUP];
/** A node whose agent ends is told of at once; a busy machine may take long. */
const START_TIMEOUT_MS = 120_000;
const POLL_MS = 10;
/** Of the agent's log, in the message that it does not come up. */
const LOG_LINES = 15;
const project = join(import.meta.dirname, "../..");
const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** What the node runs as its agent; another program in tests of the lab itself. */
export const AGENT_COMMAND = [
  process.execPath,
  "--disable-warning=ExperimentalWarning",
  join(project, "src/agent/main.ts"),
  "--config",
  "/etc/understudy/agent.yaml",
];

export interface DiskOptions {
  /** All nodes of the lab. */
  nodes: readonly NodePlaces[];
  /** /etc/hosts */
  hosts: string;
  store: StoreChoice;
  /** Further keys of its agent's configuration. */
  more: object;
}

/** Makes the node's disk: what of its root file system differs from this machine's. It survives a power-off. */
export async function makeDisk(lab: LabPlaces, node: NodePlaces, options: DiskOptions): Promise<void> {
  const { nodes, hosts, store, more } = options;
  const upper = join(node.directory, "upper");
  const configuration = join(upper, "etc/understudy");
  const bin = join(upper, "usr/local/bin");
  const directories = ["work", "root", "state"].map((name) => join(node.directory, name));
  await Promise.all([...directories, configuration, bin].map((path) => mkdir(path, { recursive: true })));
  await issueCertificate(lab.authority, {
    name: node.name,
    hosts: [node.address],
    outDirectory: join(configuration, "tls"),
  });
  await writeFile(
    join(configuration, "agent.yaml"),
    stringify({ ...agentConfiguration(node, storeUrl(store, node, nodes)), ...more }),
  );
  await writeFile(join(upper, "etc/hosts"), hosts);
  if (store === "etcd") await writeMember(upper, node, nodes);
  // A script rather than a link: on the node it says where the project is.
  const command = `#!/bin/sh\nexec ${join(project, "bin/understudy")} "$@"\n`;
  await writeFile(join(bin, "understudy"), command, { mode: 0o755 });
}

function agentConfiguration(node: NodePlaces, store: string) {
  return {
    name: node.name,
    listen: { host: node.address, port: API_PORT },
    bridge: "br0",
    store,
    tls: {
      ca: "/etc/understudy/tls/ca.crt",
      certificate: "/etc/understudy/tls/node.crt",
      key: "/etc/understudy/tls/node.key",
    },
    stateDirectory: "/var/lib/understudy",
    runDirectory: "/run/understudy",
    cgroup: node.cgroup,
  };
}

export const isOn = (node: NodePlaces) => isPopulated(node.cgroup);

/**
 * Switches the node on and waits until its agent answers.
 * @throws OperatingError `node-start` with the end of the agent's log; the node is off again then
 */
export async function powerOn(
  lab: LabPlaces,
  node: NodePlaces,
  agentCommand: string[],
  signal?: AbortSignal,
): Promise<void> {
  // A power-on that was killed in the middle may have left the network half made.
  if (namespacesOf(lab.name).includes(node.namespace)) await removeNodeNetwork(lab, node);
  try {
    await rm(node.runDirectory, { recursive: true, force: true });
    await Promise.all([node.runDirectory, ...GROUPS.map((group) => join(node.cgroup, group))].map(makeDirectory));
    await makeNodeNetwork(lab, node);
    await untilAnswers(node, startFirstProcess(lab, node, agentCommand), signal);
  } catch (error) {
    await powerOff(lab, node);
    throw error;
  }
}

/** @returns its end, as a promise that never rejects */
function startFirstProcess(lab: LabPlaces, node: NodePlaces, agentCommand: string[]): Promise<Error> {
  const log = openSync(node.log, "a", 0o600);
  const argv = [
    ...["nsenter", `--net=/run/netns/${node.namespace}`],
    ...["unshare", "--mount", "--uts", "--ipc", "--propagation", "private"],
    ...["sh", join(import.meta.dirname, "node-root.sh"), node.name, node.directory, node.runDirectory, lab.store],
    ...[join(node.cgroup, "agent"), project, ...agentCommand],
  ];
  const child = spawnInCgroup(join(node.cgroup, "supervisor"), argv, {
    cwd: "/",
    // A session of its own: what is typed at this terminal is none of the node's business.
    detached: true,
    stdio: ["ignore", log, log],
    env: { PATH, HOME: process.env.HOME ?? "/", LANG: "C.UTF-8" },
  });
  closeSync(log);
  child.unref();
  writeFileSync(node.pidFile, String(child.pid ?? 0));
  return new Promise((resolve) => {
    child.once("error", resolve);
    child.once("exit", (code) => resolve(new Error(`Its first process ended with exit code ${code}`)));
  });
}

async function untilAnswers(node: NodePlaces, end: Promise<Error>, signal?: AbortSignal): Promise<void> {
  let ended: Error | undefined;
  void end.then((error) => {
    ended = error;
  });
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!(await answers(node.agentSocket))) {
    signal?.throwIfAborted();
    if (ended !== undefined || performance.now() > deadline) {
      const log = readFileSync(node.log, "utf8").trim().split("\n").slice(-LOG_LINES).join("\n");
      throw new OperatingError("node-start", `The agent of "${node.name}" does not come up:\n${log}`, { cause: ended });
    }
    await sleep(POLL_MS);
  }
}

/** Kills all of the node in one instant. Its disk stays, /run and the network do not. */
export async function powerOff(lab: LabPlaces, node: NodePlaces): Promise<void> {
  // First the cable: the kernel says goodbye (FIN, RST) for every process that is killed, and nobody shall hear it.
  await unplug(lab, node);
  await killCgroup(node.cgroup);
  await rm(node.pidFile, { force: true });
  await rm(node.runDirectory, { recursive: true, force: true });
  await removeNodeNetwork(lab, node);
}

/** True when something accepts connections there. */
export function answers(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(socket);
    connection.once("connect", () => {
      connection.destroy();
      resolve(true);
    });
    connection.once("error", () => resolve(false));
  });
}

/**
 * Starts a command in all of the node's namespaces and in its cgroup, so that it ends with the node.
 * @throws OperatingError `node-off`
 */
export async function spawnInNode(node: NodePlaces, argv: string[], options: SpawnOptions = {}): Promise<ChildProcess> {
  const pid = (await readFile(node.pidFile, "utf8").catch(() => "")).trim();
  if (pid === "" || !isOn(node)) {
    throw new OperatingError("node-off", `"${node.name}" is off`, { remedy: `understudy lab power-on ${node.name}` });
  }
  const enter = ["nsenter", "--target", pid, "--mount", "--net", "--uts", "--ipc", "--"];
  return spawnInCgroup(join(node.cgroup, "exec"), [...enter, ...argv], options);
}

/** Ends the node's member of the store, for good; nothing where there is none. */
export async function memberOff(node: NodePlaces): Promise<void> {
  await killCgroup(join(node.cgroup, MEMBER_GROUP));
}

/** Starts it again, with the data it had. */
export async function memberOn(node: NodePlaces): Promise<void> {
  const group = join(node.cgroup, MEMBER_GROUP);
  await makeDirectory(group);
  if (isPopulated(group)) return;
  const child = await spawnInNode(node, [MEMBER, group], { stdio: "ignore", detached: true });
  child.unref();
}

/** The process is in the cgroup before its program begins. */
export function spawnInCgroup(cgroup: string, argv: string[], options: SpawnOptions): ChildProcess {
  const enter = 'echo 0 >"$1/cgroup.procs"; shift; exec "$@"';
  return spawn("sh", ["-c", enter, "enter", cgroup, ...argv], options);
}

const makeDirectory = (path: string) => mkdir(path, { recursive: true });
