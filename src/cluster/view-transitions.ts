/** How a node's role follows the record of the store. All roles are decided here, from the record alone. */
import type { View } from "./spec.ts";
import type { Draft } from "./view-draft.ts";
import type { Checkpoint, ViewEvent } from "./view-events.ts";
import { settleHandOver } from "./view-primary.ts";
import { freshStandby, type PrimaryRole, primary, type StandbyRole, type StartingRole } from "./view-state.ts";

export function begin(draft: Draft, event: ViewEvent & { kind: "begin" }): void {
  const { state, actions } = draft;
  if (state.role.kind !== "idle") throw new Error(`A view machine begins once, not again as "${event.as}"`);
  if (event.as === "start") state.role = { kind: "starting", cold: event.cold ?? false, above: undefined };
  else if (event.as === "attach") state.role = { kind: "attaching", term: event.term, epoch: event.epoch };
  else state.role = freshStandby();
  state.asking = { kind: "read" };
  actions.push({ kind: "readView" });
}

/** Takes notice of the record at `revision`. What is older than what is known already is no news. */
export function adopt(draft: Draft, view: View | undefined, revision: number): void {
  const { state } = draft;
  const known = state.confirmed;
  if (state.role.kind === "finished") return;
  if (known !== undefined && revision <= known.revision) return;
  if (view === undefined) {
    if (known?.view !== undefined || state.role.kind === "attaching") {
      finish(draft, "The application was removed");
      return;
    }
    state.confirmed = { view, revision };
    if (state.role.kind === "starting") state.role.above ??= 0;
    return;
  }
  state.confirmed = { view, revision };
  // Whatever was submitted at a lower revision is this record, or can never become one.
  const settles = state.submitted.length > 0;
  state.submitted = [];
  if (state.asking?.kind === "swap") state.asking = undefined;
  follow(draft, view, settles);
}

/** @param settles this record has decided on what this process has submitted: it was written after its beginning */
function follow(draft: Draft, view: View, settles: boolean): void {
  const { state, actions } = draft;
  const { role, node } = state;
  switch (role.kind) {
    case "starting":
      followAtStart(draft, role, view);
      return;
    case "attaching":
      if (view.ended === undefined && view.primary === node && view.term === role.term) {
        state.role = primary(view.term, role.epoch, "fencing");
        actions.push({ kind: "attached", term: view.term });
      } else if (view.ended === undefined && view.term > role.term && view.inSync.includes(node)) {
        standAside(draft, { term: role.term, epoch: role.epoch }, view);
      } else leave(draft, view);
      return;
    case "primary":
      followAsPrimary(draft, role, view, settles);
      return;
    case "standby":
      followAsStandby(draft, role, view);
      return;
  }
}

/** The first record decides whether the application may be started; a later one is our own, or that of a quicker starter. */
function followAtStart(draft: Draft, role: StartingRole, view: View): void {
  const { state, actions } = draft;
  if (role.above === undefined && (role.cold || view.ended !== undefined)) {
    role.above = view.term;
  } else if (role.above !== undefined && view.term > role.above && view.primary === state.node) {
    state.role = primary(view.term, 0, "live");
    actions.push({ kind: "startApplication", term: view.term });
  } else {
    state.role = { kind: "finished", reason: `The application runs on "${view.primary}"` };
    actions.push({ kind: "refused", request: "start", reason: "already-running" });
  }
}

