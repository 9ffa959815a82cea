/**
 * Deliberate bugs: each turns the view machine into a plausible wrong one. The simulator must find every one of them;
 * otherwise its silence about the right one says nothing.
 */
import { step, type ViewAction, type ViewEvent, type ViewState } from "../cluster/view.ts";

export const bugs = {
  "release-at-cut": "Output leaves when its checkpoint is made, not when it is acknowledged",
  "acknowledge-after-election": "A standby that has become primary still acknowledges the old one's checkpoints",
  "unknown-is-failure": "A compare-and-swap without answer is taken for not done",
  "unknown-is-success": "A compare-and-swap without answer is taken for done",
  "release-before-removal": "A lost standby is not waited for as soon as its removal is asked for",
  "joiner-not-waited-for": "A standby that is being added is not waited for until the store has confirmed it",
  "candidate-out-of-sync": "A standby takes the next term although it is not in sync",
  "older-checkpoint": "A new primary goes on from the checkpoint before the newest acknowledged",
  "ignores-higher-term": "A primary does not obey a higher term",
  "inherited-not-waited-for": "A new primary speaks before those who could replace it are removed",
  "hand-over-unacknowledged": "A hand-over does not wait for the final checkpoint's acknowledgement",
  "same-term": "A standby takes over without raising the term",
  "too-few-speak": "Output leaves although fewer standbys are in sync than it needs",
  "crash-is-a-loss": "Standbys whose streams end while the application has crashed are taken out of the record",
  "stale-restart": "A standby goes on as told after a crash, although the term has changed since",
  "blind-write": "The view is written without comparing",
} as const;
export type Bug = keyof typeof bugs;
export const bugNames = Object.keys(bugs) as Bug[];

type Step = typeof step;

export function stepWithBug(bug: Bug): Step {
  const change = changes[bug];
  return change === undefined ? step : (state, event) => change(state, event);
}

/** "blind-write" is the store's, and half of "acknowledge-after-election" the shell's: they know it by its name. */
const changes: Partial<Record<Bug, Step>> = {
  "release-at-cut": (state, event) => {
    const result = step(state, event);
    const { role } = result.state;
    if (event.kind === "epochCut" && role.kind === "primary" && !role.passThrough) {
      result.actions.push({ kind: "release", epoch: event.epoch });
    }
    return result;
  },
  "acknowledge-after-election": (state, event) => {
    const result = step(state, event);
    if (event.kind === "checkpointApplied" && state.role.kind === "primary" && event.term < state.role.term) {
      result.actions.push({ kind: "acknowledge", term: event.term, epoch: event.epoch });
    }
    return result;
  },
  "unknown-is-failure": (state, event) => {
    if (event.kind !== "swapUnknown" || state.asking?.kind !== "swap") return step(state, event);
    const { view, revision } = state.confirmed!;
    return step({ ...state, submitted: [], asking: undefined }, { kind: "viewSeen", view, revision });
  },
  "unknown-is-success": (state, event) => {
    if (event.kind !== "swapUnknown" || state.asking?.kind !== "swap") return step(state, event);
    const view = state.submitted.at(-1);
    if (view === undefined) return step(state, event);
    return step(state, {
      kind: "swapped",
      expectedRevision: event.expectedRevision,
      view,
      revision: event.expectedRevision + 1,
    });
  },
  "release-before-removal": (state, event) => {
    if (event.kind !== "standbyLost") return step(state, event);
    return step(
      withMembers(state, (node) => node !== event.node),
      event,
    );
  },
  "joiner-not-waited-for": (state, event) => {
    const { role } = state;
    if (role.kind !== "primary") return step(state, event);
    const inSync = state.confirmed?.view?.inSync ?? [];
    const standbys = Object.fromEntries(
      Object.entries(role.standbys).map(([node, standby]) => [
        node,
        standby.acknowledged === undefined || inSync.includes(node) ? standby : { ...standby, acknowledged: role.cut },
      ]),
    );
    return step({ ...state, role: { ...role, standbys } }, event);
  },
  "candidate-out-of-sync": (state, event) => {
    const view = state.confirmed?.view;
    if (event.kind !== "suspected" || view === undefined || view.inSync.includes(state.node)) return step(state, event);
    return step(
      { ...state, confirmed: { ...state.confirmed!, view: { ...view, inSync: [...view.inSync, state.node] } } },
      event,
    );
  },
  "older-checkpoint": (state, event) =>
    mapActions(step(state, event), (action) =>
      action.kind === "goLive"
        ? { ...action, checkpoint: { ...action.checkpoint, epoch: action.checkpoint.epoch - 1 } }
        : action,
    ),
  "ignores-higher-term": (state, event) => {
    const higher =
      "view" in event && event.view !== undefined && state.role.kind === "primary" && event.view.term > state.role.term;
    return higher ? { state, actions: [] } : step(state, event);
  },
  "inherited-not-waited-for": (state, event) => {
    if (event.kind !== "wentLive") return step(state, event);
    return step(
      withMembers(state, () => false),
      event,
    );
  },
  "hand-over-unacknowledged": (state, event) => {
    const result = step(state, event);
    const { role, confirmed } = result.state;
    if (event.kind !== "finalCheckpointCut" || role.kind !== "primary" || confirmed?.view === undefined) return result;
    const to = role.handOver?.to;
    if (to === undefined || role.standbys[to] === undefined) return result;
    role.standbys[to].acknowledged = event.epoch;
    return step(result.state, { kind: "viewSeen", view: confirmed.view, revision: confirmed.revision });
  },
  "crash-is-a-loss": (state, event) => {
    const { role } = state;
    if (event.kind !== "standbyLost" || role.kind !== "primary" || role.crashed !== "waits") return step(state, event);
    const result = step({ ...state, role: { ...role, crashed: false } }, event);
    if (result.state.role.kind === "primary") result.state.role.crashed = "waits";
    return result;
  },
  "stale-restart": (state, event) => {
    if (event.kind !== "promote" || event.term === undefined) return step(state, event);
    const { term, ...always } = event;
    return step(state, always);
  },
  "too-few-speak": (state, event) => step({ ...state, options: { ...state.options, holdBelow: 0 } }, event),
  "same-term": (state, event) =>
    mapActions(step(state, event), (action) =>
      action.kind === "compareAndSwap" && state.role.kind === "standby"
        ? { ...action, view: { ...action.view, term: action.view.term - 1 } }
        : action,
    ),
};

function withMembers(state: ViewState, keep: (node: string) => boolean): ViewState {
  const view = state.confirmed?.view;
  if (view === undefined) return state;
  return { ...state, confirmed: { ...state.confirmed!, view: { ...view, inSync: view.inSync.filter(keep) } } };
}

function mapActions(
  result: { state: ViewState; actions: ViewAction[] },
  change: (action: ViewAction) => ViewAction,
): { state: ViewState; actions: ViewAction[] } {
  return { state: result.state, actions: result.actions.map(change) };
}

export type { ViewEvent };
