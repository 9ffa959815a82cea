/** What the view machine is told, and what it wants done. Its shell is the instance process. */
import type { View } from "./spec.ts";

/** A checkpoint is named by the term that made it and its epoch; epochs go on counting from one term to the next. */
export interface Checkpoint {
  term: number;
  epoch: number;
}

export type ViewEvent =
  // --- The beginning, once ---
  /**
   * What this instance is.
   * - `start`: make the application new. Answered by `startApplication` or `refused`. `cold` starts it although a record
   *   says that it runs: only when its state is known to be lost (see `stateLost`).
   * - `attach`: the application has run here under `term`; the process before this one died. `epoch`: the newest that
   *   process can have cut, or more. Answered by `attached`, or, when another node has a higher term, `standAside` or `endInstance`.
   * - `standby`: waits to be synchronised.
   */
  | { kind: "begin"; as: "start"; cold?: boolean }
  | { kind: "begin"; as: "attach"; term: number; epoch: number }
  | { kind: "begin"; as: "standby" }

  // --- The store ---
  /**
   * The record, from the store's watch, or told by a peer that had it confirmed (in the stream's greeting). `view`
   * undefined: deleted, with the revision of the deletion; the application is over.
   */
  | { kind: "viewSeen"; view: View | undefined; revision: number }
  /** Answer to `readView`. No record: `view: undefined, revision: 0` (that it was deleted only the watch can tell: this answer may be old). */
  | { kind: "viewRead"; view: View | undefined; revision: number }
  /** Answer to `compareAndSwap`: done. `view` is the one of the action, `revision` the store's new one. */
  | { kind: "swapped"; expectedRevision: number; view: View; revision: number }
  /** Answer to `compareAndSwap`: not done, this is there instead (`undefined`, 0 when nothing is). */
  | { kind: "swapFailed"; expectedRevision: number; view: View | undefined; revision: number }
  /** Answer to `compareAndSwap`: no answer in time (`store-unreachable`). It may have been done, or be done later. */
  | { kind: "swapUnknown"; expectedRevision: number }

  /** Below so many standbys in sync output is held from now on; see ViewOptions. */
  | { kind: "holdBelow"; count: number }

  // --- Primary: the application ---
  /** The action `goLive` is done: the application runs here (its output still held). */
  | { kind: "wentLive" }
  /** The action `goLive` failed for good. The clone is lost; whoever else is in sync will suspect this node and take over. */
  | { kind: "goLiveFailed" }
  /**
   * The barrier of checkpoint `epoch` stands: what the application sent before belongs to it. Tell it while the
   * application is still stopped. Ascending.
   */
  | { kind: "epochCut"; epoch: number }
  /** The application has ended by itself, or the operator stops it: it shall never be taken over. Answered by `finished`. */
  | { kind: "end"; reason: string; at: string }
  /**
   * The application has crashed, or hangs: what runs here, if anything does, is no state to go on from. Nothing leaves any more and
   * nobody is taken out of the record, so that a standby can go on from before: the shell tells them over their streams, and they
   * `promote` themselves. With their higher term comes `standAside` as ever, and this node goes on only when told so by `promote`,
   * answered by `resume`, or by `startAgain`. Cut no epoch after it. Not in a planned switch: that first comes to its end. Also for what
   * stands aside: it replaces the new primary only when told so.
   */
  | { kind: "crashed" }
  /**
   * After `crashed`: nobody goes on with it, and the owner wants it started anew, from nothing, here. Answered by the action of this
   * name unless a standby has taken the term. What the standbys hold is given up.
   */
  | { kind: "startAgain" }
  /**
   * This process was kept from running (its own ticks came late by more than a standby's patience), or its machine slept:
   * somebody may have taken over meanwhile, and what waits in the sockets may be old. Tell it before anything from them.
   * Output then waits for acknowledgements of a checkpoint whose end leaves after this. `sent`: the newest whose end may have left before.
   * It may have been cut before: a process that stops its application for long is kept from running by each of its own barriers.
   */
  | { kind: "awoke"; sent: number }

  // --- Primary: its standbys. A node has one stream at a time: after `standbyLost` nothing of the old stream is told. ---
  /** A stream to the standby stands. Answered by `synchronise`, perhaps later. */
  | { kind: "standbyConnected"; node: string }
  /**
   * The standby holds checkpoint `epoch` of this term, completely, on its own. The first one of a stream is the first
   * full checkpoint after `synchronise`; nothing is told before.
   */
  | { kind: "acknowledged"; node: string; term: number; epoch: number }
  /** The stream is closed: failed, suspected by the detector, too slow by rule, or removed by the operator. Close it first. */
  | { kind: "standbyLost"; node: string }

  // --- Primary: planned switch ---
  /** The operator wants the application on `to`. Answered by `finalCheckpoint`, and later `standAside` + `tellGoLive` and at last `endInstance`; or `resume`; or `refused`. */
  | { kind: "handOver"; to: string }
  /** The final checkpoint stands (the application stays stopped) and is being sent. Counts as `epochCut` too: do not tell both. */
  | { kind: "finalCheckpointCut"; epoch: number }
  /** The final checkpoint could not be made, or the shell's patience with the hand-over is over. */
  | { kind: "handOverFailed"; reason: string }

  // --- Standby ---
  /**
   * The primary of `term` begins a full synchronisation on a stream; `revision` and `stream` are those of its greeting
   * (see `synchronise`), whose view is to be told as `viewSeen` before. Answered by `acceptStream`, and then the
   * checkpoint held is forgotten; or by `refuseStream`, also when this greeting was overtaken by a newer stream's. Touch
   * the clone only after `acceptStream`.
   */
  | { kind: "syncStarted"; term: number; revision: number; stream: number }
  /** A checkpoint is applied, wholly. Answered by `acknowledge`, unless sealed. */
  | { kind: "checkpointApplied"; term: number; epoch: number }
  /** The primary of `term` gives no sign of life: suspected by the detector, or its stream closed without goodbye. Repeat it every 100 ms or so while that lasts. */
  | { kind: "suspected"; term: number }
  /** The clone is unusable (its processes died, a checksum is wrong). Answered by `seal`: the primary will synchronise it anew. */
  | { kind: "cloneLost" }
  /**
   * The operator wants the application here, whatever the primary says. `force`: even though not in sync (released output
   * may be missing; the operator vouches that the old primary is gone). `epoch`: an older checkpoint that is held. `term`: only as
   * long as that is the record's, for it was the primary of that term who asked.
   */
  | { kind: "promote"; force: boolean; epoch?: number; term?: number };