function followAsPrimary(draft: Draft, role: PrimaryRole, view: View, settles: boolean): void {
  const { state, actions } = draft;
  if (view.ended !== undefined) {
    // Nobody takes over any more, so no state is needed behind what it has said last.
    if (!role.passThrough && view.term === role.term) actions.push({ kind: "passThrough", on: true });
    finish(draft, view.ended.reason);
    return;
  }
  if (view.term === role.term) {
    // A record that was under way for long may have been overtaken by another term, before there was this process.
    if (role.phase === "fencing" && settles) role.phase = "live";
    settleHandOver(draft, role, view);
    return;
  }
  silence(draft, role);
  if (role.crashed === "startAgain" && view.primary === state.node) {
    state.role = { ...primary(view.term, role.cut, "live"), ending: role.ending };
    if (role.ending === undefined) actions.push({ kind: "startAgain", term: view.term, epoch: role.cut });
    return;
  }
  if (role.phase === "rising" || !view.inSync.includes(state.node)) {
    leave(draft, view);
    return;
  }
  const { handOver } = role;
  standAside(draft, { term: role.term, epoch: role.cut }, view, role.crashed !== false);
  if (handOver?.epoch !== undefined && view.primary === handOver.to) {
    actions.push({ kind: "tellGoLive", to: handOver.to, term: view.term, epoch: handOver.epoch });
  }
}

/** Another has the term, but counts on the application here until it lives itself. */
function standAside(draft: Draft, holds: Checkpoint, view: View, crashed = false): void {
  draft.actions.push({ kind: "standAside", primary: view.primary, term: view.term });
  const standby = { ...freshStandby(), holds, aside: true, crashed };
  draft.state.role = standby;
  followAsStandby(draft, standby, view);
}

function followAsStandby(draft: Draft, role: StandbyRole, view: View): void {
  const { state, actions } = draft;
  if (view.ended !== undefined) {
    finish(draft, view.ended.reason);
    return;
  }
  if (view.primary === state.node) {
    takeOver(draft, role, view);
    return;
  }
  if (role.aside && !view.inSync.includes(state.node)) {
    actions.push({ kind: "endInstance", reason: `"${view.primary}" has taken over` });
    role.aside = false;
    role.crashed = false;
    role.holds = undefined;
  }
  const { promotion } = role;
  if (promotion !== undefined && !promotion.force && view.term === role.follows && !view.inSync.includes(state.node)) {
    actions.push({ kind: "refused", request: "promote", reason: "not-in-sync" });
    role.promotion = undefined;
  }
  if (view.term <= role.follows) return;
  role.follows = view.term;
  if (role.promotion !== undefined) actions.push({ kind: "refused", request: "promote", reason: "overtaken" });
  role.promotion = undefined;
  actions.push({ kind: "follow", primary: view.primary, term: view.term });
}

/** The record names this node primary: by its own candidature, or because the old primary handed over to it. */
function takeOver(draft: Draft, role: StandbyRole, view: View): void {
  const { state, actions } = draft;
  if (role.holds === undefined) {
    if (role.follows < view.term) actions.push({ kind: "stateLost", term: view.term });
    role.follows = view.term;
    return;
  }
  const epoch = role.promotion?.epoch ?? role.holds.epoch;
  if (role.aside) {
    state.role = { ...primary(view.term, epoch, "live"), crashed: role.crashed ? "waits" : false };
    actions.push({ kind: "resume", term: view.term, reason: "The other node did not come to life" });
  } else {
    state.role = primary(view.term, epoch, "rising");
    actions.push({ kind: "goLive", term: view.term, checkpoint: { term: role.holds.term, epoch } });
  }
}

/** The application must not go on here: another has the term. */
function leave(draft: Draft, view: View): void {
  const { state, actions } = draft;
  if (view.ended !== undefined) {
    finish(draft, view.ended.reason);
    return;
  }
  actions.push({ kind: "endInstance", reason: `"${view.primary}" has term ${view.term}` });
  const standby = freshStandby();
  state.role = standby;
  followAsStandby(draft, standby, view);
}

function silence(draft: Draft, role: PrimaryRole): void {
  if (role.passThrough) draft.actions.push({ kind: "passThrough", on: false });
  role.passThrough = false;
}

function finish(draft: Draft, reason: string): void {
  const { role } = draft.state;
  if (role.kind === "primary" || role.kind === "attaching" || (role.kind === "standby" && role.aside)) {
    draft.actions.push({ kind: "endInstance", reason });
  }
  draft.state.role = { kind: "finished", reason };
  draft.state.submitted = [];
  draft.actions.push({ kind: "finished", reason });
}
