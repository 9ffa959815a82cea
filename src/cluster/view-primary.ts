/** The primary's part of the view protocol: when output leaves, who is in sync, and the planned switch. */
import type { View } from "./spec.ts";
import { type Draft, sameMembers } from "./view-draft.ts";
import type { RefusalReason, ViewEvent } from "./view-events.ts";
import { freshStandby, type PrimaryRole, type ViewState } from "./view-state.ts";

export function stepPrimary(draft: Draft, role: PrimaryRole, event: ViewEvent): void {
  const { state, actions } = draft;
  switch (event.kind) {
    case "wentLive":
      if (role.phase === "rising") role.phase = "live";
      return;
    case "goLiveFailed":
      if (role.phase !== "rising") return;
      state.role = { ...freshStandby(), follows: role.term };
      actions.push({ kind: "stateLost", term: role.term });
      return;
    case "epochCut":
      cut(role, event.epoch);
      return;
    case "end":
      role.ending ??= { reason: event.reason, at: event.at };
      return;
    case "crashed":
      if (role.phase === "live" && role.handOver === undefined && role.crashed === false) role.crashed = "waits";
      return;
    case "startAgain":
      if (role.crashed !== false) role.crashed = "startAgain";
      return;
    case "awoke":
      role.freshFrom = Math.max(role.freshFrom, event.sent + 1);
      return;
    case "standbyConnected":
      role.standbys[event.node] = { synchronising: false, acknowledged: undefined };
      return;
    case "standbyLost":
      delete role.standbys[event.node];
      if (role.handOver?.to === event.node) abandon(draft, role, `The connection to "${event.node}" was lost`);
      return;
    case "acknowledged": {
      const standby = role.standbys[event.node];
      // Of an older term, or of a stream before this one: says nothing about what the standby holds now.
      if (event.term !== role.term || standby?.synchronising !== true || event.epoch > role.cut) return;
      standby.acknowledged = Math.max(standby.acknowledged ?? 0, event.epoch);
      return;
    }
    case "handOver":
      startHandOver(draft, role, event.to);
      return;
    case "finalCheckpointCut":
      cut(role, event.epoch);
      if (role.handOver !== undefined) role.handOver.epoch = event.epoch;
      return;
    case "handOverFailed":
      abandon(draft, role, event.reason);
      return;
    case "syncStarted":
      actions.push({ kind: "refuseStream", term: role.term });
      return;
    case "promote":
      actions.push({ kind: "refused", request: "promote", reason: "already-running" });
      return;
  }
}

function cut(role: PrimaryRole, epoch: number): void {
  if (epoch <= role.cut) throw new Error(`Epoch ${epoch} was cut after epoch ${role.cut}`);
  role.cut = epoch;
  if (role.passThrough) role.bound = epoch + 1;
}

function startHandOver(draft: Draft, role: PrimaryRole, to: string): void {
  const reason = whyNotHandOver(draft.state, role, to);
  if (reason !== undefined) {
    draft.actions.push({ kind: "refused", request: "handOver", reason });
    return;
  }
  role.handOver = { to, epoch: undefined, abandoned: undefined };
  draft.actions.push({ kind: "finalCheckpoint", to });
}

function whyNotHandOver(state: ViewState, role: PrimaryRole, to: string): RefusalReason | undefined {
  if (role.handOver !== undefined || role.ending !== undefined || role.crashed !== false) return "busy";
  if (role.phase !== "live") return "not-running";
  const inSync = state.confirmed?.view?.inSync.includes(to) && role.standbys[to]?.acknowledged !== undefined;
  return inSync ? undefined : "not-in-sync";
}

function abandon(draft: Draft, role: PrimaryRole, reason: string): void {
  const { handOver } = role;
  if (handOver === undefined) return;
  // Once submitted it can still come true: the application stays stopped until the store has decided.
  if (draft.state.submitted.some((view) => view.primary !== draft.state.node)) {
    handOver.abandoned ??= reason;
    return;
  }
  role.handOver = undefined;
  draft.actions.push({ kind: "resume", term: role.term, reason });
}

