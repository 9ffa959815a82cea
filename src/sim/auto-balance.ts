/** A large cluster under `balance: auto` for hours, with loads that wander, jump and swing: does it help, and does it flap? */
import { autoBalanceDefaults, lookForMoves, startAutoBalance } from "../cluster/auto-balance.ts";
import { balanceDefaults } from "../cluster/balance.ts";
import { type ApplicationPicture, type NodePicture, noWishes, Picture } from "../cluster/placement.ts";
import { type Costs, Stopwatch } from "./costs.ts";
import { Random } from "./random.ts";

export interface AutoBalanceRun {
  nodes: number;
  applications: number;
  seed: number;
  looks: number;
  /** Share by which a load differs from its mean from one look to the next, at most. */
  noise: number;
  /** Every so many looks all loads of some nodes swing between half and double. 0: never. */
  swingLooks: number;
}

export interface AutoBalanceOutcome {
  moves: number;
  /** The shortest time between two moves of one application, milliseconds; Infinity: none moved twice. */
  soonestAgainMs: number;
  /** Moves in the last quarter of the time. */
  lateMoves: number;
  /** Nodes that are full at the end although they were at the looks before, too. */
  full: number;
  fullAtFirst: number;
  /** Of a look, planning included. */
  costs: Costs;
}

/** Between looks, as the agents do it. */
const LOOK_MS = 10_000;
const GB = 2 ** 30;

export function simulateAutoBalance(run: AutoBalanceRun): AutoBalanceOutcome {
  const random = new Random(run.seed);
  const names = Array.from({ length: run.nodes }, (_, index) => `node-${index}`);
  const capacity = { cpu: 32, memory: 1024 * GB, network: 1.25e9 };
  const nodes = names.map((name): NodePicture => ({ name, labels: {}, capacity, open: true }));
  let applications = Array.from({ length: run.applications }, (_, index): ApplicationPicture => {
    const at = Math.floor(random.next() ** 1.5 * run.nodes);
    const other = (at + 1 + Math.floor(random.next() * (run.nodes - 1))) % run.nodes;
    const load = { cpu: 3 * (0.1 + random.next() ** 3), memory: GB, network: 0 };
    return { name: `app-${index}`, load, primary: names[at]!, standbys: [names[other]!], wishes: noWishes };
  });
  const means = new Map(applications.map(({ name, load }) => [name, load.cpu]));
  const swings = new Set(applications.filter(() => random.chance(0.1)).map(({ name }) => name));
  const watch = new Stopwatch();
  const movedAt = new Map<string, number>();
  const outcome = { moves: 0, soonestAgainMs: Number.POSITIVE_INFINITY, lateMoves: 0, full: 0, fullAtFirst: 0 };
  let state = startAutoBalance;
  for (let look = 0; look < run.looks; look++) {
    const high = run.swingLooks > 0 && Math.floor(look / run.swingLooks) % 2 === 1;
    applications = applications.map((one) => {
      const swing = swings.has(one.name) && run.swingLooks > 0 ? (high ? 2 : 0.5) : 1;
      const cpu = means.get(one.name)! * swing * (1 + run.noise * (2 * random.next() - 1));
      return { ...one, load: { ...one.load, cpu } };
    });
    const picture = new Picture(nodes, applications);
    if (look === 0) outcome.fullAtFirst = fullNodes(picture);
    const now = look * LOOK_MS;
    const found = watch.time(() => lookForMoves(state, picture, () => true, now));
    state = found.state;
    outcome.moves += found.moves.length;
    if (look >= 0.75 * run.looks) outcome.lateMoves += found.moves.length;
    for (const { application } of found.moves) {
      const since = now - (movedAt.get(application) ?? Number.NEGATIVE_INFINITY);
      outcome.soonestAgainMs = Math.min(outcome.soonestAgainMs, since);
      movedAt.set(application, now);
    }
    applications = [...picture.applications.values()];
    outcome.full = [...state.full.values()].filter((times) => times >= autoBalanceDefaults.looks).length;
  }
  return { ...outcome, costs: watch.costs() };
}

function fullNodes(picture: Picture): number {
  const pressures = [...picture.nodes.keys()].map((node) => picture.pressure(node));
  const mean = pressures.reduce((sum, one) => sum + one, 0) / pressures.length;
  return pressures.filter((pressure) => pressure - mean >= balanceDefaults.startAt).length;
}
