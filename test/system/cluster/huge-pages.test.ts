/**
 * A standby that has too few huge pages says so before it counts, by name, and the application goes on; with enough it is in sync and
 * takes over. The nodes of a lab share the machine's huge pages.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Lab } from "../../../src/lab/lab.ts";
import { Application } from "../../matrix/application.ts";
import { Cluster } from "../../matrix/cluster.ts";
import { allRuns } from "../../matrix/programs.ts";
import { eventually, Hopeless } from "../../support/eventually.ts";
import { setAsideHugePages } from "../../support/huge-pages.ts";
import { buildPrograms } from "../../support/programs.ts";

/** Pages that the program takes with each question. */
const STEP = 4;
const LACKING = /too few huge pages of 2 MiB for a clone: \d+ more are needed, \d+ of \d+ are free/;

const lab = new Lab({ name: `huge${process.pid}` });
const cluster = new Cluster(lab, ["node-a", "node-b"]);
const run = allRuns().find(({ program }) => program === "memory/huge-growing")!;
const places = { home: "node-a", standby: "node-b", address: "10.77.0.30/24" };
const application = new Application(cluster, run, places);
const givers: Array<() => void> = [];

before(
  async () => {
    buildPrograms();
    await lab.up({ nodes: 2 });
  },
  { timeout: 60_000 },
);
after(
  async () => {
    await lab.down();
    for (const giveBack of givers) giveBack();
  },
  { timeout: 60_000 },
);

interface Event {
  kind: string;
  message: string;
}

async function lacking(): Promise<Event[]> {
  const events = await cluster.ask<{ events: Event[] } | Event[]>("GET", `/v1/events?application=${application.name}`);
  return (Array.isArray(events) ? events : events.events).filter(({ message }) => LACKING.test(message));
}

async function isInSync(): Promise<boolean> {
  return (await application.report()).standbys.some(({ state }) => state === "in-sync");
}

test("a standby with too few huge pages, then with enough", { timeout: 240_000 }, async () => {
  givers.push(setAsideHugePages(3 * STEP));
  await application.protect();
  // Twice as many for application and clone: the first step is.
  await application.check();
  await application.protected();
  await eventually("the step is on the clone", isInSync);

  // The second leaves none for the clone, and nobody counts on it.
  await application.check();
  await eventually("it is told", async () => (await lacking()).length > 0);
  await eventually("it does not count", async () => !(await isInSync()));
  // It goes on; a clone that is made anew fails for the same.
  const told = (await lacking()).length;
  await eventually("it is told again", async () => {
    if (await isInSync()) throw new Hopeless("It counts with too few huge pages");
    return (await lacking()).length > told;
  });

  givers.push(setAsideHugePages(7 * STEP));
  await application.protected();
  for (const node of ["node-b", "node-a"]) {
    assert.equal(await application.switch(), node);
    await application.check();
    await application.protected();
  }
});
