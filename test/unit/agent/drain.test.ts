/** Placement at work, with real agents and fake instances: chosen standbys, stand-ins for nodes that are away, emptied nodes. */
import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type {
  ApplicationReport,
  ApplyResult,
  DrainProgress,
  DrainResult,
  NodeReport,
  StreamLine,
} from "../../../src/agent/api-types.ts";
import { OperatingError } from "../../../src/kernel/failure.ts";
import { eventually, failure, resultOf, TestCluster } from "./harness.ts";

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
  const apply = async (placement: object): Promise<ApplicationReport> => {
    const application = { name: "app", command: ["sleep", "1000"], address: "10.99.0.20/24" };
    const body = { ...application, placement: { standbys: 1, ...placement } };
    const { client } = cluster.node("node-a");
    return (await resultOf(client.lines<StreamLine<ApplyResult>>("PUT", "/v1/applications/app", { body }))).report;
  };
  const inSync = (nodes: string, what: string) =>
    eventually(async () => (await cluster.report("node-a")).inSync.sort().join() === nodes, what, 60_000);

  it("chooses as many standbys as are wanted, where the wishes allow it", async () => {
    const placement = { standbys: 1, avoid: ["node-b"] };
    await cluster.protect("node-a", { placement });
    await inSync("node-c", "The one that may hold a clone does");
  });

  it("another takes over from a chosen node that the owner does not want any more", async () => {
    await apply({ avoid: ["node-b"] });
    await inSync("node-c", "Where it may be");
    // When it answers, those that were chosen are in sync.
    assert.ok((await apply({ avoid: ["node-c"] })).inSync.includes("node-b"));
    await inSync("node-b", "The other is given up");
    assert.equal((await cluster.report("node-a")).missing, 0);
    await assert.rejects(
      apply({ avoid: ["node-b", "node-c"] }),
      failure("not-followed-yet", /no node for 1 of its clones/),
    );
    assert.deepEqual((await cluster.report("node-a")).inSync, ["node-b"], "Nobody holds it otherwise");
  });

  it("a chosen node that is away gives way for good to one that was chosen beside it", async () => {
    await apply({ standbys: 2, replaceAfter: 1 });
    await inSync("node-b,node-c", "Both are chosen");
    const [first] = (await apply({ standbys: 1, replaceAfter: 1 })).wanted;
    const second = first === "node-b" ? "node-c" : "node-b";
    await inSync(first!, "One is enough");
    const { instances } = await cluster.node(first!).client.json<{ instances: { pid: number }[] }>("GET", "/v1/health");
    await cluster.kill(first!);
    process.kill(instances[0]!.pid, "SIGKILL");
    await inSync(second, "The other holds the clone again");
    for (let look = 0; look < 15; look++) {
      assert.deepEqual((await cluster.report("node-a")).wanted, [second]);
      await sleep(200);
    }
    await cluster.startAgent(first!);
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

  it("empties the primary's node while a standby is away", async () => {
    await cluster.protect("node-a", { standby: ["node-b", "node-c"] });
    const { instances } = await cluster
      .node("node-c")
      .client.json<{ instances: { pid: number }[] }>("GET", "/v1/health");
    await cluster.kill("node-c");
    process.kill(instances[0]!.pid, "SIGKILL");
    await inSync("node-b", "One is left");
    const { moved } = await drain("node-b", "node-a");
    assert.deepEqual(
      moved.map(({ to }) => to),
      ["node-b"],
    );
    await cluster.startAgent("node-c");
    await eventually(async () => (await cluster.report("node-b")).inSync.join() === "node-c", "It is back", 60_000);
  });

  it("takes no clone away without which output would wait, and says so", async () => {
    await cluster.protect("node-a", { standby: ["node-b", "node-c"], minInSync: 2, onTooFew: "hold" });
    const { client } = cluster.node("node-a");
    for (const node of ["node-b", "node-a"]) {
      for await (const line of client.lines<StreamLine<DrainResult, DrainProgress>>(
        "POST",
        `/v1/nodes/${node}/drain`,
      )) {
        assert.ok("progress" in line && line.progress.step === "waiting", JSON.stringify(line));
        if (line.progress.message.includes("onTooFew: hold")) break;
      }
      assert.deepEqual((await cluster.report("node-a")).inSync.sort(), ["node-b", "node-c"]);
      await client.json("DELETE", `/v1/nodes/${node}/drain`);
    }
  });

  it("empties a standby's node, and says when nothing can be moved", async () => {
    await cluster.protect("node-a", { standby: ["node-b"] });
    assert.deepEqual((await drain("node-a", "node-b")).moved, []);
    await inSync("node-c", "The other node holds the clone");
    assert.equal((await cluster.report("node-a")).primary, "node-a");
  });
});
