/** Where applications are placed, and how the load is shared: choices, hysteresis, and what a decision costs in a large cluster. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { autoBalanceDefaults, lookForMoves, startAutoBalance } from "../../../src/cluster/auto-balance.ts";
import { planBalance } from "../../../src/cluster/balance.ts";
import {
  type ApplicationPicture,
  chooseStandby,
  type NodePicture,
  noWishes,
  Picture,
} from "../../../src/cluster/placement.ts";
import { missingStandbys, noPlacement, wantedStandbys } from "../../../src/cluster/standbys.ts";
import { simulateAutoBalance } from "../../../src/sim/auto-balance.ts";
import { simulatePlacement } from "../../../src/sim/placement.ts";

const GB = 2 ** 30;
const capacity = { cpu: 8, memory: 32 * GB, network: 125e6 };
const node = (name: string, labels = {}, open = true): NodePicture => ({ name, labels, capacity, open });
const application = (
  name: string,
  primary: string,
  standbys: string[],
  more: Partial<ApplicationPicture> = {},
): ApplicationPicture => ({
  ...{ name, primary, standbys, load: { cpu: 1, memory: GB, network: 1e6 }, wishes: noWishes },
  ...more,
});

describe("a standby is chosen", () => {
  const zones = [
    node("a", { zone: "1" }),
    node("b", { zone: "1" }),
    node("c", { zone: "2" }),
    node("d", { zone: "2" }),
  ];

  it("in another failure domain first, then where there is room, then by name", () => {
    const busy = application("busy", "c", []);
    assert.equal(chooseStandby(new Picture(zones, [application("x", "a", []), busy]), "x"), "d");
    assert.equal(chooseStandby(new Picture(zones, [application("x", "a", [])]), "x"), "c");
    assert.equal(chooseStandby(new Picture(zones, [application("x", "a", ["c"])]), "x"), "b");
    // The copy in zone 2 is on a node that is left: zone 2 is free again.
    assert.equal(chooseStandby(new Picture(zones, [application("x", "a", ["c"])]), "x", new Set(["c"])), "d");
  });

  it("only where it may be: labels, avoided nodes, apart from others, nodes that are open", () => {
    const disks = [
      node("a"),
      node("b", { disk: "ssd" }),
      node("c", { disk: "ssd" }),
      node("d", { disk: "ssd" }, false),
    ];
    const wishes = { ...noWishes, require: { disk: "ssd" }, avoid: ["b"], apart: ["rival"] };
    const x = application("x", "a", [], { wishes });
    assert.equal(chooseStandby(new Picture(disks, [x]), "x"), "c");
    assert.equal(chooseStandby(new Picture(disks, [x, application("rival", "c", [])]), "x"), undefined);
  });

  it("where its owner prefers it before where there is more room", () => {
    const wishes = { ...noWishes, prefer: { rack: "near" } };
    const nodes = [node("a"), node("b"), node("c", { rack: "near" })];
    const picture = new Picture(nodes, [application("x", "a", [], { wishes }), application("busy", "c", [])]);
    assert.equal(chooseStandby(picture, "x"), "c");
  });
});

describe("wanted standbys", () => {
  const spec = { standby: ["b"], home: "a" };
  const none = new Set<string>();

  it("are those wished for and the home, without the primary and nodes that are being emptied", () => {
    assert.deepEqual(wantedStandbys(spec, { primary: "a" }), ["b"]);
    assert.deepEqual(wantedStandbys(spec, { primary: "b" }), ["a"]);
    assert.deepEqual(wantedStandbys(spec, { primary: "a" }, noPlacement, new Set(["b"])), []);
    assert.equal(missingStandbys(spec, { primary: "a" }, noPlacement, new Set(["b"])), 1);
  });

  it("have others stand in, for as long as that is needed", () => {
    const chosen = { extra: ["c", "d"], without: [] };
    assert.deepEqual(wantedStandbys(spec, { primary: "a" }, chosen, new Set(["b"])), ["c"]);
    assert.deepEqual(wantedStandbys(spec, { primary: "a" }, chosen, new Set(["b", "c"])), ["d"]);
    assert.deepEqual(wantedStandbys(spec, { primary: "a" }, chosen, none), ["b"]);
    assert.deepEqual(wantedStandbys(spec, { primary: "a" }, { ...chosen, without: ["b"] }, none), ["b", "c"]);
    // The application has moved to the one that stood in.
    assert.deepEqual(wantedStandbys(spec, { primary: "c" }, chosen, new Set(["b"])), ["a"]);
  });

  it("may be given by their number alone", () => {
    const counted = { standby: [], home: "a", placement: { standbys: 2 } };
    assert.equal(missingStandbys(counted, { primary: "a" }, noPlacement, none), 2);
    assert.deepEqual(wantedStandbys(counted, { primary: "a" }, { extra: ["x", "y", "z"], without: [] }, none), [
      "x",
      "y",
    ]);
  });
});

describe("the load is shared", () => {
  const four = ["a", "b", "c", "d"].map((name) => node(name));

  it("nothing moves while no node is much fuller than the others", () => {
    const even = four.map(({ name }, index) => application(`on-${name}`, name, [four[(index + 1) % 4]!.name]));
    assert.deepEqual(planBalance(new Picture(four, even)), []);
    const little = [...even, application("more", "a", ["c"])];
    assert.deepEqual(planBalance(new Picture(four, little)), []);
  });

  it("a full node gives to its standbys until it is not much fuller, and then all is quiet", () => {
    const crowd = Array.from({ length: 8 }, (_, index) =>
      application(`app-${index}`, "a", [four[1 + (index % 3)]!.name]),
    );
    const picture = new Picture(four, crowd);
    const before = picture.pressure("a");
    const moves = planBalance(picture);
    assert.ok(moves.length >= 3 && moves.length < 8, JSON.stringify(moves));
    assert.ok(moves.every(({ from, to }) => from === "a" && to !== "a"));
    assert.ok(picture.pressure("a") < before - 0.3);
    assert.deepEqual(planBalance(picture), []);
  });

  it("one application alone on a node is not moved to and fro", () => {
    const picture = new Picture(
      [node("a"), node("b")],
      [application("x", "a", ["b"], { load: { cpu: 8, memory: GB, network: 0 } })],
    );
    assert.deepEqual(planBalance(picture), []);
  });

  it("never makes the fullest node fuller, never moves what may not, and comes to rest", () => {
    const loads = fc.array(fc.tuple(fc.nat(3), fc.nat(3), fc.integer({ min: 1, max: 30 })), { maxLength: 40 });
    fc.assert(
      fc.property(loads, fc.nat(3), (list, closed) => {
        const nodes = four.map((one, index) => ({ ...one, open: index !== closed }));
        const applications = list.map(([at, to, cpu], index) =>
          application(`app-${index}`, four[at]!.name, at === to ? [] : [four[to]!.name], {
            load: { cpu: cpu / 10, memory: GB / 10, network: 0 },
          }),
        );
        const picture = new Picture(nodes, applications);
        const open = nodes.filter((one) => one.open).map(({ name }) => name);
        const fullest = () => Math.max(...open.map((name) => picture.pressure(name)));
        const before = fullest();
        const moves = planBalance(picture, { mostMoves: 1000 });
        assert.ok(fullest() <= before + 1e-9);
        for (const { to } of moves) assert.ok(open.includes(to));
        assert.deepEqual(planBalance(picture, { mostMoves: 1000 }), []);
      }),
      { numRuns: 200 },
    );
  });
});

describe("balance: auto", () => {
  const nodes = ["a", "b", "c", "d"].map((name) => node(name));
  const crowd = Array.from({ length: 8 }, (_, index) =>
    application(`app-${index}`, "a", [nodes[1 + (index % 3)]!.name]),
  );
  const any = () => true;
  const LOOK_MS = 10_000;

  it("waits until a node has been full for some looks in a row, and what has moved rests", () => {
    let state = startAutoBalance;
    const movedAt = new Map<string, number>();
    let apps: ApplicationPicture[] = crowd;
    for (let look = 1; look <= 20; look++) {
      // A look at which it is not full: all begins anew.
      const shown = look === 3 ? apps.map((one) => ({ ...one, load: { ...one.load, cpu: 0.01 } })) : apps;
      const picture = new Picture(nodes, shown);
      const found = lookForMoves(state, picture, any, look * LOOK_MS);
      state = found.state;
      if (look < 6) assert.deepEqual(found.moves, [], `look ${look}`);
      if (look === 6) assert.ok(found.moves.length >= 3);
      if (look > 6) assert.deepEqual(found.moves, [], "It is even");
      for (const { application: name } of found.moves) movedAt.set(name, look);
      if (look !== 3) apps = [...picture.applications.values()];
    }
    // All crowd where they have come to: those that moved stay, for now.
    const there = apps.find(({ name }) => movedAt.has(name))!.primary;
    apps = apps.map((one) => ({ ...one, primary: there, standbys: [there === "a" ? "b" : "a"] }));
    for (let look = 21; look <= 30; look++) {
      const picture = new Picture(nodes, apps);
      const found = lookForMoves(state, picture, any, look * LOOK_MS);
      state = found.state;
      for (const { application: name } of found.moves)
        assert.ok(look * LOOK_MS - (movedAt.get(name) ?? -60) * LOOK_MS >= autoBalanceDefaults.restMs, name);
      apps = [...picture.applications.values()];
    }
  });

  it("moves only those whose owners wish for it", () => {
    let state = startAutoBalance;
    const wishes = new Set(["app-0", "app-3"]);
    const moved: string[] = [];
    for (let look = 0; look < 10; look++) {
      const found = lookForMoves(state, new Picture(nodes, crowd), (name) => wishes.has(name), look * LOOK_MS);
      state = found.state;
      moved.push(...found.moves.map(({ application: name }) => name));
    }
    assert.deepEqual(moved.sort(), [...wishes]);
  });

  it("does not flap: neither by noise, nor by loads that swing for days", (t) => {
    const steady = simulateAutoBalance({
      ...{ nodes: 100, applications: 1000, looks: 120, noise: 0.3, swingLooks: 0, seed: 1 },
    });
    t.diagnostic(`steady: ${steady.moves} moves, full nodes ${steady.fullAtFirst} → ${steady.full}`);
    assert.ok(steady.fullAtFirst > 0 && steady.moves > 0);
    assert.deepEqual([steady.full, steady.lateMoves], [0, 0]);
    // Twelve hours in a smaller one: the load of a tenth swings fourfold every twenty minutes.
    const swinging = simulateAutoBalance({
      ...{ nodes: 20, applications: 200, looks: 4320, noise: 0.3, swingLooks: 120, seed: 2 },
    });
    t.diagnostic(`swinging: ${swinging.moves} moves in 12 h, ${swinging.lateMoves} of them in the last 3 h`);
    assert.ok(swinging.soonestAgainMs >= autoBalanceDefaults.restMs);
    // Twenty applications swing nine times in the last three hours.
    assert.ok(swinging.lateMoves < 20, `${swinging.lateMoves} moves in the last three hours`);
  });
});

describe("a large cluster", () => {
  it("1,000 nodes with 10,000 applications are placed, balanced and emptied; the costs are printed", (t) => {
    const outcome = simulatePlacement({ nodes: 1000, applications: 10_000, seed: 7, drains: 20 });
    const { imbalance, moves, oneDomain, left, picture } = outcome;
    for (const decision of ["build", "standby", "primary", "balance"] as const) {
      const { count, medianMs, worstMs } = outcome[decision];
      t.diagnostic(`${decision}: ${count} times, median ${medianMs.toFixed(3)} ms, worst ${worstMs.toFixed(3)} ms`);
    }
    t.diagnostic(
      `${moves} moves; fullest node above the mean: ${imbalance.before.toFixed(2)} → ${imbalance.after.toFixed(2)}`,
    );
    const auto = simulateAutoBalance({
      ...{ nodes: 1000, applications: 10_000, looks: 12, noise: 0.3, swingLooks: 0, seed: 7 },
    });
    const { count, medianMs, worstMs } = auto.costs;
    t.diagnostic(`auto: ${count} looks, median ${medianMs.toFixed(3)} ms, worst ${worstMs.toFixed(3)} ms`);
    assert.ok(auto.moves > 0);
    assert.ok(imbalance.after < imbalance.before);
    assert.ok(moves > 0);
    assert.deepEqual([oneDomain, left], [0, 0]);
    for (const { name, primary, standbys } of picture.applications.values()) {
      assert.equal(standbys.length, 1, name);
      assert.ok(!standbys.includes(primary), name);
    }
  });

  it("the same seed decides the same", () => {
    const run = () => {
      const { picture, moves } = simulatePlacement({ nodes: 50, applications: 500, seed: 3, drains: 5 });
      return [moves, [...picture.applications.values()].map(({ primary, standbys }) => [primary, standbys])];
    };
    assert.deepEqual(run(), run());
  });
});
