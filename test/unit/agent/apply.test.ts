/** Applying specifications, with real agents and fake instances. */
import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import type { ApplyPlan, ApplyResult, StreamLine } from "../../../src/agent/api-types.ts";
import { eventually, failure, isAlive, resultOf, TestCluster } from "./harness.ts";

const application = { name: "app", command: ["sleep", "1000"], address: "10.99.0.20/24", standby: ["node-b"] };

describe("apply", { timeout: 240_000 }, () => {
  let cluster: TestCluster;
  before(async () => {
    cluster = await TestCluster.start(["node-a", "node-b", "node-c"]);
  });
  after(() => cluster.close());
  afterEach(() => cluster.removeAll());

  async function apply(node: string, body: object): Promise<ApplyResult> {
    const { client } = cluster.node(node);
    return resultOf(client.lines<StreamLine<ApplyResult>>("PUT", "/v1/applications/app", { body }));
  }
  const diff = (node: string, body: object) =>
    cluster.node(node).client.json<ApplyPlan>("POST", "/v1/applications/app/diff", { body });

  it("starts what is not there, at home; then finds it as it shall be", async () => {
    const wish = { ...application, home: "node-c" };
    assert.equal((await diff("node-a", wish)).action, "create");
    const first = await apply("node-a", wish);
    assert.equal(first.plan.action, "create");
    assert.equal(first.report.primary, "node-c");
    assert.deepEqual(first.report.inSync, ["node-b"]);
    const again = await apply("node-b", wish);
    assert.equal(again.plan.action, "none");
    assert.equal(again.report.instance!.initPid, first.report.instance!.initPid);
    // A file that says nothing of the home does not move it.
    assert.equal((await diff("node-a", application)).action, "none");
  });

  it("changes a running application while it runs, asked of any node", async () => {
    const { report: before } = await apply("node-a", application);
    const changed = {
      ...application,
      standby: ["node-c"],
      commit: "none",
      period: 20,
      keep: 7,
      onUnprotectable: "warn",
    };
    const plan = await diff("node-b", changed);
    assert.deepEqual(
      plan.changes.map(({ key, takes }) => [key, takes]),
      ["standby", "commit", "period", "keep", "onUnprotectable"].map((key) => [key, "live"]),
    );
    const { report } = await apply("node-b", changed);
    assert.equal(report.term, 1);
    assert.equal(report.instance!.initPid, before.instance!.initPid);
    assert.ok(report.inSync.includes("node-c"));
    assert.ok(report.instance!.specification > before.instance!.specification);
    assert.deepEqual([report.commit, report.period, report.keep, report.onUnprotectable], ["none", 20, 7, "warn"]);
    await eventually(async () => {
      const { inSync, standbys } = await cluster.report("node-a");
      return inSync.join() === "node-c" && standbys.length === 1;
    }, "The clone that is not wanted any more goes");
  });

  it("keeps a clone that is not wanted any more until those that are wanted can take over", async () => {
    await apply("node-a", application);
    await cluster.kill("node-c");
    await apply("node-a", { ...application, standby: ["node-c"], wait: false });
    await eventually(
      async () => (await cluster.report("node-a")).problems.some(({ node }) => node === "node-c"),
      "The new standby is tried",
    );
    assert.deepEqual((await cluster.report("node-a")).inSync, ["node-b"]);
    await cluster.startAgent("node-c");
    await eventually(
      async () => (await cluster.report("node-a")).inSync.join() === "node-c",
      "It has changed over",
      30_000,
    );
  });

  it("refuses by name what takes another start, unless told", async () => {
    const { report: before } = await apply("node-a", application);
    const other = { ...application, command: ["sleep", "2000"], address: "10.99.0.21/24", keep: 5 };
    assert.equal((await diff("node-a", other)).action, "recreate");
    await assert.rejects(apply("node-a", other), failure("needs-recreate", /"command", "address"/));
    const still = await cluster.report("node-a");
    assert.equal(still.keep, 3);
    assert.equal(still.instance!.initPid, before.instance!.initPid);
    const { report } = await apply("node-b", { ...other, recreate: true });
    assert.deepEqual([report.address, report.keep, report.primary], ["10.99.0.21/24", 5, "node-a"]);
    assert.equal(isAlive(before.instance!.initPid), false);
  });

  it("refuses what cannot be meant, and nothing is changed", async () => {
    await assert.rejects(
      apply("node-a", { ...application, keep: 0 }),
      failure("request-invalid", /"keep": 0 .* 1 to 1000/),
    );
    await apply("node-a", application);
    await assert.rejects(apply("node-a", { ...application, standby: ["node-x"] }), failure("node-unknown"));
    await assert.rejects(apply("node-a", { ...application, standby: ["node-a"] }), failure("standby-is-primary"));
    assert.deepEqual((await cluster.report("node-a")).wanted, ["node-b"]);
  });

  it("an application that has ended is started again", async () => {
    await apply("node-a", { ...application, standby: [], command: ["sleep", "2"] });
    await eventually(async () => (await cluster.report("node-a")).state === "ended", "It ends");
    const { plan } = await apply("node-a", application);
    assert.equal(plan.action, "create");
  });
});
