/** Real programs in a lab of their own, through planned switches and power failures, with clients who would notice. */
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { Lab } from "../../src/lab/lab.ts";
import { type Program, ProtectedApplication } from "../../workload/application.ts";
import { eventually } from "../support/eventually.ts";
import { type ClientKind, Clients } from "./clients.ts";

export const HOST = "10.77.0.20";
/** `npm run test:apps -- --short`: what costs many minutes is done once or twice. */
export const SHORT = process.env.APPS_SHORT === "1";
const EVENTS_TOLD = 40;
/** A node that comes back is filled anew. */
const MEND_LIMIT_MS = 120_000;

export type Hardship = "switch" | "power-off";

/** There, and by a failure back: each node has been both. */
export const HARDSHIPS: Hardship[] = ["switch", "power-off", "switch"];

export interface Wanted {
  kind: ClientKind;
  port: number;
  connections: number;
  more?: string[];
}

/** A lab of two nodes with this application in it, protected. Both end with the scope. */
export async function stage(name: string, program: Omit<Program, "name" | "address">, limitMs = 120_000) {
  const lab = new Lab({ name: `${name}${process.pid}` });
  try {
    await lab.up({ nodes: 2 });
    const application = new ProtectedApplication(lab, { ...program, name, address: `${HOST}/24` });
    await application.protect({ limitMs });
    return Object.assign(application, { [Symbol.asyncDispose]: () => lab.down() });
  } catch (error) {
    await lab.down();
    throw error;
  }
}

/** Does these things to the application, one after the other; `goesOn` waits for a sign of life each time. */
export async function endure(
  application: ProtectedApplication,
  hardships: Hardship[],
  goesOn: () => Promise<unknown>,
): Promise<void> {
  const { lab } = application;
  for (const hardship of hardships) {
    const { primary, term } = await application.untilProtected({ timeoutMs: MEND_LIMIT_MS });
    await goesOn();
    if (hardship === "switch") await switchOnce(application);
    else await lab.powerOff(primary!);
    await goesOn();
    if (hardship === "power-off") await lab.powerOn(primary!);
    await application.untilProtected({ term: term + 1, timeoutMs: MEND_LIMIT_MS });
    await goesOn();
  }
}

/** A planned switch. On a machine too busy a primary may be given up just before, which refuses the switch: then the next. */
async function switchOnce(application: ProtectedApplication): Promise<void> {
  await eventually("a planned switch", async () => {
    const { standbys } = await application.untilProtected({ timeoutMs: MEND_LIMIT_MS });
    return application.switchTo(standbys.find(({ state }) => state === "in-sync")!.node);
  });
}

/** Protects the program, lets clients talk with it through all hardships; nothing may be lost, no connection broken. */
export async function servesThrough(
  context: TestContext,
  name: string,
  program: Omit<Program, "name" | "address">,
  wanted: Wanted[],
  hardships = HARDSHIPS,
): Promise<void> {
  await using application = await stage(name, program);
  const clients: Clients[] = [];
  try {
    for (const { kind, port, connections, more } of wanted)
      clients.push(await Clients.start(application.lab, kind, { host: HOST, port }, connections, more));
    await endure(application, hardships, () => Promise.all(clients.map((client) => client.goOn())));
    for (const client of clients) {
      const { turns, findings } = await client.stop();
      assert.deepEqual(findings, []);
      context.diagnostic(`${client.kind}: ${turns} answers`);
    }
  } catch (error) {
    await tellWhatHappened(context, application);
    throw error;
  } finally {
    for (const client of clients) client.kill();
  }
}

export async function tellWhatHappened(context: TestContext, application: ProtectedApplication): Promise<void> {
  const events = await application.events().catch(() => []);
  for (const { at, node, message } of events.slice(-EVENTS_TOLD)) context.diagnostic(`${at} ${node}: ${message}`);
}
