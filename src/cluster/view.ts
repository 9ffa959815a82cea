/**
 * The view protocol of one application on one node (DESIGN.md, "Never two primaries"): who is primary, which standbys are
 * in sync, when output may leave. A pure state machine: `step(state, event) → {state, actions}`, without clock, socket or
 * store; the instance process does the actions and brings the events. The simulator in src/sim/ runs the same code.
 *
 * How it keeps "never two" and "nothing released is lost":
 *
 * - Output of epoch e leaves when every node of inSync has acknowledged ≥ e, where inSync is what the store confirmed
 *   last, and every set of nodes that a change not yet settled may bring.
 * - A new term keeps in inSync all others that hold a sound state: the other standbys, and the old primary, which, if it
 *   lives, keeps its application, silent. They acknowledge nothing of the new term, so nothing can leave until the new
 *   primary lives and has removed them; if it dies before, or its restore fails, one of them takes the next term.
 * - A compare-and-swap whose outcome is unknown may still be made later. It is settled only by a higher revision: so it
 *   is read again, and if nothing changed, a further compare-and-swap at the same revision is made. Until then both
 *   outcomes are provided for: output waits for both sets, an application that is being handed over stays stopped.
 */
import type { View } from "./spec.ts";
import { cloneState, type Draft } from "./view-draft.ts";
import type { ViewAction, ViewEvent } from "./view-events.ts";
import { proposeAsPrimary, settleOutput, stepPrimary } from "./view-primary.ts";
import { proposeAsStandby, stepStandby } from "./view-standby.ts";
import type { ViewOptions, ViewState } from "./view-state.ts";
import { adopt, begin } from "./view-transitions.ts";

export type { Checkpoint, ViewAction, ViewEvent } from "./view-events.ts";
export { describeView, type ViewDescription, type ViewOptions, type ViewState } from "./view-state.ts";

/** The state before the first event, which must be `begin`. */
export function initialViewState(node: string, options: Partial<ViewOptions> = {}): ViewState {
  return {
    node,
    options: { holdBelow: 0, ...options },
    confirmed: undefined,
    submitted: [],
    asking: undefined,
    role: { kind: "idle" },
  };
}

/**
 * One step. `state` is not changed; the actions are to be done in their order, and begun before the next event is
 * stepped. The state is plain data: it can be written down, compared and printed.
 */
export function step(state: ViewState, event: ViewEvent): { state: ViewState; actions: ViewAction[] } {
  const draft: Draft = { state: cloneState(state), actions: [] };
  handle(draft, event);
  finishStep(draft);
  return draft;
}

function handle(draft: Draft, event: ViewEvent): void {
  const { state } = draft;
  switch (event.kind) {
    case "begin":
      begin(draft, event);
      return;
    case "holdBelow":
      state.options = { ...state.options, holdBelow: event.count };
      return;
    case "viewSeen":
      adopt(draft, event.view, event.revision);
      return;
    case "viewRead":
      if (state.asking?.kind === "read") state.asking = undefined;
      adopt(draft, event.view, event.revision);
      return;
    case "swapped":
      answered(draft, event.expectedRevision);
      adopt(draft, event.view, event.revision);
      return;
    case "swapFailed":
      answered(draft, event.expectedRevision);
      adopt(draft, event.view, event.revision);
      return;
    case "swapUnknown":
      if (!answered(draft, event.expectedRevision)) return;
      state.asking = { kind: "read" };
      draft.actions.push({ kind: "readView" });
      return;
  }
  if (state.role.kind === "primary") stepPrimary(draft, state.role, event);
  else if (state.role.kind === "standby") stepStandby(draft, state.role, event);
  else if (event.kind === "handOver" || event.kind === "promote") {
    draft.actions.push({ kind: "refused", request: event.kind, reason: "not-running" });
  }
}

/** Whether this is the answer we wait for; an answer to a request that a higher revision has settled meanwhile is not. */
function answered(draft: Draft, expectedRevision: number): boolean {
  const { asking } = draft.state;
  if (asking?.kind !== "swap" || asking.expectedRevision !== expectedRevision) return false;
  draft.state.asking = undefined;
  return true;
}

/** Once the event is digested: ask the store for the change that is wanted now, then let out what may leave. */
function finishStep(draft: Draft): void {
  const { state } = draft;
  if (state.asking === undefined && state.confirmed !== undefined) {
    const view = propose(state, state.confirmed.view);
    if (view !== undefined) {
      state.asking = { kind: "swap", expectedRevision: state.confirmed.revision };
      state.submitted.push(view);
      // The gate must know of the submitted view before anybody else can.
      if (state.role.kind === "primary") settleOutput(draft, state.role);
      draft.actions.push({ kind: "compareAndSwap", expectedRevision: state.confirmed.revision, view });
      return;
    }
  }
  if (state.role.kind === "primary") settleOutput(draft, state.role);
}

function propose(state: ViewState, view: View | undefined): View | undefined {
  const { role, node } = state;
  switch (role.kind) {
    case "starting":
      return role.above === undefined ? undefined : { term: role.above + 1, primary: node, inSync: [] };
    case "primary":
      return view === undefined ? undefined : proposeAsPrimary(state, role, view);
    case "standby":
      return view === undefined ? undefined : proposeAsStandby(state, role, view);
    default:
      return undefined;
  }
}
