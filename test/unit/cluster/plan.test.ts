/** What apply would do, for every difference. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Application, type ApplicationKey, keyChanges } from "../../../src/cluster/application.ts";
import { planOf } from "../../../src/cluster/plan.ts";
import { type ApplicationSpec, applicationDefaults } from "../../../src/cluster/spec.ts";

const shall: Application = { ...applicationDefaults, name: "app", command: ["sleep", "1"], address: "10.0.0.1/24" };
const is: ApplicationSpec = { ...shall, home: "node-a", createdAt: "then" };

describe("plan", () => {
  it("starts what is not there", () => {
    assert.deepEqual(planOf(undefined, shall), { application: "app", action: "create", changes: [] });
  });

  it("finds no difference where there is none, whatever the order of keys", () => {
    const environment = { A: "1", B: "2" };
    assert.equal(planOf({ ...is, environment }, { ...shall, environment: { B: "2", A: "1" } }).action, "none");
    assert.equal(planOf(is, shall).action, "none");
  });

  it("tells every key's change, and whether it takes another start", () => {
    const others: Record<Exclude<ApplicationKey, "name">, unknown> = {
      ...{ command: ["sleep", "2"], environment: { A: "1" }, workingDirectory: "/tmp", address: "10.0.0.2/24" },
      ...{ gateway: "10.0.0.254", home: "node-b", standby: ["node-c"], commit: "none", period: 7, keep: 1 },
      ...{ minInSync: 1, onTooFew: "hold", onUnprotectable: "warn", syncLimit: 1_000_000, balance: "auto" },
      restart: { ...applicationDefaults.restart, on: "failure" },
      health: { ...applicationDefaults.health, probe: "tcp", port: 6379 },
      placement: { ...applicationDefaults.placement, standbys: 2 },
      ...{ volumes: [{ path: "/data", directory: "/srv/data" }], disk: 2 ** 30, durable: true },
    };
    for (const [key, to] of Object.entries(others)) {
      const { action, changes } = planOf(is, { ...shall, [key]: to } as Application);
      const takes = keyChanges[key as ApplicationKey];
      assert.equal(action, takes === "live" ? "change" : "recreate", key);
      const from = is[key as ApplicationKey];
      assert.deepEqual(changes, [{ key, ...(from !== undefined && { from }), to, takes }]);
    }
  });

  it("a key that is taken out of the file goes back to its default", () => {
    const { changes } = planOf({ ...is, keep: 9, gateway: "10.0.0.254" }, shall);
    assert.deepEqual(changes, [
      { key: "gateway", from: "10.0.0.254", takes: "recreate" },
      { key: "keep", from: 9, to: 3, takes: "live" },
    ]);
  });
});
