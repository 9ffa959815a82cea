/**
 * A standby that dies while it applies checkpoints of hundreds of files, and dumps that are aborted: whoever takes over has the
 * files of its checkpoint, and of no other. The program tells: it knows what each of its files must hold.
 */
import assert from "node:assert/strict";
import { after, afterEach, before, type TestContext, test } from "node:test";
import { ControlClient } from "../../../src/instance/client.ts";
import { Lab } from "../../../src/lab/lab.ts";
import { labPlaces } from "../../../src/lab/layout.ts";
import { ProtectedApplication } from "../../../workload/application.ts";
import { downAndGone, eventually, instancePid, tellEvents } from "../faults/support.ts";

const lab = new Lab({ name: `apl${process.pid}` });
const FILES = 400;
const DEATHS = 3;
const PROGRAM = `
mkdir -p /data; cd /data; g=0
for ((i = 0; i < ${FILES}; i++)); do echo 0 >$i; done
while :; do
  g=$((g + 1))
  for ((i = 0; i < ${FILES}; i++)); do
    read v <$i; [ "$v" = $((g - 1)) ] || echo "file $i held $v in round $g" >>wrong
    echo $g >$i
  done
  echo $g >round; sleep 0.05
done`;
const site = new ProtectedApplication(lab, {
  name: "rounds",
  command: ["/bin/bash", "-c", PROGRAM],
  address: "10.77.0.30/24",
});

before(() => lab.up({ nodes: 2 }), { timeout: 60_000 });
afterEach((context) => tellEvents(site, context as TestContext));
after(() => downAndGone(lab), { timeout: 60_000 });

/** A file of the program's as its own node has it; "" when there is none. */
async function read(node: string, name: string): Promise<string> {
  const path = `/var/lib/understudy/applications/${site.name}/files/upper/data/${name}`;
  return (await lab.exec(node, ["sh", "-c", `cat ${path} 2>/dev/null || true`])).stdout.trim();
}

/** Each file was looked at again at least once. */
async function twoRounds(node: string): Promise<void> {
  const round = Number(await read(node, "round"));
  await eventually("two rounds more", async () => Number(await read(node, "round")) > round + 2);
  assert.equal(await read(node, "wrong"), "");
}

/** The next dump fails in the stop, and the one after that when its pages are encoded. */
async function abortDumps(node: string): Promise<void> {
  const client = await ControlClient.connect(`${labPlaces(lab.name).runDirectory}/${node}/${site.name}.sock`);
  try {
    const left = new Set<unknown>(["dump", "postDump"]);
    client.on("note", ({ kind, details }) => {
      if (kind === "failure-injected") left.delete(details?.phase);
    });
    await client.call("fail", { phases: ["dump", "postDump"] });
    await eventually("both dumps have failed", () => left.size === 0);
  } finally {
    client.close();
  }
}

test("whoever takes over has the files of its checkpoint, after deaths in the midst of applying and aborted dumps", {
  timeout: 240_000,
}, async () => {
  await site.protect({ period: 200 });
  await twoRounds("node-a");
  for (let death = 0; death < DEATHS; death++) {
    await site.untilProtected();
    // Halfway through what a checkpoint changes, as the clone's own layer shows.
    await eventually("the clone is halfway through a round", async () => {
      const [first, last] = [await read("node-b", "0"), await read("node-b", String(FILES - 1))];
      return first !== "" && first !== last;
    });
    process.kill(await instancePid(lab, "node-b", site.name), "SIGKILL");
    await eventually("its death is noticed", async () => (await site.report()).inSync.length === 0);
  }
  await site.untilProtected();
  await abortDumps("node-a");
  await site.untilProtected();
  await twoRounds("node-a");
  await lab.powerOff("node-a");
  await eventually("the standby has taken over", async () => (await site.report()).primary === "node-b");
  await twoRounds("node-b");
});
