/** Placement at work, with real agents and fake instances: chosen standbys, stand-ins for nodes that are away, emptied nodes. */
import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import type { DrainProgress, DrainResult, NodeReport, StreamLine } from "../../../src/agent/api-types.ts";
import { OperatingError } from "../../../src/kernel/failure.ts";
import { eventually, resultOf, TestCluster } from "./harness.ts";

describe("placement", { timeout: 400_000 }, () => {
  let cluster: TestCluster;
  before(async () => {
    cluster = await TestCluster.start(["node-a", "node-b", "node-c"]);
  });
  after(() => cluster.close());
  afterEach(async () => {
    const { client } = cluster.node("node-a");
    await cluster.removeAll();
    for (const { name, drained } of await client.json<NodeReport[]>("GET", "/v1/nodes"))
      if (drained) await client.json("DELETE", `/v1/nodes/${name}/drain`);
    // Every agent has heard of it.
    for (const { client: each } of cluster.nodes.values())
      await eventually(
        async () => (await each.json<NodeReport[]>("GET", "/v1/nodes")).every(({ drained }) => !drained),
        "No node is being emptied",
      );
  });

  async function drain(asked: string, node: string): Promise<DrainResult> {
    const { client } = cluster.node(asked);
    return resultOf(client.lines<StreamLine<DrainResult, DrainProgress>>("POST", `/v1/nodes/${node}/drain`));
  }
  const inSync = (nodes: string, what: string) =>
    eventually(async () => (await cluster.report("node-a")).inSync.sort().join() === nodes, what, 60_000);

  it("chooses as many standbys as are wanted, where the wishes allow it", async () => {
    const placement = { standbys: 1, avoid: ["node-b"] };
    await cluster.protect("node-a", { placement });
    await inSync("node-c", "The one that may hold a clone does");
  });

  it("another stands in for a node that is away, until it is back", async () => {
    await cluster.protect("node-a", { standby: ["node-b"], placement: { replaceAfter: 1 } });
    await cluster.kill("node-b");
    const [clone] = (await cluster.report("node-a")).standbys;
    assert.equal(clone?.node, "node-b");
    // Its instance lives and is in sync: a dead agent alone takes nothing away.
    assert.deepEqual((await cluster.report("node-a")).wanted, ["node-b"]);
    await cluster.startAgent("node-b");
    const { instances } = await cluster
      .node("node-b")
      .client.json<{ instances: { pid: number }[] }>("GET", "/v1/health");
    await cluster.kill("node-b");
    process.kill(instances[0]!.pid, "SIGKILL");
    await inSync("node-c", "Another stands in");
    await cluster.startAgent("node-b");
    await inSync("node-b", "It is back");
    assert.deepEqual((await cluster.report("node-a")).wanted, ["node-b"]);
  });

  it("empties the primary's node: protected elsewhere first, then moved; and back again after undrain", async () => {
    await cluster.protect("node-a", { standby: ["node-b"] });
    const { moved } = await drain("node-c", "node-a");
    assert.deepEqual(
      moved.map(({ from, to, term }) => [from, ["node-b", "node-c"].includes(to), term]),
      [["node-a", true, 2]],
    );
    await eventually(
      async () => {
        const { primary, inSync: others } = await cluster.report("node-b");
        return ["node-b", "node-c"].includes(primary!) && others.length === 1 && !others.includes("node-a");
      },
      "It is protected without the node",
      60_000,
    );
    assert.deepEqual(
      (await cluster.node("node-a").client.json<{ instances: unknown[] }>("GET", "/v1/health")).instances,
      [],
    );
    await assert.rejects(cluster.protect("node-a", { name: "more", address: "10.99.0.60/24" }), (error: unknown) => {
      assert.ok(error instanceof OperatingError);
      assert.equal(error.code, "node-drained");
      return true;
    });
    await cluster.node("node-b").client.json("DELETE", "/v1/nodes/node-a/drain");
    await eventually(async () => (await cluster.report("node-b")).inSync.includes("node-a"), "It is back", 60_000);
  });

  it("empties a standby's node, and says when nothing can be moved", async () => {
    await cluster.protect("node-a", { standby: ["node-b"] });
    assert.deepEqual((await drain("node-a", "node-b")).moved, []);
    await inSync("node-c", "The other node holds the clone");
    assert.equal((await cluster.report("node-a")).primary, "node-a");
  });
});
