/** A clone believes only its cluster, only its primary, and only whole checkpoints. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { CloneAnswer } from "../../../src/agent/api-types.ts";
import { AgentClient } from "../../../src/agent/client.ts";
import type { AgentEvent } from "../../../src/agent/events.ts";
import { openStore } from "../../../src/cluster/open.ts";
import { createAuthority, issueCertificate, type TlsFiles } from "../../../src/cluster/pki.ts";
import { type ApplicationSpec, applicationDefaults, type View } from "../../../src/cluster/spec.ts";
import { type ClusterStore, storeKeys } from "../../../src/cluster/store.ts";
import { Lab } from "../../../src/lab/lab.ts";
import { labPlaces } from "../../../src/lab/layout.ts";
import type { Outcome, Scenario } from "./fake-primary.ts";
import { cli, downAndGone, eventually, untilNothingOfApplications } from "./support.ts";

const lab = new Lab({ name: `str${process.pid}` });
const program = join(import.meta.dirname, "fake-primary.ts");
const NAME = "forged";
const view: View = { term: 1, primary: "node-a", inSync: [] };
let store: ClusterStore;
let clone: CloneAnswer;
let revision: number;
let stream = 0;

/** An application that node-a is said to run, and a real, empty clone of it on node-b. */
before(
  async () => {
    await lab.up({ nodes: 2 });
    store = await openStore(`sqlite:${labPlaces(lab.name).store}/store.db`);
    const createdAt = new Date().toISOString();
    const spec: ApplicationSpec = {
      ...applicationDefaults,
      ...{ name: NAME, command: ["true"], address: "10.77.0.30/24", standby: ["node-b"], home: "node-a", createdAt },
    };
    await store.compareAndSwap(storeKeys.specification(NAME), 0, spec);
    const swap = await store.compareAndSwap(storeKeys.view(NAME), 0, view);
    assert.ok(swap.ok);
    revision = swap.revision;
    clone = await AgentClient.unix(lab.agentSocket("node-b")).json("POST", `/v1/internal/clones/${NAME}`, {
      body: { primary: "node-a", term: 1, createdAt },
    });
  },
  { timeout: 120_000 },
);
after(
  async () => {
    store.close();
    await downAndGone(lab);
  },
  { timeout: 60_000 },
);

function certificateOf(node: string): TlsFiles {
  const directory = join(labPlaces(lab.name).directory, node, "upper/etc/understudy/tls");
  const at = (file: string) => join(directory, file);
  return { ca: at("ca.crt"), certificate: at("node.crt"), key: at("node.key") };
}

async function play(then: Scenario["then"], change: Partial<Scenario> = {}, tls = certificateOf("node-a")) {
  stream += 1;
  const hello = { application: NAME, node: "node-a", term: 1, view, revision, stream };
  const scenario: Scenario = { ...hello, then, ...change };
  const files = [tls.ca, tls.certificate, tls.key];
  const argv = [process.execPath, program, clone.host, String(clone.port), ...files, JSON.stringify(scenario)];
  const { stdout, stderr } = await lab.client(argv);
  assert.notEqual(stdout, "", stderr);
  return JSON.parse(stdout) as Outcome;
}

async function events(kind: string): Promise<AgentEvent[]> {
  const { stdout } = await cli(lab, "node-b", ["events", "--json", "--application", NAME]);
  return (JSON.parse(stdout) as { events: AgentEvent[] }).events.filter((event) => event.kind === kind);
}

test("the real certificate and a whole checkpoint: acknowledged", { timeout: 60_000 }, async () => {
  const { accepted, acknowledged } = await play("good");
  assert.deepEqual({ accepted, acknowledged }, { accepted: true, acknowledged: [1, 2] });
});

test("a certificate of another authority of the same names", { timeout: 60_000 }, async () => {
  const directory = mkdtempSync("/tmp/understudy-foreign-");
  try {
    await createAuthority(directory);
    const own = join(directory, "node-a");
    await issueCertificate(directory, { name: "node-a", hosts: ["10.77.0.1"], outDirectory: own });
    const at = (file: string) => join(own, file);
    const foreign = { ca: at("ca.crt"), certificate: at("node.crt"), key: at("node.key") };
    const { accepted, acknowledged, closed } = await play("good", {}, foreign);
    assert.deepEqual({ accepted, acknowledged, closed }, { accepted: false, acknowledged: [], closed: true });
    const told = await eventually("it is told", async () => (await events("stream-refused"))[0]);
    assert.match(told.message, /^A connection without a certificate of this cluster was refused: [\w ]+$/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("somebody of this cluster who is not who he says, or asks for what is not here", { timeout: 60_000 }, async () => {
  for (const [change, tls, reason] of [
    [{}, lab.clientTls, /certificate of "/],
    [{ node: "node-b" }, certificateOf("node-a"), /certificate of "node-a"/],
    [{ application: "another" }, certificateOf("node-a"), /not cloned here/],
    [{ version: 99 }, certificateOf("node-a"), /stream version 99/],
    [{ term: 7 }, certificateOf("node-a"), /term/],
  ] as [Partial<Scenario>, TlsFiles, RegExp][]) {
    const outcome = await play("good", change, tls);
    assert.equal(outcome.accepted, false, JSON.stringify(change));
    assert.match(outcome.refused ?? "", reason);
  }
});

for (const then of ["altered", "truncated", "repeated", "older", "noise", "huge", "unknown-image"] as const) {
  test(`a checkpoint that is ${then}: the clone is given up, nothing of it counts`, { timeout: 60_000 }, async () => {
    const before = (await events("clone-lost")).length;
    const { accepted, acknowledged, closed } = await play(then);
    const good = then === "repeated" ? [1, 2] : [1];
    assert.deepEqual({ accepted, acknowledged, closed }, { accepted: true, acknowledged: good, closed: true });
    await eventually("it is told", async () => (await events("clone-lost")).length > before);
    // And the next one finds it ready to begin anew.
    assert.deepEqual((await play("good")).acknowledged, [1, 2]);
  });
}

test("a stream that is cut in mid-frame: what was whole stays, the rest does not count", {
  timeout: 60_000,
}, async () => {
  const { accepted, acknowledged } = await play("cut");
  assert.deepEqual({ accepted, acknowledged }, { accepted: true, acknowledged: [1] });
  assert.deepEqual((await play("good")).acknowledged, [1, 2]);
});

test("the record is changed by none of it, and all goes away", { timeout: 60_000 }, async () => {
  const now = await store.get<View>(storeKeys.view(NAME));
  assert.deepEqual(now, { value: view, revision });
  await AgentClient.unix(lab.agentSocket("node-a")).json("DELETE", `/v1/applications/${NAME}`);
  await untilNothingOfApplications(lab);
});
