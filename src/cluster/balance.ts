/**
 * Sharing the load: which applications shall move to which of their standbys, so that no node is much fuller than the others. Pure.
 * Hysteresis: nothing moves before a node is `startAt` above the mean, then as much as brings all below `stopAt`; and nothing for a
 * gain that is not worth a switch.
 */
import { copyLoad, mayHold, type Picture } from "./placement.ts";

export interface BalanceOptions {
  /** Of a node's pressure above the mean. */
  startAt: number;
  stopAt: number;
  /** What the fuller of the two nodes must lose by a move. */
  leastGain: number;
  mostMoves: number;
  /** Nodes that may give, and applications that may move. */
  mayGive: (node: string) => boolean;
  mayMove: (application: string) => boolean;
}

export const balanceDefaults: BalanceOptions = {
  startAt: 0.25,
  stopAt: 0.1,
  leastGain: 0.005,
  mostMoves: 20,
  mayGive: () => true,
  mayMove: () => true,
};

export interface Move {
  application: string;
  from: string;
  to: string;
  /** Pressure of the two nodes before and after. */
  before: [number, number];
  after: [number, number];
}

/** Moves in the order in which they should be made; the picture is left as it would be then. */
export function planBalance(picture: Picture, options: Partial<BalanceOptions> = {}): Move[] {
  const { startAt, stopAt, leastGain, mostMoves, mayGive, mayMove } = { ...balanceDefaults, ...options };
  const open = [...picture.nodes.values()].filter((node) => node.open).map(({ name }) => name);
  if (open.length < 2) return [];
  const moves = new Map<string, Move>();
  const pressures = new Map(open.map((node) => [node, picture.pressure(node)]));
  const mean = () => [...pressures.values()].reduce((sum, one) => sum + one, 0) / pressures.size;
  if (Math.max(...pressures.values()) - mean() < startAt) return [];
  // That had nothing to give when they were asked last.
  const given = new Set<string>();
  let made = 0;
  let madeSinceAll = 0;
  while (made < mostMoves) {
    const limit = mean() + stopAt;
    const full = [...pressures].filter(([node, pressure]) => pressure > limit && mayGive(node));
    const left = full.filter(([node]) => !given.has(node));
    const [from] = left.sort(([a, p], [b, q]) => q - p || (a < b ? -1 : 1))[0] ?? [];
    if (from === undefined) {
      // What was given since may have made room for the others.
      if (madeSinceAll === 0) break;
      given.clear();
      madeSinceAll = 0;
      continue;
    }
    const move = bestMove(picture, from, mayMove, leastGain);
    if (move === undefined) {
      given.add(from);
      continue;
    }
    const { standbys } = picture.applications.get(move.application)!;
    picture.place(move.application, move.to, [...standbys.filter((node) => node !== move.to), from]);
    for (const node of [from, move.to]) pressures.set(node, picture.pressure(node));
    add(moves, move);
    made++;
    madeSinceAll++;
  }
  return [...moves.values()];
}

/** Moves on are one move, and a move back is none: no application is switched twice. */
function add(moves: Map<string, Move>, move: Move): void {
  const { application, to } = move;
  const first = moves.get(application);
  moves.delete(application);
  if (first === undefined) moves.set(application, move);
  else if (first.from !== to) {
    const { before, after } = move;
    const [fromBefore, fromAfter] = [first.before[0], first.after[0]];
    moves.set(application, {
      ...move,
      from: first.from,
      before: [fromBefore, before[1]],
      after: [fromAfter, after[1]],
    });
  }
}

/** The move from this node after which the fuller of the two is emptiest. */
function bestMove(
  picture: Picture,
  from: string,
  mayMove: (application: string) => boolean,
  leastGain: number,
): Move | undefined {
  let best: Move | undefined;
  const fromBefore = picture.pressure(from);
  for (const name of picture.copiesOn(from)) {
    const application = picture.applications.get(name)!;
    if (application.primary !== from || !mayMove(name)) continue;
    const whole = copyLoad(application.load, true);
    const clone = copyLoad(application.load, false);
    const change = { cpu: whole.cpu - clone.cpu, memory: 0, network: 0 };
    const fromAfter = picture.pressure(from, { cpu: -change.cpu, memory: 0, network: 0 });
    for (const to of application.standbys) {
      if (!mayHold(picture, application, to)) continue;
      const toBefore = picture.pressure(to);
      const toAfter = picture.pressure(to, change);
      if (fromBefore - Math.max(fromAfter, toAfter) < leastGain) continue;
      const worst = best === undefined ? Number.POSITIVE_INFINITY : Math.max(...best.after);
      if (Math.max(fromAfter, toAfter) < worst)
        best = { application: name, from, to, before: [fromBefore, toBefore], after: [fromAfter, toAfter] };
    }
  }
  return best;
}
