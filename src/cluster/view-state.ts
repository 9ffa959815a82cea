import type { View } from "./spec.ts";
import type { Checkpoint } from "./view-events.ts";

export interface ViewOptions {
  /** Below this many standbys in sync output is held (`minInSync` with `onTooFew: hold`); 0: it goes on alone. */
  holdBelow: number;
}

export interface ViewState {
  node: string;
  options: ViewOptions;
  /** The record as last confirmed by the store; `view` undefined: there is none. Undefined: not read yet. */
  confirmed: { view: View | undefined; revision: number } | undefined;
  /** Views submitted at `confirmed.revision`, any of which may be the record by now, or become it. */
  submitted: View[];
  /** The request to the store that has no answer yet. */
  asking: { kind: "swap"; expectedRevision: number } | { kind: "read" } | undefined;
  role: Role;
}

export type Role =
  | { kind: "idle" }
  | StartingRole
  | { kind: "attaching"; term: number; epoch: number }
  | PrimaryRole
  | StandbyRole
  | { kind: "finished"; reason: string };

export interface StartingRole {
  kind: "starting";
  cold: boolean;
  /** The term of the record that was found, 0 for none; ours is higher. Undefined: not read yet. */
  above: number | undefined;
}

export interface PrimaryRole {
  kind: "primary";
  term: number;
  /**
   * `rising`: being brought to life. `fencing`: attached after the predecessor's death; whatever that one submitted must
   * be settled before output leaves. `live`: runs.
   */
  phase: "rising" | "fencing" | "live";
  /** Newest epoch whose barrier stood. */
  cut: number;
  /** No output of an epoch above this one has left. */
  bound: number;
  /** Newest epoch released by `release`. */
  released: number;
  passThrough: boolean;
  /** Synchronisations begun in this role; numbers the streams. */
  streams: number;
  /** Connected standbys. */
  standbys: Record<string, ConnectedStandby>;
  handOver: HandOver | undefined;
  ending: { reason: string; at: string } | undefined;
  /** What runs here is no state to go on from any more; `startAgain`: it shall be made new. */
  crashed: false | "waits" | "startAgain";
  /** Output waits until every node in sync has acknowledged at least this epoch, however old the output (event `awoke`). */
  freshFrom: number;
}

export interface ConnectedStandby {
  /** `synchronise` was asked for. */
  synchronising: boolean;
  /** Newest epoch of this term it acknowledged on this stream. */
  acknowledged: number | undefined;
}

export interface HandOver {
  to: string;
  /** The final checkpoint, once it stands. */
  epoch: number | undefined;
  /** Why it shall not be, once that is so; it can still happen if its compare-and-swap is under way. */
  abandoned: string | undefined;
}

export interface StandbyRole {
  kind: "standby";
  /** Newest checkpoint this node can go on from by itself. */
  holds: Checkpoint | undefined;
  /**
   * What is held is the application itself, silent: this node was primary until now, and the new one does not live yet.
   * `holds` then names the newest epoch cut.
   */
  aside: boolean;
  /** With `aside`: that application has crashed. It replaces the new primary only when told so by `promote`. */
  crashed: boolean;
  /** The newest synchronisation accepted: the revision its primary knew, and that one's number of it. */
  accepted: { revision: number; stream: number } | undefined;
  /** The term in which nothing is acknowledged any more; 0: none. */
  sealed: number;
  /** The term whose primary is suspected; 0: none. */
  suspects: number;
  promotion: { force: boolean; epoch: number | undefined; asked: "by-operator" | "by-primary" } | undefined;
  /** The newest term told to the shell by `follow` or `stateLost`. */
  follows: number;
}

/** `epoch`: that of the checkpoint it goes on from; all output up to it may have left already. */
export function primary(term: number, epoch: number, phase: PrimaryRole["phase"]): PrimaryRole {
  return {
    kind: "primary",
    term,
    phase,
    cut: epoch,
    // An application that runs already may have sent, or been allowed to send, in the epoch that was open.
    bound: phase === "rising" ? epoch : epoch + 1,
    released: epoch,
    passThrough: false,
    streams: 0,
    standbys: {},
    handOver: undefined,
    ending: undefined,
    crashed: false,
    freshFrom: 0,
  };
}

export function freshStandby(): StandbyRole {
  return {
    kind: "standby",
    holds: undefined,
    aside: false,
    crashed: false,
    accepted: undefined,
    sealed: 0,
    suspects: 0,
    promotion: undefined,
    follows: 0,
  };
}

export interface ViewDescription {
  role: "primary" | "standby";
  /** As in InstanceStatus. */
  state:
    | "starting"
    | "running"
    | "holding"
    | "protected"
    | "switching"
    | "synchronising"
    | "ready"
    | "going-live"
    | "ended";
  term: number;
  /** In sync by the store's last word. */
  inSync: string[];
  /** A change of view waits for the store's answer. */
  settling: boolean;
}

/** The state in an operator's words. */
export function describeView(state: ViewState): ViewDescription {
  const { role, confirmed } = state;
  const view = confirmed?.view;
  const inSync = view?.inSync ?? [];
  const common = {
    // What is attached to runs in its own term, whatever the record says by now.
    term: role.kind === "primary" || role.kind === "attaching" ? role.term : (view?.term ?? 0),
    inSync,
    settling: state.submitted.length > 0,
  };
  switch (role.kind) {
    case "idle":
    case "starting":
    case "attaching":
      return { role: "primary", state: "starting", ...common };
    case "finished":
      return { role: "standby", state: "ended", ...common };
    case "primary":
      if (role.phase === "rising") return { role: "primary", state: "going-live", ...common };
      if (role.handOver !== undefined || role.crashed !== false)
        return { role: "primary", state: "switching", ...common };
      if (inSync.length < state.options.holdBelow) return { role: "primary", state: "holding", ...common };
      return { role: "primary", state: inSync.length > 0 ? "protected" : "running", ...common };
    case "standby":
      if (role.aside) return { role: "standby", state: "switching", ...common };
      return { role: "standby", state: inSync.includes(state.node) ? "ready" : "synchronising", ...common };
  }
}
