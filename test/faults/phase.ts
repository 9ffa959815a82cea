/** Brings the application into a phase, so that a fault meets it there. */
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Place } from "../../src/checkpoint/phases.ts";
import { ControlClient } from "../../src/instance/client.ts";
import { OperatingError } from "../../src/kernel/failure.ts";
import { labPlaces } from "../../src/lab/layout.ts";
import type { RedisSite } from "../../workload/site.ts";
import { eventually } from "../support/eventually.ts";
import { instancePid } from "../system/faults/support.ts";
import { isStopped, type Roles } from "./actions.ts";
import { endsDestination, type Plan } from "./plan.ts";

export interface Reached {
  /** Lets go on who was halted; whom the fault has ended or frozen stays so. */
  letGo: () => void;
  /** When what began the phase has ended, well or not. */
  ended: Promise<void>;
}

export async function reach(site: RedisSite, plan: Plan, roles: Roles): Promise<Reached> {
  switch (plan.phase) {
    case "first synchronisation":
      return synchronising(site, plan, roles);
    case "dump":
    case "transfer":
    case "acknowledge":
      return { letGo: await halted(site, plan, roles, async () => {}), ended: Promise.resolve() };
    case "switch": {
      let ended = Promise.resolve();
      const begin = async () => {
        ended = switched(site, roles);
      };
      if (plan.halt !== undefined) {
        const letGo = await halted(site, plan, roles, begin);
        return { letGo, ended };
      }
      if (endsDestination(plan)) await armHalt(site, roles.standby, "postRestore");
      await begin();
      await sleep(plan.delayMs);
      return { letGo: () => {}, ended };
    }
    case "after the switch":
      await site.switchTo(roles.standby);
      await sleep(plan.delayMs);
      return { letGo: () => {}, ended: Promise.resolve() };
  }
}

/** A clone that ends is replaced by a new one. */
async function synchronising(site: RedisSite, plan: Plan, { standby }: Roles): Promise<Reached> {
  const old = await instancePid(site.lab, standby);
  process.kill(old, "SIGKILL");
  await eventually(`a new clone on "${standby}"`, async () => {
    const { standbys } = await site.report();
    const state = standbys.find(({ node }) => node === standby)?.state;
    return state === "synchronising" || state === "connecting" || (await instancePid(site.lab, standby)) !== old;
  });
  await sleep(plan.delayMs);
  return { letGo: () => {}, ended: Promise.resolve() };
}

/** A switch that a fault meets may be made or not: what is asked is that the clients notice nothing of either. */
async function switched(site: RedisSite, { standby }: Roles): Promise<void> {
  try {
    await site.switchTo(standby);
  } catch (error) {
    if (!(error instanceof OperatingError)) throw error;
  }
}

async function halted(site: RedisSite, plan: Plan, roles: Roles, begin: () => Promise<void>): Promise<() => void> {
  const { who, place } = plan.halt!;
  const node = roles[who];
  const pid = await instancePid(site.lab, node);
  await armHalt(site, node, place);
  await begin();
  await eventually(`the ${who} comes to ${place}`, () => isStopped(pid));
  return () => {
    if (existsSync(`/proc/${pid}`)) process.kill(pid, "SIGCONT");
  };
}

async function armHalt(site: RedisSite, node: string, place: Place): Promise<void> {
  const control = await ControlClient.connect(`${labPlaces(site.lab.name).runDirectory}/${node}/${site.name}.sock`);
  try {
    await control.call("halt", { place });
  } finally {
    control.close();
  }
}
