/** Real programs in a lab of their own, through planned switches and power failures, with clients who would notice. */
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { OperatingError } from "../../src/kernel/failure.ts";
import { Lab } from "../../src/lab/lab.ts";
import { type Program, ProtectedApplication } from "../../workload/application.ts";
import { eventually, Hopeless } from "../support/eventually.ts";
import { type ClientKind, Clients } from "./clients.ts";

export const HOST = "10.77.0.20";
/** `npm run test:apps -- --short`: what costs many minutes is done once or twice. */
export const SHORT = process.env.APPS_SHORT === "1";
const EVENTS_TOLD = 40;
const CHECKPOINTS_TOLD = 5;
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
    await application.untilProtected({ timeoutMs: MEND_LIMIT_MS });
    await goesOn();
    const next = hardship === "switch" ? await switchOnce(application) : await powerOffOnce(application);
    await goesOn();
    if (next.off !== undefined) {
      const { primary } = await application.report();
      assert.equal(primary, next.to, "Only the other node could go on");
      await lab.powerOn(next.off);
    }
    const { primary, term } = await application.untilProtected({ term: next.term, timeoutMs: MEND_LIMIT_MS });
    // In that term it is there and nowhere else; a later one is another story: a node that was too busy to be believed alive.
    if (term === next.term) assert.equal(primary, next.to);
    await goesOn();
  }
}

/** What comes next: the node that has it, and the term. */
interface Next {
  to: string;
  term: number;
  /** Without power since. */
  off?: string;
}

/** The primary loses its power: the other node of the two takes over in the next term. */
async function powerOffOnce(application: ProtectedApplication): Promise<Next> {
  const { primary, term, standbys } = await application.untilProtected({ timeoutMs: MEND_LIMIT_MS });
  await application.lab.powerOff(primary!);
  return { off: primary!, to: standbys[0]!.node, term: term + 1 };
}

/** A machine too busy lets a primary or a standby be given up just before: the view has changed, so the switch is asked for anew. */
const VIEW_CHANGED = new Set(["already-primary", "not-in-sync", "no-standby"]);

/** A planned switch: to whom it was asked for, from where it was, in a new term. */
async function switchOnce(application: ProtectedApplication): Promise<Next> {
  return eventually("a planned switch", async () => {
    const { primary, term, standbys } = await application.untilProtected({ timeoutMs: MEND_LIMIT_MS });
    const wanted = standbys.find(({ state }) => state === "in-sync")!.node;
    try {
      const done = await application.switchTo(wanted);
      assert.equal(done.to, wanted);
      if (done.term === term + 1) assert.equal(done.from, primary);
      assert.ok(done.term > term, `It was made in term ${done.term}, asked for in ${term}`);
      return done;
    } catch (error) {
      if (error instanceof OperatingError && VIEW_CHANGED.has(error.code)) throw error;
      throw new Hopeless((error as Error).message, { cause: error });
    }
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

/** For a failure that is seen once: what happened, how far checkpoints are, and what the application's processes wait in. */
export async function tellWhatHappened(context: TestContext, application: ProtectedApplication): Promise<void> {
  const events = await application.events().catch(() => []);
  for (const { at, node, message } of events.slice(-EVENTS_TOLD)) context.diagnostic(`${at} ${node}: ${message}`);
  for (const look of [reported, waitedIn])
    for (const line of await look(application).catch((error: Error) => [error.message])) context.diagnostic(line);
}

async function reported(application: ProtectedApplication): Promise<string[]> {
  const { primary, term, state, problems, standbys, instance } = await application.report();
  const checkpoints = (await application.checkpoints()).slice(-CHECKPOINTS_TOLD);
  return [{ primary, term, state, problems, standbys }, instance, ...checkpoints].map((part) => JSON.stringify(part));
}

/** "12 × many: S in 0": so many threads of that name, their state and the number of their system call. */
async function waitedIn({ lab }: ProtectedApplication): Promise<string[]> {
  const counts = new Map<string, number>();
  for (const { name } of (await lab.status()).nodes)
    for (const thread of globSync(join(lab.cgroup(name), "**/cgroup.threads")).flatMap((path) =>
      readFileSync(path, "utf8").split("\n").filter(Boolean),
    )) {
      const what = `${name}: ${threadState(thread)}`;
      counts.set(what, (counts.get(what) ?? 0) + 1);
    }
  return [...counts].map(([what, count]) => `${count} × ${what}`).sort();
}

function threadState(tid: string): string {
  try {
    const [, name, state] = /\((.*)\) (\w)/.exec(readFileSync(`/proc/${tid}/stat`, "utf8"))!;
    return `${name}: ${state} in ${readFileSync(`/proc/${tid}/syscall`, "utf8").split(" ")[0]!.trim()}`;
  } catch (error) {
    return (error as Error).message;
  }
}
