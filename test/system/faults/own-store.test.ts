/**
 * A lab on an etcd that the user runs: it is used as it is, under a prefix of its own, by nodes that show their certificates; away
 * for a while, it stops nothing that is in sync.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, type TestContext, test } from "node:test";
import { Lab } from "../../../src/lab/lab.ts";
import { CLIENT, clientAddress, labPlaces, namespaceOf } from "../../../src/lab/layout.ts";
import { RedisSite } from "../../../workload/site.ts";
import { answersCome, assertOneCopy, downAndGone, eventually, freeze, tellEvents, underLoad } from "./support.ts";

const lab = new Lab({ name: `own${process.pid}` });
const site = new RedisSite(lab);
const endpoint = `${clientAddress}:2379`;
const scratch = mkdtempSync(join(tmpdir(), "understudy-own-store-"));
let etcd: ChildProcess | undefined;

/** Beside the nodes, on the client host, whose certificate is of the lab's authority. */
function startEtcd(): void {
  const tls = labPlaces(lab.name).clientTls;
  const argv = [
    ...["ip", "netns", "exec", namespaceOf(lab.name, CLIENT), "etcd", "--name=own", `--data-dir=${scratch}/data`],
    ...[`--listen-client-urls=https://${endpoint}`, `--advertise-client-urls=https://${endpoint}`],
    ...["--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380"],
    ...["--initial-cluster=own=http://127.0.0.1:2380", "--log-level=error", "--client-cert-auth"],
    ...[`--cert-file=${tls}/node.crt`, `--key-file=${tls}/node.key`, `--trusted-ca-file=${tls}/ca.crt`],
  ];
  etcd = spawn(argv[0]!, argv.slice(1), { stdio: "ignore" });
}

before(
  async () => {
    const onProgress = (what: string) => {
      if (what === "waiting for the cluster store") startEtcd();
    };
    await lab.up({ nodes: 3, store: `etcd://${endpoint}`, onProgress });
    await site.protect({ standby: ["node-b", "node-c"] });
  },
  { timeout: 120_000 },
);
afterEach((context) => tellEvents(site, context as TestContext));
after(
  async () => {
    const ended = etcd && new Promise((resolve) => etcd!.once("exit", resolve));
    etcd?.kill("SIGKILL");
    await ended;
    rmSync(scratch, { recursive: true, force: true });
    await downAndGone(lab);
  },
  { timeout: 60_000 },
);

test("no node has a member of its own; switches go by the user's etcd", { timeout: 120_000 }, async () => {
  for (const node of ["node-a", "node-b", "node-c"])
    assert.equal((await lab.exec(node, ["sh", "-c", "ls /var/lib/understudy/etcd 2>/dev/null"])).stdout, "");
  await underLoad(site, async (counters) => {
    const { primary, term } = await site.untilProtected({ standbys: 2 });
    await site.switchTo(primary === "node-b" ? "node-c" : "node-b");
    await answersCome(counters);
    await site.untilProtected({ standbys: 2, term: term + 1 });
  });
  await assertOneCopy(site);
});

test("away for a while it stops nothing in sync; a take-over waits for it", { timeout: 180_000 }, async () => {
  await underLoad(site, async (counters) => {
    const { primary, term } = await site.untilProtected({ standbys: 2 });
    {
      using _away = freeze(etcd!.pid!);
      for (let round = 0; round < 3; round++) await answersCome(counters);
      await lab.powerOff(primary!);
    }
    await eventually("another node takes over", async () => (await site.report()).term > term, 30_000);
    await answersCome(counters);
    await lab.powerOn(primary!);
    await site.untilProtected({ standbys: 2, timeoutMs: 60_000 });
  });
  await assertOneCopy(site);
});
