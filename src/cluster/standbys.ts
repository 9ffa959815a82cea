/** Which nodes shall hold a clone now: the owner's wish, and what placement has chosen where that cannot be had. Pure. */
import type { ApplicationSpec, View } from "./spec.ts";

/** `applications/NAME/placement`: what has been chosen beside the wish. */
export interface Placement {
  /** In the order in which they stand in for nodes that cannot hold a clone. */
  extra: string[];
  /** Nodes that have been away for long: others stand in for them. Those wished for are wanted still. */
  without: string[];
}

export const noPlacement: Placement = { extra: [], without: [] };

type Wishes = Pick<ApplicationSpec, "standby" | "home"> & { placement?: { standbys?: number } };

/** How many clones there shall be. */
export function standbyCount(spec: Wishes): number {
  return Math.max(spec.placement?.standbys ?? 0, new Set([...spec.standby, spec.home]).size - 1);
}

/** A primary that is about to leave its node wants one clone more: it shall be protected after that as before. */
function countNow(spec: Wishes, view: Pick<View, "primary">, drained: ReadonlySet<string>): number {
  const count = standbyCount(spec);
  return count > 0 && drained.has(view.primary) ? count + 1 : count;
}

/**
 * Nodes that shall hold a clone now: those asked for and the home node, without the primary and nodes that are being emptied; for
 * those that are missing then, as many of the chosen ones.
 */
export function wantedStandbys(
  spec: Wishes,
  view: Pick<View, "primary">,
  placement: Placement = noPlacement,
  drained: ReadonlySet<string> = new Set(),
): string[] {
  const may = (node: string) => node !== view.primary && !drained.has(node);
  const wished = [...new Set([...spec.standby, spec.home])].filter(may);
  const there = wished.filter((node) => !placement.without.includes(node));
  const missing = Math.max(0, countNow(spec, view, drained) - there.length);
  // Nobody wished for a chosen one: when it is away for long, another is chosen in its place.
  const extra = placement.extra.filter(
    (node) => may(node) && !wished.includes(node) && !placement.without.includes(node),
  );
  return [...wished, ...extra.slice(0, missing)];
}

/** How many clones are wanted that no node has been chosen for. */
export function missingStandbys(
  spec: Wishes,
  view: Pick<View, "primary">,
  placement: Placement,
  drained: ReadonlySet<string>,
): number {
  const there = wantedStandbys(spec, view, placement, drained).filter((node) => !placement.without.includes(node));
  return Math.max(0, countNow(spec, view, drained) - there.length);
}
