/** A large cluster under placement: nodes fail, are emptied and come back, loads wander; what a decision costs is measured. */
import { planBalance } from "../cluster/balance.ts";
import {
  type ApplicationPicture,
  choosePrimary,
  chooseStandby,
  type NodePicture,
  noWishes,
  Picture,
} from "../cluster/placement.ts";
import { type Costs, Stopwatch } from "./costs.ts";
import { Random } from "./random.ts";

export interface PlacementRun {
  nodes: number;
  applications: number;
  seed: number;
  /** Nodes that are emptied, one after the other. */
  drains: number;
}

export interface PlacementOutcome {
  picture: Picture;
  build: Costs;
  standby: Costs;
  primary: Costs;
  balance: Costs;
  moves: number;
  /** Fullest node minus mean, before and after balance. */
  imbalance: { before: number; after: number };
  /** Applications with copies in one failure domain only although others were free. */
  oneDomain: number;
  /** Copies that nodes which were emptied still have. */
  left: number;
}

const ZONES = 5;
const GB = 2 ** 30;
const capacity = { cpu: 32, memory: 256 * GB, network: 1.25e9 };

export function simulatePlacement({ nodes, applications, seed, drains }: PlacementRun): PlacementOutcome {
  const random = new Random(seed);
  const build = new Stopwatch();
  const standby = new Stopwatch();
  const primary = new Stopwatch();
  const balance = new Stopwatch();
  const names = Array.from({ length: nodes }, (_, index) => `node-${index}`);
  const nodePictures = names.map(
    (name, index): NodePicture => ({ name, labels: { zone: `zone-${index % ZONES}` }, capacity, open: true }),
  );
  const found = Array.from({ length: applications }, (_, index): ApplicationPicture => {
    const share = 0.1 + random.next() ** 3;
    const load = { cpu: 3 * share, memory: 16 * GB * share, network: 2e7 * share };
    // Started on some nodes more than on others.
    const at = Math.floor(random.next() ** 2 * nodes);
    return { name: `app-${index}`, load, primary: names[at]!, standbys: [], wishes: noWishes };
  });
  const picture = build.time(() => new Picture(nodePictures, found));
  const give = (name: string, without: ReadonlySet<string>): void => {
    const node = standby.time(() => chooseStandby(picture, name, without));
    const now = picture.applications.get(name)!;
    if (node !== undefined)
      picture.place(name, now.primary, [...now.standbys.filter((one) => !without.has(one)), node]);
  };
  for (const { name } of found) give(name, new Set());
  const imbalance = { before: spread(picture), after: 0 };
  let moves = 0;
  for (let round = 0; round < 1000; round++) {
    const plan = balance.time(() => planBalance(picture));
    moves += plan.length;
    if (plan.length === 0) break;
  }
  imbalance.after = spread(picture);
  const drained = new Set<string>();
  for (let round = 0; round < drains; round++) {
    const node = names[Math.floor(random.next() * nodes)]!;
    if (drained.has(node)) continue;
    drained.add(node);
    picture.nodes.get(node)!.open = false;
    for (const name of [...picture.copiesOn(node)]) {
      give(name, drained);
      const now = picture.applications.get(name)!;
      if (now.primary !== node) continue;
      const to = primary.time(() => choosePrimary(picture, name, now.standbys));
      if (to !== undefined)
        picture.place(
          name,
          to,
          now.standbys.filter((one) => one !== to),
        );
    }
  }
  const left = [...drained].reduce((sum, node) => sum + picture.copiesOn(node).size, 0);
  const zones = ({ primary: at, standbys }: ApplicationPicture) =>
    new Set([at, ...standbys].map((node) => picture.nodes.get(node)!.labels.zone)).size;
  const oneDomain = [...picture.applications.values()].filter(
    (one) => one.standbys.length > 0 && zones(one) < 2,
  ).length;
  const costs = { build: build.costs(), standby: standby.costs(), primary: primary.costs(), balance: balance.costs() };
  return { picture, ...costs, moves, imbalance, oneDomain, left };
}

function spread(picture: Picture): number {
  const pressures = [...picture.nodes.keys()].map((node) => picture.pressure(node));
  return Math.max(...pressures) - pressures.reduce((sum, one) => sum + one, 0) / pressures.length;
}
