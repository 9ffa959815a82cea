/** What every step of the view machine begins and ends with. */
import type { ViewAction } from "./view-events.ts";
import type { ViewState } from "./view-state.ts";

/** A state being changed by one step, and what the step wants done. */
export interface Draft {
  state: ViewState;
  actions: ViewAction[];
}

/** A copy in which everything a step changes in place is its own. Views and checkpoints are replaced, never changed. */
export function cloneState(state: ViewState): ViewState {
  const role = { ...state.role };
  if (role.kind === "primary") {
    role.standbys = { ...role.standbys };
    for (const node in role.standbys) role.standbys[node] = { ...role.standbys[node]! };
    if (role.handOver !== undefined) role.handOver = { ...role.handOver };
  }
  return { ...state, submitted: [...state.submitted], role };
}

export function sameMembers(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((node) => b.includes(node));
}