export type ViewAction =
  // --- The store. One `compareAndSwap` or `readView` is under way at a time. ---
  /** Submit; answer with exactly one of `swapped`, `swapFailed`, `swapUnknown`. Give up after some seconds at most. */
  | { kind: "compareAndSwap"; expectedRevision: number; view: View }
  /** Read the record, trying again (every 50 ms or so) until the store answers; then `viewRead`. */
  | { kind: "readView" }

  // --- The application here ---
  /** `begin start`: this node is the primary of `term`; start the application. Output rules come as `passThrough`. */
  | { kind: "startApplication"; term: number }
  /**
   * After `crashed`: this node is the primary of `term`. End what is left of the application and its streams, and start it anew, with
   * epochs above `epoch`. Output rules come as `passThrough`.
   */
  | { kind: "startAgain"; term: number; epoch: number }
  /** `begin attach`: this node is still the primary. Go on, with epochs above the given one; the standbys are to be connected anew. */
  | { kind: "attached"; term: number }
  /**
   * This node is the primary of `term`: bring the clone to life from `checkpoint`, with its output held, take over the
   * address, then tell `wentLive` or `goLiveFailed`. Epochs go on above `checkpoint.epoch`.
   */
  | { kind: "goLive"; term: number; checkpoint: Checkpoint }
  /** On: nothing is held, all that waits goes out (nobody is in sync and policy continues). Off: hold. Off at the beginning. */
  | { kind: "passThrough"; on: boolean }
  /** Let go what the application sent before the barrier of `epoch`. */
  | { kind: "release"; epoch: number }
  /** Planned switch: stop the application, make the final checkpoint, leave it stopped, tell `finalCheckpointCut`, send it to all in sync (`to` above all). */
  | { kind: "finalCheckpoint"; to: string }
  /**
   * `primary` has the higher `term` but does not live yet, and until it does this application is a replacement for it:
   * keep the application, all output held (what waits is not to be dropped). It may run or stand still; no checkpoints
   * are made of it; streams may be closed, except one over which a planned switch is told. Then comes `endInstance`, or
   * `resume` if that node fails (told by `suspected` with the new term; `follow` tells when to begin to watch).
   * Also an answer to `begin attach`: then attach, and hold.
   */
  | { kind: "standAside"; primary: string; term: number }
  /** Planned switch, after `standAside`: `to` is primary of `term` by the store; tell it on the stream, it learns it from the store too. */
  | { kind: "tellGoLive"; to: string; term: number; epoch: number }
  /**
   * Let the application, stopped or silent, go on as primary of `term` (higher than before after `standAside`), with
   * epochs above those cut before. Streams that were closed are to be opened anew; output rules come as `passThrough` and `release`.
   */
  | { kind: "resume"; term: number; reason: string }
  /**
   * The application must not go on here: first cut it off from the network, then end it and close all streams. The
   * process stays, as a standby without state, unless `finished` follows.
   */
  | { kind: "endInstance"; reason: string }

  // --- Primary: its standbys ---
  /**
   * Begin the full synchronisation of a connected standby. Its stream's greeting carries the confirmed view and revision
   * (`state.confirmed`) and `stream`, by which the standby knows an old greeting that was long under way.
   */
  | { kind: "synchronise"; node: string; stream: number }

  // --- Standby ---
  /** The stream of that `syncStarted` is accepted: the old clone may be given up and filled anew. */
  | { kind: "acceptStream"; term: number }
  /** Close the stream: this node knows a higher `term` or is a candidate itself. Tell the sender view and revision, as its `viewSeen`. */
  | { kind: "refuseStream"; term: number }
  /** Tell the primary that this checkpoint is safe here. */
  | { kind: "acknowledge"; term: number; epoch: number }
  /**
   * Take no more from the primary of `term`, close its stream. What is applied stays; a checkpoint that was applied
   * before the stream is closed may still be told.
   */
  | { kind: "seal"; term: number }
  /**
   * `primary` has `term`. Watch over it anew from now: `suspected` if no sign of life comes within the detector's first
   * patience (it may need that long to come to life and connect), or later stops coming. Whether this node counts is
   * decided here; suspicion by a node that is not in sync does no harm.
   */
  | { kind: "follow"; primary: string; term: number }
  /** The record names this node primary but it has no state. If nobody in `inSync` takes over, the state is lost: a cold start is all that is left. */
  | { kind: "stateLost"; term: number }

  // --- Both ---
  /** The application is over by the store's word: give up clone or instance; no further actions come. */
  | { kind: "finished"; reason: string }
  /** A request cannot be done; nothing has changed. */
  | { kind: "refused"; request: "start" | "handOver" | "promote"; reason: RefusalReason };

export type RefusalReason =
  /** The record says that the application runs on another node, or here. */
  | "already-running"
  /** This node does not run the application (hand-over) or is not a standby (promote). */
  | "not-running"
  /** Another planned switch is under way. */
  | "busy"
  /** The node is not in sync; a promotion needs `force`. */
  | "not-in-sync"
  /** No checkpoint is held here. */
  | "no-checkpoint"
  /** Another node got the new term first. */
  | "overtaken";
