/** Real agents, fake instances: protecting, its failures, re-adoption, switching, stopping. */
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import type { NodeReport, SwitchResult } from "../../../src/agent/api-types.ts";
import { AgentClient } from "../../../src/agent/client.ts";
import type { AgentEvent } from "../../../src/agent/events.ts";
import { createAuthority, issueCertificate } from "../../../src/cluster/pki.ts";
import { tlsOptions } from "../../../src/cluster/tls.ts";
import { eventually, failure, isAlive, TestCluster } from "./harness.ts";

describe("agent", { timeout: 240_000 }, () => {
  let cluster: TestCluster;
  before(async () => {
    cluster = await TestCluster.start(["node-a", "node-b", "node-c"]);
  });
  after(() => cluster.close());
  afterEach(() => cluster.removeAll());

  const stateOf = (node: string) => {
    const { directory, run, cgroup } = cluster.node(node);
    const list = (path: string) => (existsSync(path) ? readdirSync(path) : []);
    return {
      run: list(run).filter((file) => file !== "agent.sock"),
      state: list(join(directory, "state/applications")),
      cgroups: list(join(cgroup, "apps")).filter((file) => !/^(cgroup|cpu|memory|io|irq)\./.test(file)),
    };
  };
  const empty = { run: [], state: [], cgroups: [] };
  const nothingLeft = () =>
    eventually(() => {
      for (const node of cluster.nodes.keys()) assert.deepEqual(stateOf(node), empty, node);
      return true;
    }, "Nothing left behind");

  it("protects, reports from any node, switches there and back, stops without a trace", async () => {
    const steps: string[] = [];
    const report = await cluster.protect("node-a", { standby: ["node-b"] }, ({ step }) => steps.push(step));
    assert.equal(report.state, "protected");
    assert.deepEqual(report.inSync, ["node-b"]);
    assert.ok(steps.includes("starting") && steps.includes("synchronising") && steps.includes("in-sync"), steps.join());
    assert.equal((await cluster.report("node-c")).instance?.node, "node-a");

    const { client } = cluster.node("node-c");
    const there = await client.json<SwitchResult>("POST", "/v1/applications/app/switch", { body: {} });
    assert.deepEqual([there.from, there.to, there.term], ["node-a", "node-b", 2]);
    await eventually(
      async () => (await cluster.report("node-a")).inSync.includes("node-a"),
      "The home node is in sync",
    );
    const back = await client.json<SwitchResult>("POST", "/v1/applications/app/switch", { body: { to: "node-a" } });
    assert.deepEqual([back.from, back.to, back.term], ["node-b", "node-a", 3]);

    await eventually(async () => (await cluster.report("node-a")).instance, "The instance says what it is");
    const { instance } = await cluster.report("node-a");
    await client.json("DELETE", "/v1/applications/app");
    assert.equal(isAlive(instance!.initPid), false);
    await nothingLeft();
    await assert.rejects(cluster.report("node-a"), failure("application-unknown"));
  });

  it("refuses before anything is started what cannot be", async () => {
    await assert.rejects(cluster.protect("node-a", { command: ["no-such-program"] }), failure("program-not-found"));
    await assert.rejects(cluster.protect("node-a", { command: ["/etc/passwd"] }), failure("program-not-executable"));
    await assert.rejects(cluster.protect("node-a", { standby: ["node-x"] }), failure("node-unknown"));
    await assert.rejects(cluster.protect("node-a", { standby: ["node-a"] }), failure("standby-is-primary"));
    await assert.rejects(cluster.protect("node-a", { address: "10.99.0.10" }), failure("request-invalid"));
    await assert.rejects(cluster.protect("node-a", { address: "127.0.0.2/8" }), failure("address-in-use"));
    await assert.rejects(cluster.protect("node-a", { name: "Not a name" }), failure("request-invalid"));
    await nothingLeft();
  });

  it("gives a name and an address to one only", async () => {
    await cluster.protect("node-a", {});
    await assert.rejects(cluster.protect("node-b", { address: "10.99.0.11/24" }), failure("name-in-use"));
    await assert.rejects(cluster.protect("node-b", { name: "other" }), failure("address-in-use"));
    const both = ["node-a", "node-b", "node-c"].map((node, n) =>
      cluster.protect(node, { name: "race", address: `10.99.0.2${n}/24` }),
    );
    const results = await Promise.allSettled(both);
    assert.equal(results.filter(({ status }) => status === "fulfilled").length, 1);
    for (const result of results) if (result.status === "rejected") failure("name-in-use")(result.reason);
  });

  it("undoes a protect whose program ends at once, and says how it ended", async () => {
    const failed = cluster.protect("node-a", { command: ["sh", "-c", "echo broken; exit 3"], standby: ["node-b"] });
    await assert.rejects(failed, (error: Error) => failure("program-ended")(error) && /status 3/.test(error.message));
    await nothingLeft();
    await assert.rejects(cluster.report("node-a"), failure("application-unknown"));
  });

  it("undoes a protect whose asker goes away", async () => {
    const abort = new AbortController();
    const asked = cluster.protect(
      "node-a",
      { standby: ["node-b"], environment: { FAKE_SYNC_MS: "60000" } },
      ({ step }) => step === "synchronising" && abort.abort(new Error("gone")),
      abort.signal,
    );
    await assert.rejects(asked, /gone/);
    await nothingLeft();
    await assert.rejects(cluster.report("node-a"), failure("application-unknown"));
  });

  it("does not start with a standby that is down", async () => {
    await cluster.kill("node-c");
    await assert.rejects(cluster.protect("node-a", { standby: ["node-c"] }), failure("node-unreachable"));
    const nodes = await cluster.node("node-a").client.json<NodeReport[]>("GET", "/v1/nodes");
    assert.deepEqual(
      nodes.map(({ name, alive }) => [name, alive]),
      [
        ["node-a", true],
        ["node-b", true],
        ["node-c", false],
      ],
    );
    await cluster.startAgent("node-c");
    await nothingLeft();
  });

  it("takes instances up again after kill -9 of the agent", async () => {
    const before = await cluster.protect("node-a", { standby: ["node-b"] });
    await cluster.kill("node-a");
    assert.ok(isAlive(before.instance!.instancePid) && isAlive(before.instance!.initPid));
    await assert.rejects(
      cluster.node("node-b").client.json("POST", "/v1/applications/app/checkpoints"),
      failure("primary-unreachable"),
    );
    assert.equal((await cluster.report("node-b")).state, "unreachable");
    await cluster.startAgent("node-a");
    const after = await eventually(async () => (await cluster.report("node-a")).instance, "The instance is adopted");
    assert.ok(after);
    assert.equal(after.instancePid, before.instance!.instancePid);
    assert.equal(after.state, "protected");
  });

  it("undoes at its start what it had begun to protect when it was killed", async () => {
    const asked = cluster.protect(
      "node-a",
      { standby: ["node-b"], environment: { FAKE_SYNC_MS: "60000" } },
      ({ step }) => {
        if (step === "synchronising") void cluster.kill("node-a");
      },
    );
    await assert.rejects(asked, failure("node-unreachable"));
    await cluster.startAgent("node-a");
    await nothingLeft();
    await assert.rejects(cluster.report("node-a"), failure("application-unknown"));
  });

  it("starts another instance for an application whose instance was killed", async () => {
    const { instance } = await cluster.protect("node-a", { standby: ["node-b"] });
    process.kill(instance!.instancePid, "SIGKILL");
    await eventually(async () => {
      const report = await cluster.report("node-a");
      return report.instance?.instancePid !== instance!.instancePid && report.state === "protected";
    }, "The application is taken up again and protected");
    assert.equal((await cluster.report("node-a")).instance?.initPid, instance!.initPid);
  });

  it("says lost when instance and application are gone", async () => {
    const { instance } = await cluster.protect("node-a", {});
    process.kill(instance!.instancePid, "SIGKILL");
    process.kill(instance!.initPid, "SIGKILL");
    await eventually(async () => (await cluster.report("node-b")).state === "lost", "The state is lost");
  });

  it("brings a new clone to a standby whose clone was killed", async () => {
    await cluster.protect("node-a", { standby: ["node-b"] });
    const clone = await cluster.node("node-b").client.json<{ instances: { pid: number }[] }>("GET", "/v1/health");
    process.kill(clone.instances[0]!.pid, "SIGKILL");
    await eventually(
      async () => (await cluster.report("node-a")).inSync.length === 0,
      "The standby is taken off the view",
    );
    await eventually(
      async () => (await cluster.report("node-a")).inSync.includes("node-b"),
      "The standby is in sync again",
    );
  });

  it("removes an old primary's leftovers when another node took over meanwhile", async () => {
    const { instance } = await cluster.protect("node-a", { standby: ["node-b"] });
    await cluster.kill("node-a");
    process.kill(instance!.instancePid, "SIGKILL");
    const forced = { to: "node-b", force: true };
    const moved = await cluster
      .node("node-c")
      .client.json<SwitchResult>("POST", "/v1/applications/app/switch", { body: forced });
    assert.deepEqual([moved.to, moved.term], ["node-b", 2]);
    assert.ok(isAlive(instance!.initPid));
    await cluster.startAgent("node-a");
    await eventually(() => !isAlive(instance!.initPid), "The second copy is ended");
    await eventually(
      async () => (await cluster.report("node-a")).inSync.includes("node-a"),
      "The old primary is a standby",
    );
  });

  it("refuses certificates of another authority and connections without one", async () => {
    const foreign = join(cluster.directory, "foreign");
    await createAuthority(foreign);
    const files = await issueCertificate(foreign, { name: "node-b", hosts: [], outDirectory: join(foreign, "node") });
    const own = await tlsOptions({ ...files, ca: join(cluster.directory, "ca/ca.crt") });
    const { host, port } = cluster.node("node-a");
    const client = AgentClient.tls(`https://${host}:${port}`, own, "node-a");
    await assert.rejects(client.json("GET", "/v1/health"), failure("unauthenticated"));
    const { cert, key, ...anonymous } = own;
    const nobody = AgentClient.tls(`https://${host}:${port}`, anonymous as typeof own, "node-a");
    await assert.rejects(nobody.json("GET", "/v1/health"), failure("unauthenticated"));
    const real = await tlsOptions({
      ca: join(cluster.directory, "ca/ca.crt"),
      certificate: join(cluster.node("node-b").directory, "tls/node.crt"),
      key: join(cluster.node("node-b").directory, "tls/node.key"),
    });
    const wrongName = AgentClient.tls(`https://${host}:${port}`, real, "node-c");
    await assert.rejects(wrongName.json("GET", "/v1/health"), failure("node-unreachable"));
    const right = AgentClient.tls(`https://${host}:${port}`, real, "node-a");
    assert.equal((await right.json<{ name: string }>("GET", "/v1/health")).name, "node-a");
    for (const one of [client, nobody, wrongName, right]) one.close();
  });

  it("tells events of all nodes, and follows them", async () => {
    const { client } = cluster.node("node-c");
    const abort = new AbortController();
    const kinds = new Set<string>();
    const following = (async () => {
      const lines = client.lines<AgentEvent>("GET", "/v1/events?follow=1&application=app", { signal: abort.signal });
      for await (const { node, kind } of lines) kinds.add(`${node} ${kind}`);
    })().catch(() => {});
    await cluster.protect("node-a", { standby: ["node-b"] });
    await eventually(
      () => kinds.has("node-a standby-connected") && kinds.has("node-b instance-started"),
      "The events come",
    );
    abort.abort();
    await following;
    const events = await client.json<AgentEvent[]>("GET", "/v1/events?application=app");
    assert.ok(events.length > 4 && events.every(({ application }) => application === "app"));
  });

  it("passes a whole request on to the node it is meant for", async () => {
    const health = await cluster
      .node("node-a")
      .client.json<{ name: string }>("GET", "/v1/health", { headers: { "understudy-node": "node-b" } });
    assert.equal(health.name, "node-b");
  });

  it("ends an application whose program ends, and keeps its record until it is stopped or replaced", async () => {
    const command = ["sh", "-c", `trap "exit 0" TERM; while :; do sleep 0.1; done`];
    await cluster.protect("node-a", { command, standby: ["node-b"] });
    await eventually(async () => (await cluster.report("node-a")).instance, "The instance says what it is");
    process.kill((await cluster.report("node-a")).instance!.initPid, "SIGTERM");
    await eventually(async () => (await cluster.report("node-b")).state === "ended", "The application has ended");
    const { inSync, wanted } = await cluster.report("node-b");
    assert.deepEqual([inSync, wanted], [[], []], "No clone of it is left, and none is said to be");
    await nothingLeft();
    const again = await cluster.protect("node-b", {});
    assert.equal(again.primary, "node-b");
  });
});