/** After the store confirmed a view of this same term: a hand-over that was submitted before it can not come true any more. */
export function settleHandOver(draft: Draft, role: PrimaryRole, view: View): void {
  const { handOver } = role;
  if (handOver === undefined) return;
  if (handOver.abandoned !== undefined) abandon(draft, role, handOver.abandoned);
  else if (!view.inSync.includes(handOver.to)) abandon(draft, role, `"${handOver.to}" is not in sync any more`);
}

/** The change of the record that this primary wants now, or undefined when it is as it should be, for sure. */
export function proposeAsPrimary(state: ViewState, role: PrimaryRole, view: View): View | undefined {
  if (role.ending !== undefined) return { ...view, ended: role.ending };
  const { term } = role;
  if (role.phase === "rising") return undefined;
  if (role.crashed === "startAgain") return { term: term + 1, primary: state.node, inSync: [] };
  // Those who were in sync when it crashed can go on with it, also when their streams have ended since.
  if (role.crashed === "waits") return undefined;
  if (role.phase === "fencing") return { term, primary: state.node, inSync: [] };
  const { handOver } = role;
  if (handOver?.epoch !== undefined && handOver.abandoned === undefined && view.inSync.includes(handOver.to)) {
    if ((role.standbys[handOver.to]?.acknowledged ?? -1) >= handOver.epoch) {
      const others = view.inSync.filter((node) => node !== handOver.to);
      return { term: term + 1, primary: handOver.to, inSync: [...others, state.node] };
    }
  }
  const inSync = membersWanted(role, view);
  // With something unsettled even an unchanged view is submitted, so that the old one cannot come true any more.
  if (state.submitted.length === 0 && sameMembers(inSync, view.inSync)) return undefined;
  return { term, primary: state.node, inSync };
}

/** A standby is added when it holds all that has left ever; it stays until its stream is lost. */
function membersWanted(role: PrimaryRole, view: View): string[] {
  return Object.entries(role.standbys)
    .filter(
      ([node, { acknowledged }]) =>
        acknowledged !== undefined && (view.inSync.includes(node) || acknowledged >= role.bound),
    )
    .map(([node]) => node);
}

/** Lets out what may leave by now, and begins the synchronisation of standbys whose old state nobody counts on any more. */
export function settleOutput(draft: Draft, role: PrimaryRole): void {
  const { state, actions } = draft;
  const inSync = state.confirmed?.view?.inSync ?? [];
  if (role.phase !== "live") return;
  if (role.crashed !== false) {
    setPassThrough(draft, role, false);
    return;
  }
  const required = new Set(inSync);
  let open = inSync.length >= state.options.holdBelow;
  for (const view of state.submitted) {
    for (const node of view.inSync) required.add(node);
    if (view.primary !== state.node) open = false;
  }
  for (const [node, standby] of Object.entries(role.standbys)) {
    if (!standby.synchronising && !required.has(node) && role.handOver === undefined) {
      standby.synchronising = true;
      actions.push({ kind: "synchronise", node, stream: ++role.streams });
    }
  }
  // From its first acknowledgement a standby is waited for: so it catches up with what has left, and can be added.
  for (const [node, standby] of Object.entries(role.standbys))
    if (standby.acknowledged !== undefined) required.add(node);
  setPassThrough(draft, role, open && required.size === 0);
  if (!open || role.passThrough) return;
  let epoch = Number.POSITIVE_INFINITY;
  for (const node of required) epoch = Math.min(epoch, role.standbys[node]?.acknowledged ?? -1);
  if (epoch < role.freshFrom || epoch <= role.released) return;
  role.released = epoch;
  role.bound = Math.max(role.bound, epoch);
  actions.push({ kind: "release", epoch });
}

function setPassThrough(draft: Draft, role: PrimaryRole, on: boolean): void {
  if (role.passThrough === on) return;
  role.passThrough = on;
  // What leaves now belongs to the epoch that is open: the next to be cut.
  if (on) role.bound = role.cut + 1;
  draft.actions.push({ kind: "passThrough", on });
}
