/**
 * `balance: auto`: when the load is shared without being asked. Pure; looked at again and again, a few seconds apart. What makes it
 * slow to act and never act to and fro: a node must be full at several looks in a row, an application that has moved stays for a
 * while, and after moves the loads are measured anew before the next.
 */
import { balanceDefaults, type Move, planBalance } from "./balance.ts";
import type { Picture } from "./placement.ts";

export interface AutoBalanceOptions {
  /** At so many looks in a row a node must be full before it gives. */
  looks: number;
  /** Milliseconds that an application stays where it has been moved to. */
  restMs: number;
  mostMoves: number;
}

export const autoBalanceDefaults: AutoBalanceOptions = { looks: 3, restMs: 600_000, mostMoves: 20 };

export interface AutoBalanceState {
  /** At how many looks in a row each node was above the mean by `startAt`, and by `stopAt`. */
  full: ReadonlyMap<string, number>;
  high: ReadonlyMap<string, number>;
  /** When an application was moved. */
  movedAt: ReadonlyMap<string, number>;
}

export const startAutoBalance: AutoBalanceState = { full: new Map(), high: new Map(), movedAt: new Map() };

/** For how many milliseconds applications that were moved stay where they are: what whoever looks next has to know. */
export function restsOf(
  { movedAt }: AutoBalanceState,
  now: number,
  { restMs } = autoBalanceDefaults,
): Record<string, number> {
  const left = [...movedAt].map(([name, at]): [string, number] => [name, at + restMs - now]);
  return Object.fromEntries(left.filter(([, ms]) => ms > 0));
}

/** The state of one that looks for the first time. */
export function startWith(
  rests: Record<string, number>,
  now: number,
  { restMs } = autoBalanceDefaults,
): AutoBalanceState {
  return {
    ...startAutoBalance,
    movedAt: new Map(Object.entries(rests).map(([name, ms]) => [name, now + ms - restMs])),
  };
}

/**
 * One look. The moves are to be made in their order; the picture is left as it would be then.
 * @param mayMove applications whose owners wish for it
 * @param now milliseconds of a clock that is never set back
 */
export function lookForMoves(
  state: AutoBalanceState,
  picture: Picture,
  mayMove: (application: string) => boolean,
  now: number,
  options: Partial<AutoBalanceOptions> = {},
): { state: AutoBalanceState; moves: Move[] } {
  const { looks, restMs, mostMoves } = { ...autoBalanceDefaults, ...options };
  const { startAt, stopAt } = balanceDefaults;
  const open = [...picture.nodes.values()].filter((node) => node.open);
  const pressures = new Map(open.map(({ name }) => [name, picture.pressure(name)]));
  const mean = [...pressures.values()].reduce((sum, one) => sum + one, 0) / Math.max(1, pressures.size);
  const count = (before: ReadonlyMap<string, number>, above: number) =>
    new Map(
      [...pressures]
        .filter(([, pressure]) => pressure - mean >= above)
        .map(([node]) => [node, (before.get(node) ?? 0) + 1]),
    );
  const full = count(state.full, startAt);
  const high = count(state.high, stopAt);
  const movedAt = new Map([...state.movedAt].filter(([, at]) => now - at < restMs));
  if (![...full.values()].some((times) => times >= looks)) return { state: { full, high, movedAt }, moves: [] };
  const moves = planBalance(picture, {
    mostMoves,
    mayGive: (node) => (high.get(node) ?? 0) >= looks,
    mayMove: (name) => mayMove(name) && !movedAt.has(name),
  });
  for (const { application } of moves) movedAt.set(application, now);
  // Without moves nothing has changed: the next look may find some that have rested meanwhile.
  const counts = moves.length > 0 ? { full: new Map(), high: new Map() } : { full, high };
  return { state: { ...counts, movedAt }, moves };
}
