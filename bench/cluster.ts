/** What decisions cost in a large cluster, simulated; and twenty applications on three, five and nine nodes of a lab. */
import { simulateAutoBalance } from "../src/sim/auto-balance.ts";
import type { Costs } from "../src/sim/costs.ts";
import { simulatePlacement } from "../src/sim/placement.ts";
import { Crowd, copiesByNode } from "../workload/crowd.ts";
import { type Figure, figure } from "./figures.ts";
import type { Bench, BenchContext, BenchResult } from "./main.ts";

const SIZE = { nodes: 1000, applications: 10_000 };
const APPLICATIONS = 20;
const LIMIT_MS = 300_000;
const SIZES = [3, 5, 9];

export const clusterBench: Bench = {
  about: "decisions for 1,000 nodes × 10,000 applications, simulated; 20 applications on 3, 5 and 9 nodes",
  nodes: 0,
  parts: ["decisions", ...SIZES.map(String)],
  run,
};

async function run({ lab, quick, only, say }: BenchContext): Promise<BenchResult> {
  const wanted = (part: string) => only.length === 0 || only.includes(part);
  const figures: Figure[] = [];
  const failures: string[] = [];
  if (wanted("decisions")) figures.push(...decisions(quick));
  for (const nodes of SIZES.filter((size) => wanted(String(size)))) {
    say(`${nodes} nodes`);
    try {
      await lab.up({ nodes, replace: true });
      figures.push(...(await spread(lab, nodes)));
    } catch (error) {
      failures.push(`${nodes} nodes: ${error instanceof Error ? error.message : String(error)}`);
    } finally {
      await lab.down();
    }
  }
  return { figures, failures };
}

function decisions(quick: boolean): Figure[] {
  const placed = simulatePlacement({ ...SIZE, seed: 7, drains: quick ? 5 : 20 });
  const looks = quick ? 6 : 30;
  const auto = simulateAutoBalance({ ...SIZE, seed: 7, looks, noise: 0.3, swingLooks: 0 });
  const costs = (name: string, { count, medianMs, worstMs }: Costs): Figure[] => [
    figure(`${name}, median of ${count}`, medianMs, "ms"),
    figure(`${name}, worst`, worstMs, "ms"),
  ];
  return [
    ...costs("picture of the cluster", placed.build),
    ...costs("choice of a standby", placed.standby),
    ...costs("drain: choice of a primary", placed.primary),
    ...costs("plan of a balance", placed.balance),
    ...costs("look of balance: auto", auto.costs),
    figure("moves until it is even", placed.moves, "moves"),
    figure("copies left on drained nodes", placed.left, "copies"),
    figure("applications in one failure domain only", placed.oneDomain, "applications"),
  ];
}

async function spread(lab: BenchContext["lab"], count: number): Promise<Figure[]> {
  const crowd = new Crowd(lab, APPLICATIONS);
  const names = (await lab.status()).nodes.map(({ name }) => name);
  const begun = performance.now();
  await crowd.start(names);
  const copies = copiesByNode(await crowd.untilProtected(LIMIT_MS));
  const startedS = (performance.now() - begun) / 1000;
  const all = names.map((name) => copies.get(name) ?? { primaries: 0, clones: 0 });
  const shares = all.map(({ primaries, clones }) => primaries + clones);
  const off = performance.now();
  await lab.powerOff(names[0]!);
  await crowd.untilProtected(LIMIT_MS);
  const mendedS = (performance.now() - off) / 1000;
  const on = `${APPLICATIONS} applications on ${count} nodes`;
  return [
    figure(`${on}: all protected after`, startedS, "s"),
    figure(`${on}: fewest copies on a node`, Math.min(...shares), "copies"),
    figure(`${on}: most copies on a node`, Math.max(...shares), "copies"),
    figure(`${on}: a node lost power, all protected again after`, mendedS, "s"),
  ];
}
