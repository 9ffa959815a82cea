/**
 * What this node should do about each application, from what the store says and what is here: no clock, no store, no
 * process in this file. The shell (reconcile.ts) looks at the node *before* it reads the store, so whatever is seen here
 * had its record by then.
 */
import type { ApplicationSpec, View } from "../cluster/spec.ts";
import { type Placement, wantedStandbys, whyStays } from "../cluster/standbys.ts";
import type { StandbyStatus } from "../instance/control.ts";

export interface SeenInstance {
  pid: number;
  createdAt: string;
  /** Undefined: it has not said yet what it is. */
  said?: { role: "primary" | "standby"; state: string; term: number; standbys: StandbyStatus[] };
}

export interface Seen {
  application: string;
  spec?: ApplicationSpec;
  view?: View;
  placement?: Placement;
  instance?: SeenInstance;
  /** The application's init lives on this node. */
  initAlive: boolean;
  /** Processes, run files or state of it are here. */
  leftovers: boolean;
  /** Of these there is nothing but its files. */
  onlyFiles: boolean;
  /** Files of an earlier clone are kept here. */
  kept: boolean;
  /** An operation (protect, stop, making a clone) holds it: it is not ours to touch. */
  busy: boolean;
}

export type Action =
  /** Start an instance that takes the running application up again. */
  | { kind: "attach"; application: string }
  /** Ask the node for a clone, then tell the instance of it. */
  | { kind: "clone"; application: string; node: string }
  /**
   * End the instance with `pid` (if any) and remove everything. `graceful`: ask it before killing it. `handsOver`: it may
   * be answering its caller (the end of a switch or stop), or about to become a standby by itself, so not at once.
   */
  | {
      kind: "remove";
      application: string;
      pid: number | undefined;
      reason: string;
      graceful: boolean;
      handsOver: boolean;
      /** What becomes of its files. */
      files: FilesFate;
    };

const nobody: ReadonlySet<string> = new Set();

/** @param drained nodes that are being emptied */
export function desired(node: string, seen: readonly Seen[], drained: ReadonlySet<string> = nobody): Action[] {
  return seen.flatMap((one) => (one.busy ? [] : desiredFor(node, one, drained)));
}

/** `stay`: they are the user's now. `aside`: a clone is wanted here, which takes from them what it can. */
export type FilesFate = "remove" | "stay" | "aside";

type Remove = (reason: string, graceful: boolean, how?: { handsOver?: boolean; files?: FilesFate }) => Action[];

function desiredFor(node: string, seen: Seen, drained: ReadonlySet<string>): Action[] {
  const { application, spec, view, instance } = seen;
  const isHere = instance !== undefined || seen.leftovers || seen.initAlive;
  // What an application that has ended leaves on its last primary stays until `stop`, or until its name is used again.
  const isLast = view?.ended !== undefined && view.primary === node;
  // And what a durable application's clone had on its disk when the node lost power, until there is another clone.
  const isOnDisk = spec?.durable === true && view?.ended === undefined && view?.inSync.includes(node) === true;
  const isUsers = spec !== undefined && (isLast || isOnDisk);
  const remove: Remove = (reason, graceful, { handsOver = false, files: wanted = "remove" } = {}) => {
    const files = isUsers ? "stay" : wanted;
    return isHere || (seen.kept && files === "remove")
      ? [{ kind: "remove", application, pid: instance?.pid, reason, graceful, handsOver, files }]
      : [];
  };

  if (spec === undefined) return remove("the application is not known to the cluster any more", true);
  if (instance && instance.createdAt !== spec.createdAt) return remove("it belongs to an earlier application", false);
  // The record of a `protect` that is under way elsewhere, or died: nothing runs by it yet.
  if (view === undefined) return [];
  if (isUsers && seen.onlyFiles && instance === undefined) return [];
  if (view.ended) return remove("the application has ended", true, { handsOver: instance?.said?.role === "primary" });
  const wanted = wantedStandbys(spec, view, seen.placement, drained);
  if (view.primary === node) return asPrimary(seen, wanted);
  const stays = whyStays(node, spec, view, seen.placement, drained) !== undefined;
  return asOther(node, seen, view, { isWanted: wanted.includes(node), stays }, remove);
}

function asPrimary({ application, instance, initAlive }: Seen, wanted: string[]): Action[] {
  if (instance === undefined) return initAlive ? [{ kind: "attach", application }] : [];
  // A standby that has just won the term says so a moment later.
  if (instance.said?.role !== "primary") return [];
  if (instance.said.state === "starting" || instance.said.state === "switching") return [];
  const held = new Set(instance.said.standbys.filter(({ state }) => state !== "lost").map((standby) => standby.node));
  return wanted
    .filter((standby) => !held.has(standby))
    .map((standby) => ({ kind: "clone", application, node: standby }));
}

function asOther(
  node: string,
  { application, spec, instance, initAlive }: Seen,
  view: View,
  { isWanted, stays }: { isWanted: boolean; stays: boolean },
  remove: Remove,
): Action[] {
  // Until the new primary lives, the old one's copy is what goes on if it never does: silent, but there.
  const mayGoOn = view.inSync.includes(node);
  if (instance === undefined && initAlive && mayGoOn) return [{ kind: "attach", application }];
  if (instance === undefined)
    return remove(
      `"${view.primary}" runs the application in term ${view.term}`,
      false,
      isWanted ? { files: "aside" } : {},
    );
  const { role, state } = instance.said ?? {};
  // What was the primary is never asked to stop: it would end the application for everybody.
  if (!isWanted && role !== "primary") {
    // An old primary stays until the new one lives.
    const handsOver = state === "switching";
    if (mayGoOn && (stays || handsOver)) return [];
    return remove("no clone is wanted here", role === "standby" && !handsOver, { handsOver });
  }
  // Unknown yet, or it knows of a term that this look at the store does not show.
  if (instance.said === undefined || instance.said.term > view.term) return [];
  if (instance.said.role === "standby" || mayGoOn) return [];
  // It learns of that itself in a moment, and keeps for the next clone what it has in memory. Only one that is silent has the time.
  const isSilent = spec?.commit === "checkpoint" && instance.said.state !== "running";
  const handsOver = instance.said.state === "switching" || isSilent;
  return remove(`"${view.primary}" took over with term ${view.term}`, false, {
    handsOver,
    ...(isWanted && { files: "aside" as const }),
  });
}
