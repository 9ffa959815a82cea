/** The standby's part of the view protocol: acknowledging, suspecting, taking the next term. */
import type { View } from "./spec.ts";
import type { Draft } from "./view-draft.ts";
import type { RefusalReason, ViewEvent } from "./view-events.ts";
import type { StandbyRole, ViewState } from "./view-state.ts";

export function stepStandby(draft: Draft, role: StandbyRole, event: ViewEvent): void {
  const { state, actions } = draft;
  const view = state.confirmed?.view;
  switch (event.kind) {
    case "syncStarted":
      startSync(draft, role, event);
      return;
    case "checkpointApplied":
      // Of a term that is over. What is held counts as it was when that term ended.
      if (view === undefined || event.term !== view.term || role.aside) return;
      // The clone was lost, so this is no whole state; or it never had one.
      if (role.sealed === event.term && role.holds === undefined) return;
      if (role.holds?.term === event.term && event.epoch <= role.holds.epoch) {
        throw new Error(`Checkpoint ${event.epoch} was applied after checkpoint ${role.holds.epoch}`);
      }
      role.holds = { term: event.term, epoch: event.epoch };
      if (role.sealed !== event.term) actions.push({ kind: "acknowledge", term: event.term, epoch: event.epoch });
      return;
    case "suspected":
      suspect(draft, role, event.term);
      return;
    case "crashed":
      if (!role.aside) return;
      role.crashed = true;
      // What another's crash asked of it was meant for a state from before one. Unless it has been done by now (it may be under
      // way), it is for those who have such a state.
      if (role.promotion?.asked === "by-primary") {
        role.promotion = undefined;
        actions.push({ kind: "refused", request: "promote", reason: "no-checkpoint" });
      }
      return;
    case "cloneLost":
      if (role.aside) return;
      role.holds = undefined;
      if (view !== undefined) seal(draft, role, view.term);
      return;
    case "promote": {
      const reason = whyNotPromote(state, role, event);
      if (reason !== undefined) {
        actions.push({ kind: "refused", request: "promote", reason });
        return;
      }
      const asked = event.term === undefined ? "by-operator" : "by-primary";
      role.promotion = { force: event.force, epoch: event.epoch, asked };
      seal(draft, role, view!.term);
      return;
    }
    case "handOver":
      actions.push({ kind: "refused", request: "handOver", reason: "not-running" });
      return;
  }
}

function startSync(draft: Draft, role: StandbyRole, event: ViewEvent & { kind: "syncStarted" }): void {
  const { term, revision, stream } = event;
  const { accepted } = role;
  const { state, actions } = draft;
  const view = state.confirmed?.view;
  // A greeting that was long under way: the primary has given that stream up, and counts on what came by a newer one.
  const overtaken =
    accepted !== undefined &&
    (revision < accepted.revision || (revision === accepted.revision && stream <= accepted.stream));
  // As long as somebody may count on what is held here, it is not given up; nor while this node may become primary by it.
  const free =
    !overtaken &&
    view?.term === term &&
    view.primary !== state.node &&
    !view.inSync.includes(state.node) &&
    state.submitted.length === 0 &&
    !role.aside;
  if (!free) {
    actions.push({ kind: "refuseStream", term: view?.term ?? 0 });
    return;
  }
  role.accepted = { revision, stream };
  role.holds = undefined;
  role.sealed = 0;
  role.suspects = 0;
  actions.push({ kind: "acceptStream", term });
}

function suspect(draft: Draft, role: StandbyRole, term: number): void {
  const { state, actions } = draft;
  const view = state.confirmed?.view;
  if (view?.term !== term || view.primary === state.node) return;
  if (view.inSync.includes(state.node)) {
    role.suspects = term;
    seal(draft, role, term);
    return;
  }
  // It may have been added this instant, and the primary died before anybody could tell.
  if (state.asking !== undefined) return;
  state.asking = { kind: "read" };
  actions.push({ kind: "readView" });
}

function seal(draft: Draft, role: StandbyRole, term: number): void {
  if (role.sealed === term) return;
  role.sealed = term;
  draft.actions.push({ kind: "seal", term });
}

function whyNotPromote(
  state: ViewState,
  role: StandbyRole,
  { force, term }: ViewEvent & { kind: "promote" },
): RefusalReason | undefined {
  const view = state.confirmed?.view;
  if (view === undefined) return "not-running";
  if (term !== undefined && view.term !== term) return "overtaken";
  if (role.promotion !== undefined) return "busy";
  // Another's application has crashed, and so has the one that stands aside here: no state from before is here.
  if (role.holds === undefined || (term !== undefined && role.crashed)) return "no-checkpoint";
  return force || view.inSync.includes(state.node) ? undefined : "not-in-sync";
}

/** The next term for this node, when the primary is suspected or the operator wants it so. */
export function proposeAsStandby(state: ViewState, role: StandbyRole, view: View): View | undefined {
  if (role.holds === undefined || view.primary === state.node) return undefined;
  const inSync = view.inSync.includes(state.node);
  const wanted =
    (role.suspects === view.term && inSync && !role.crashed) ||
    (role.promotion !== undefined && (inSync || role.promotion.force));
  if (!wanted) return undefined;
  // The others hold sound states too, until this node lives and sends (see view.ts); but the operator who forces an old
  // state on all wants neither the old primary nor a standby to go on from a newer one.
  const others = inSync ? [...view.inSync, view.primary].filter((node) => node !== state.node) : [];
  return { term: view.term + 1, primary: state.node, inSync: others };
}
