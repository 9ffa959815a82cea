/** How each fault is brought about in the lab, and mended. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Lab } from "../../src/lab/lab.ts";
import { eventually } from "../support/eventually.ts";
import { freeze, health, instancePid } from "../system/faults/support.ts";
import type { Plan } from "./plan.ts";

export interface Roles {
  primary: string;
  /** The standby that the fault is about: that is copied to, switched to, cut off. */
  standby: string;
  nodes: readonly string[];
}

/** Mends it; more than once does no harm. */
export type Repair = () => Promise<void>;

/** Brings the fault and returns once it is there. @param processes as they were before the fault's phase began */
export async function bring(lab: Lab, plan: Plan, roles: Roles, processes: Processes): Promise<Repair> {
  const { primary, standby, nodes } = roles;
  const victim = roles[plan.victim];
  switch (plan.fault) {
    case "power-off":
      await lab.powerOff(victim);
      return once(() => lab.powerOn(victim));
    case "capture killed":
      return kill(processes.capture);
    case "clone killed":
      return kill(await processes.clone());
    case "agent killed": {
      const pid = processes.agents.get(victim)!;
      kill(pid);
      return once(async () => {
        await eventually("the agent is back", async () => (await health(lab, victim)).agent.pid !== pid);
      });
    }
    case "capture frozen":
      return frozen(processes.capture);
    case "clone frozen":
      return frozen(await processes.clone());
    case "agent frozen":
      return frozen(processes.agents.get(victim)!);
    case "link cut":
      await lab.cut(primary, standby);
      return () => lab.heal();
    case "link cut one way":
      await lab.cut(plan.outward ? primary : standby, plan.outward ? standby : primary, { oneWay: true });
      return () => lab.heal();
    case "link down":
      await link(lab, victim, "down");
      return once(() => link(lab, victim, "up"));
    case "store member lost":
      await lab.storeOff(victim);
      return () => lab.storeOn(victim);
    case "store majority lost": {
      const lost = nodes.filter((node) => node !== victim);
      await Promise.all(lost.map((node) => lab.storeOff(node)));
      return async () => void (await Promise.all(lost.map((node) => lab.storeOn(node))));
    }
    case "disk full":
      fillDisk(lab, victim);
      // A member of the store that cannot write any more ends.
      return once(async () => {
        emptyDisk(lab, victim);
        if (await hasMembers(lab)) await lab.storeOn(victim);
      });
  }
}

export interface Processes {
  capture: number;
  /** Asked when it is needed: in the first synchronisation it is a new one. */
  clone: () => Promise<number>;
  agents: ReadonlyMap<string, number>;
}

export async function processesOf(lab: Lab, { primary, standby, nodes }: Roles): Promise<Processes> {
  const agents = new Map<string, number>();
  for (const node of nodes) agents.set(node, (await health(lab, node)).agent.pid);
  const clone = await instancePid(lab, standby);
  return {
    capture: await instancePid(lab, primary),
    clone: async () => (existsSync(`/proc/${clone}`) ? clone : instancePid(lab, standby)),
    agents,
  };
}

function once(work: () => Promise<void>): Repair {
  let done: Promise<void> | undefined;
  return () => (done ??= work());
}

/** Whose part has ended at a moment of chance is met no more. */
function kill(pid: number): Repair {
  if (existsSync(`/proc/${pid}`)) process.kill(pid, "SIGKILL");
  return async () => {};
}

function frozen(pid: number): Repair {
  if (!existsSync(`/proc/${pid}`)) return async () => {};
  const ice = freeze(pid);
  return once(async () => ice[Symbol.dispose]());
}

async function link(lab: Lab, node: string, state: "up" | "down"): Promise<void> {
  const { code, stderr } = await lab.exec(node, ["ip", "link", "set", "eth0", state]);
  if (code !== 0) throw new Error(`ip link set eth0 ${state} on "${node}": ${stderr}`);
}

const hasMembers = async (lab: Lab) => (await lab.status()).store === "etcd";

// --- Disks ---

const filler = (lab: Lab, node: string) => join(lab.stateDirectory(node), "filler");
const CHUNK = Buffer.alloc(1 << 20);

/** Until neither a byte nor a file more fits; the disk is one of the node's own (disks.ts). */
function fillDisk(lab: Lab, node: string): void {
  const directory = filler(lab, node);
  mkdirSync(directory, { recursive: true });
  const appendUntilFull = (chunk: Buffer) =>
    untilFull(() => writeFileSync(join(directory, "bytes"), chunk, { flag: "a" }));
  appendUntilFull(CHUNK);
  appendUntilFull(CHUNK.subarray(0, 4096));
  let files = 0;
  untilFull(() => writeFileSync(join(directory, String(files++)), ""));
}

function untilFull(write: () => void): void {
  for (;;) {
    try {
      write();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOSPC") return;
      throw error;
    }
  }
}

export function emptyDisk(lab: Lab, node: string): void {
  rmSync(filler(lab, node), { recursive: true, force: true });
}

/** Stopped by a signal, all threads of it. */
export function isStopped(pid: number): boolean {
  return readdirSync(`/proc/${pid}/task`).every((thread) => {
    const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).startsWith("T");
  });
}
