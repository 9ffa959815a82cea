/** Which nodes shall hold a clone now: the owner's wish, and what placement has chosen where that cannot be had. Pure. */
import type { ApplicationSpec, View } from "./spec.ts";

/** `applications/NAME/placement`: what has been chosen beside the wish. */
export interface Placement {
  /** In the order in which they stand in for nodes that cannot hold a clone. */
  extra: string[];
  /** Nodes that have been away for long, and chosen ones that may not hold a clone any more: others stand in for them. */
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
  const extra = placement.extra.filter((node) => may(node) && !wished.includes(node));
  // Nobody wished for a chosen one: when it is away for long, it is waited for only until another is found.
  const first = extra.filter((node) => !placement.without.includes(node));
  const last = extra.filter((node) => placement.without.includes(node));
  return [...wished, ...[...first, ...last].slice(0, missing)];
}

/**
 * Why a clone on this node, where none is wanted, stays all the same; undefined: it may go. One that may take over stays until those
 * that shall have come can, and as long as output would wait without it. Where the node is being emptied, who is away is not waited for.
 */
export function whyStays(
  node: string,
  spec: Wishes & Pick<ApplicationSpec, "minInSync" | "onTooFew">,
  view: Pick<View, "primary" | "inSync">,
  placement: Placement = noPlacement,
  drained: ReadonlySet<string> = new Set(),
): string | undefined {
  if (!view.inSync.includes(node)) return undefined;
  const wanted = wantedStandbys(spec, view, placement, drained);
  const there = wanted.filter((other) => !placement.without.includes(other));
  const awaited = drained.has(node) && there.length > 0 ? there : wanted;
  const missing = awaited.filter((other) => !view.inSync.includes(other));
  if (missing.length > 0) return `${quoted(missing)} not in sync yet`;
  return whyHeld(spec, view.inSync.length - 1);
}

/** Why output would wait with so many in sync; undefined: it would not. */
export function whyHeld(
  { minInSync, onTooFew }: Pick<ApplicationSpec, "minInSync" | "onTooFew">,
  count: number,
): string | undefined {
  if (onTooFew !== "hold" || count >= minInSync) return undefined;
  return `without it only ${count} of at least ${minInSync} would be in sync, and its clients would wait (onTooFew: hold)`;
}

/** Of one or several nodes: what is said in a sentence before "not in sync". */
export function quoted(nodes: readonly string[]): string {
  return `${nodes.map((node) => `"${node}"`).join(", ")} ${nodes.length === 1 ? "is" : "are"}`;
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
