/** Names, addresses and places of a lab. Everything of lab NAME can be found by name alone, also after a crash. */
import { join } from "node:path";
import { cgroupMount } from "../agent/cgroup.ts";
import { OperatingError } from "../kernel/failure.ts";

/** Node n has the address 10.77.0.n; 10.77.0.10 and following are for applications. */
export const MOST_NODES = 9;
const SUBNET = "10.77.0";
export const PREFIX_LENGTH = 24;
export const API_PORT = 7700;
export const CLIENT = "client";
export const SWITCH = "switch";
const NAME = /^[a-z0-9]([a-z0-9-]{0,29}[a-z0-9])?$/;
const STATE_ROOT = "/var/lib/understudy-lab";
const RUN_ROOT = "/run/understudy-lab";

export interface LabPlaces {
  name: string;
  /** Survives a reboot of the machine; removed by `down`. */
  directory: string;
  runDirectory: string;
  cgroup: string;
  /** The cluster store's directory, seen by every node as /var/lib/understudy-store. */
  store: string;
  authority: string;
  /** Certificate for whoever talks to the nodes' API from the client host. */
  clientTls: string;
  /** Says what the lab consists of; written last, so that a lab without it is a half-made one. */
  record: string;
  lock: string;
}

export interface NodePlaces {
  name: string;
  address: string;
  mac: string;
  namespace: string;
  cgroup: string;
  /** Contains `upper` and `work` of its root file system, `root` to mount it on, `state` and the agent's log. */
  directory: string;
  log: string;
  runDirectory: string;
  agentSocket: string;
  pidFile: string;
}

export const stateRoot = STATE_ROOT;
export const runRoot = RUN_ROOT;

/** @throws OperatingError `lab-name-invalid` */
export function labPlaces(name: string): LabPlaces {
  if (!NAME.test(name)) {
    throw new OperatingError("lab-name-invalid", `"${name}" cannot name a lab`, {
      remedy: "Use lower-case letters, digits and hyphens, at most 31.",
    });
  }
  const directory = join(STATE_ROOT, name);
  return {
    name,
    directory,
    runDirectory: join(RUN_ROOT, name),
    cgroup: join(cgroupMount(), "understudy-lab", name),
    store: join(directory, "store"),
    authority: join(directory, "authority"),
    clientTls: join(directory, "client-tls"),
    record: join(directory, "lab.json"),
    lock: `${RUN_ROOT}-${name}.lock`,
  };
}

export const namespaceOf = (lab: string, host: string) => `us-${lab}-${host}`;

/** Namespaces of this lab only, not of one whose name begins alike. */
export const namespacePattern = (lab: string) => new RegExp(`^us-${lab}-(${SWITCH}|${CLIENT}|node-[a-z])$`);

export const nodeName = (index: number) => `node-${String.fromCharCode("a".charCodeAt(0) + index)}`;

/** Place of a node by its number, from 0. */
export function nodePlaces(lab: LabPlaces, index: number): NodePlaces {
  const name = nodeName(index);
  const directory = join(lab.directory, name);
  const runDirectory = join(lab.runDirectory, name);
  return {
    name,
    address: `${SUBNET}.${index + 1}`,
    mac: macOf(index + 1),
    namespace: namespaceOf(lab.name, name),
    cgroup: join(lab.cgroup, name),
    directory,
    log: join(directory, "agent.log"),
    runDirectory,
    agentSocket: join(runDirectory, "agent.sock"),
    pidFile: join(lab.runDirectory, `${name}.pid`),
  };
}

export const clientAddress = `${SUBNET}.250`;
export const clientMac = macOf(250);

/** The same after every power-on, so that the others' ARP entries stay true. */
function macOf(host: number): string {
  return `02:75:73:00:00:${host.toString(16).padStart(2, "0")}`;
}
