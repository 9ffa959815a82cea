/** An instance process: a simplified, faithful shell of the view machine. Times in simulated milliseconds. */
import { type DetectorState, heartbeat, startDetector, tick, wasStarved } from "../cluster/detector.ts";
import type { Checkpoint, ViewAction, ViewEvent, ViewState } from "../cluster/view.ts";
import { initialViewState } from "../cluster/view.ts";
import { Violation } from "./judge.ts";
import type { App, SimNode } from "./node.ts";
import { type Message, Stream, type StreamEnd } from "./stream.ts";
import type { World } from "./world.ts";

const tickMs = 30;
const detectorOptions = { heartbeatMs: 30, tickMs, floorMs: 100, ceilingMs: 500, startMs: 700 };

/** Checkpoints that a standby keeps. */
const MOST_KEPT = 3;

export class Process {
  readonly node: SimNode;
  readonly world: World;
  state: ViewState;
  dead = false;
  /** Primary's ends by standby. */
  readonly outgoing = new Map<string, { end: StreamEnd; detector: DetectorState }>();
  incoming: StreamEnd | undefined;
  /** The end whose greeting is being answered. */
  #greeted: StreamEnd | undefined;
  #following: { primary: string; term: number; detector: DetectorState; lost: boolean } | undefined;
  #clock: DetectorState;
  #checkpointing = false;
  /** Checkpoints of the present stream, oldest first. */
  #kept: number[] = [];
  /** Then also what has crashed goes on here. */
  #operatorWants = false;
  /** Terms that are to go on from an older state: also from its own, of a term that did. */
  readonly #olderAllowed = new Set<number>();
  /** The term that it wanted when nobody else could go on; whoever can later, it cannot know. */
  #wantedAlone = 0;
  /** Terms that it has asked the store for, and whether it knew, at any of the times, that others should go on. */
  readonly #asked = new Map<number, boolean>();

  constructor(node: SimNode, begin: ViewEvent & { kind: "begin" }) {
    this.node = node;
    this.world = node.world;
    this.state = initialViewState(node.name, { holdBelow: this.world.holdBelow });
    this.#clock = startDetector(node.clock(), detectorOptions);
    this.tell(begin);
    this.#every(tickMs, () => this.#tick());
    this.#every(20, () => this.#checkpoint());
    this.#every(60, () => this.#connect());
  }

  /** Runs in this process: not when it is dead, later when it is kept from running. */
  run(work: () => void): void {
    if (this.dead) return;
    if (this.world.agenda.now >= this.node.pausedUntil) work();
    else this.node.whenAwake(() => this.run(work));
  }

  tell(event: ViewEvent): void {
    this.run(() => {
      const before = this.state;
      const { state, actions } = this.world.step(before, event);
      this.state = state;
      this.world.trace?.(`${this.node.name}: ${JSON.stringify(event)} → ${JSON.stringify(actions)}`);
      for (const action of actions) this.#act(action, before);
    });
  }

  awake(): void {
    if (this.state.role.kind !== "primary") return;
    const cut = this.node.app?.cut ?? 0;
    this.tell({ kind: "awoke", sent: this.#checkpointing ? cut - 1 : cut });
  }

  /** The process ends. The application does not. */
  kill(): void {
    this.dead = true;
    for (const { end } of this.outgoing.values()) end.close();
    this.incoming?.close();
  }

  streamClosed(end: StreamEnd): void {
    if (end === this.incoming) {
      this.incoming = undefined;
      if (this.#following !== undefined && !end.goodbye) this.#following.lost = true;
    } else if (this.outgoing.get(end.peer)?.end === end) {
      this.outgoing.delete(end.peer);
      this.tell({ kind: "standbyLost", node: end.peer });
    }
  }

  received(end: StreamEnd, message: Message): void {
    if (end === this.incoming) this.#hears();
    else {
      const known = this.outgoing.get(end.peer);
      if (known?.end === end) known.detector = heartbeat(known.detector, this.node.clock());
    }
    switch (message.kind) {
      case "heartbeat":
        return;
      case "greeting":
        this.tell({ kind: "viewSeen", view: message.view, revision: message.revision });
        this.#greeted = end;
        this.tell({ kind: "syncStarted", term: message.term, revision: message.revision, stream: message.stream });
        return;
      case "checkpoint":
        if (end.accepted) this.#apply(end, message);
        return;
      case "acknowledge":
        if (this.outgoing.get(end.peer)?.end === end) {
          this.tell({ kind: "acknowledged", node: end.peer, term: message.term, epoch: message.epoch });
        }
        return;
      case "restart":
        this.#promoteSelf(message);
        return;
      case "view":
        this.tell({ kind: "viewSeen", view: message.view, revision: message.revision });
        return;
      case "goodbye":
        end.goodbye = true;
        return;
    }
  }

  /** A node wants to be the primary's standby, or rather: the primary's agent found one. */
  accepts(): boolean {
    return !this.dead && this.state.role.kind === "standby" && this.world.agenda.now >= this.node.pausedUntil;
  }

  handOver(to: string): void {
    this.tell({ kind: "handOver", to });
  }

  promoteByOperator(): void {
    this.run(() => {
      this.#operatorWants = true;
      this.tell({ kind: "promote", force: false });
    });
  }

  drop(peer: string): void {
    this.run(() => {
      this.outgoing.get(peer)?.end.send({ kind: "goodbye" });
      this.#loseStandby(peer);
    });
  }

  #apply(end: StreamEnd, message: Message & { kind: "checkpoint" }): void {
    const { agenda, random } = this.world;
    end.busyApplying = Math.max(end.busyApplying, agenda.now) + random.between(0.3, 4);
    this.#after(end.busyApplying - agenda.now, () => {
      if (this.incoming !== end || !end.accepted) return;
      this.#kept = [...this.#kept, message.epoch].slice(-MOST_KEPT);
      this.tell({ kind: "checkpointApplied", term: message.term, epoch: message.epoch });
    });
  }

  #act(action: ViewAction, before: ViewState): void {
    const { world, node } = this;
    const { app } = node;
    switch (action.kind) {
      case "compareAndSwap": {
        const { expectedRevision, view } = action;
        if (view.primary === node.name && this.#asked.get(view.term) !== true)
          this.#asked.set(view.term, view.term !== this.#wantedAlone && this.#othersAreBetter(before));
        world.store.swap(node.name, expectedRevision, view, (result) => {
          if (result === "unknown") this.tell({ kind: "swapUnknown", expectedRevision });
          else if (result.ok) this.tell({ kind: "swapped", expectedRevision, view, revision: result.revision });
          else this.tell({ kind: "swapFailed", expectedRevision, view: result.view, revision: result.revision });
        });
        return;
      }
      case "readView":
        world.store.read(node.name, (record) => this.tell({ kind: "viewRead", ...record }));
        return;
      case "startApplication":
        node.startApp(action.term, undefined);
        return;
      case "attached":
        app!.stopped = false;
        return;
      case "goLive":
        this.#goLive(action.term, action.checkpoint, isOlder(before));
        return;
      case "startAgain": {
        this.#checkNobodyCould(app!);
        node.startApp(action.term, undefined, true, action.epoch);
        this.#closeOutgoing(true);
        return;
      }
      case "passThrough":
        if (action.on && app !== undefined) this.#leave(app.term, app.cut + 1);
        return;
      case "release":
        if (app !== undefined) this.#leave(app.term, action.epoch);
        return;
      case "finalCheckpoint":
        this.#finalCheckpoint();
        this.#after(400, () => this.tell({ kind: "handOverFailed", reason: "patience is over" }));
        return;
      case "tellGoLive": {
        const view = this.state.confirmed?.view;
        if (view !== undefined)
          this.outgoing.get(action.to)?.end.send({ kind: "view", view, revision: this.state.confirmed!.revision });
        return;
      }
      case "resume": {
        const stopped = app!;
        // It goes on as it is: all that it ever sent is in it.
        const { crashed } = stopped;
        // What it has asked the store for before it knew, or while nobody else could, it has to do when the answer comes.
        const knewBetter = action.term === stopped.term ? undefined : this.#asked.get(action.term);
        if (knewBetter ?? this.#othersAreBetter(before))
          throw new Violation(`${node.name} goes on with what has crashed, although others could from before`);
        if (action.term !== stopped.term)
          node.startApp(
            action.term,
            { term: stopped.term, epoch: stopped.cut + 1 },
            this.#olderAllowed.has(action.term),
          );
        node.app!.stopped = false;
        if (crashed !== undefined) node.crashApp(crashed.from);
        this.#closeOutgoing(before.role.kind === "standby");
        return;
      }
      case "standAside":
        return;
      case "endInstance":
        node.app = undefined;
        this.#closeOutgoing(true);
        return;
      case "synchronise": {
        const known = this.outgoing.get(action.node);
        const { view, revision } = this.state.confirmed!;
        if (known === undefined || view === undefined) return;
        known.end.sync = "due";
        known.end.send({ kind: "greeting", term: view.term, view, revision, stream: action.stream });
        return;
      }
      case "acceptStream":
        if (this.incoming !== this.#greeted) this.#closeIncoming();
        this.incoming = this.#greeted;
        if (this.incoming !== undefined) this.incoming.accepted = true;
        this.#kept = [];
        if (this.#following !== undefined) this.#following.lost = false;
        this.#hears();
        return;
      case "refuseStream": {
        const { confirmed } = this.state;
        const greeted = this.#greeted;
        if (confirmed?.view !== undefined)
          greeted?.send({ kind: "view", view: confirmed.view, revision: confirmed.revision });
        if (greeted === this.incoming) this.#closeIncoming();
        else greeted?.close();
        return;
      }
      case "acknowledge":
        world.judge.acknowledges(node.name, action.term, action.epoch);
        this.incoming?.send({ kind: "acknowledge", term: action.term, epoch: action.epoch });
        return;
      case "seal":
        if (world.bug !== "acknowledge-after-election") this.#closeIncoming();
        return;
      case "follow":
        if (this.incoming?.peer !== action.primary) this.#closeIncoming();
        this.#following = {
          primary: action.primary,
          term: action.term,
          detector: startDetector(node.clock(), detectorOptions),
          lost: false,
        };
        return;
      case "stateLost":
      case "refused":
      case "finished":
        return;
    }
  }

  /** Output that was held, or passes now, is seen by the world. */
  #leave(term: number, epoch: number): void {
    const { judge, agenda, store } = this.world;
    judge.releasesOutput(this.node.name, term, epoch, agenda.now, store.record.view?.ended !== undefined);
  }

  #goLive(term: number, checkpoint: Checkpoint, byPolicy: boolean): void {
    if (this.world.bug !== "acknowledge-after-election") this.#closeIncoming();
    this.#following = undefined;
    this.#after(this.world.random.between(20, 120), () => {
      if (this.world.faults.strikes("goLiveFailed")) {
        this.tell({ kind: "goLiveFailed" });
        return;
      }
      const { role } = this.state;
      if (role.kind !== "primary" || role.term !== term) return;
      this.node.startApp(term, checkpoint, byPolicy);
      this.tell({ kind: "wentLive" });
    });
  }

  #finalCheckpoint(): void {
    this.node.app!.stopped = true;
    this.#after(this.world.random.between(1, 10), () => {
      const { role } = this.state;
      if (role.kind !== "primary" || role.handOver === undefined) return;
      // The one that is under way is sent first.
      if (this.#checkpointing) {
        this.#finalCheckpoint();
        return;
      }
      if (this.node.app?.crashed !== undefined || this.world.faults.strikes("checkpointFailed")) {
        this.tell({ kind: "handOverFailed", reason: "checkpoint failed" });
        return;
      }
      const epoch = this.#cut();
      this.tell({ kind: "finalCheckpointCut", epoch });
      this.#send(epoch);
    });
  }

  /** One turn of the capture: only while a standby takes checkpoints. */
  #checkpoint(): void {
    const { app } = this.node;
    const { role } = this.state;
    if (app === undefined || app.crashed !== undefined || role.kind !== "primary" || role.phase !== "live") return;
    if (role.passThrough) this.#leave(app.term, app.cut + 1);
    const wanted = [...this.outgoing.values()].some(({ end }) => end.sync !== "none");
    if (app.stopped || this.#checkpointing || !wanted) return;
    const epoch = this.#cut();
    this.tell({ kind: "epochCut", epoch });
    this.#checkpointing = true;
    this.#after(this.world.random.between(0.5, 6), () => {
      this.#checkpointing = false;
      this.#send(epoch);
    });
  }

  #cut(): number {
    const app = this.node.app!;
    app.cut++;
    return app.cut;
  }

  #send(epoch: number): void {
    const { app } = this.node;
    if (app === undefined) return;
    for (const { end } of this.outgoing.values()) {
      if (end.sync === "none") continue;
      end.send({ kind: "checkpoint", term: app.term, epoch, full: end.sync === "due" });
      end.sync = "sent";
    }
  }

  /** The agent's part: a stream from the primary to every node that could be a standby. */
  #connect(): void {
    const { role } = this.state;
    if (role.kind !== "primary" || role.phase !== "live") return;
    for (const peer of this.world.nodes) {
      const target = peer.process;
      if (peer === this.node || this.outgoing.has(peer.name) || target === undefined || !target.accepts()) continue;
      if (this.world.isCut(this.node.name, peer.name) || this.world.isCut(peer.name, this.node.name)) continue;
      const [end] = new Stream(this.world, this, target).ends;
      this.outgoing.set(peer.name, { end, detector: startDetector(this.node.clock(), detectorOptions) });
      this.tell({ kind: "standbyConnected", node: peer.name });
    }
  }

  #tick(): void {
    const now = this.node.clock();
    if (wasStarved(this.#clock, now)) this.awake();
    this.#clock = tick(this.#clock, now).state;
    for (const [peer, known] of this.outgoing) {
      known.end.send({ kind: "heartbeat" });
      const told = tick(known.detector, now);
      known.detector = told.state;
      if (told.suspected) this.#loseStandby(peer);
    }
    this.#restart();
    if (this.state.role.kind !== "standby") return;
    this.incoming?.send({ kind: "heartbeat" });
    const following = this.#following;
    if (following === undefined) return;
    const told = tick(following.detector, now);
    following.detector = told.state;
    if (told.suspected || following.lost) this.tell({ kind: "suspected", term: following.term });
  }

  /** It knows that its own application has crashed, and others could go on from before. */
  #othersAreBetter(state: ViewState): boolean {
    const { node, world } = this;
    return node.app?.crashed !== undefined && isCrashed(state) && !this.#operatorWants && world.othersCarry(node);
  }

  /** The application has crashed: standbys are told to go on with it; when nobody can any more, it is started anew. */
  #restart(): void {
    const { role, confirmed } = this.state;
    const { crashed } = this.node.app ?? {};
    if (crashed === undefined) return;
    if (!isCrashed(this.state)) {
      const { submitted, asking } = this.state;
      if (submitted.length === 0 && asking === undefined) crashed.others = this.world.store.record.view?.inSync ?? [];
      this.tell({ kind: "crashed" });
      return;
    }
    const alone = !this.world.othersCarry(this.node);
    if (role.kind === "standby" && alone) {
      if (role.promotion === undefined) this.#wantedAlone = (confirmed?.view?.term ?? 0) + 1;
      this.tell({ kind: "promote", force: false });
    }
    if (role.kind !== "primary") return;
    if (alone || crashed.from === "cold") this.tell({ kind: "startAgain" });
    else
      for (const peer of confirmed?.view?.inSync ?? [])
        this.outgoing.get(peer)?.end.send({ kind: "restart", term: role.term, older: crashed.from === "older" });
  }

  /** Nothing but the owner's wish throws away a state that was counted on when the application crashed. */
  #checkNobodyCould({ term, crashed }: App): void {
    if (crashed === undefined || crashed.from === "cold") return;
    for (const name of crashed.others) {
      const role = this.world.node(name).process?.state.role;
      if (role?.kind === "standby" && role.holds?.term === term)
        throw new Violation(
          `${this.node.name} starts anew, although ${name} could go on from ${term}/${role.holds.epoch}`,
        );
    }
  }

  #promoteSelf({ term, older }: Message & { kind: "restart" }): void {
    const { role } = this.state;
    if (role.kind !== "standby" || role.promotion !== undefined) return;
    if (older) this.#olderAllowed.add(term + 1);
    const epoch = older ? this.#kept[0] : undefined;
    this.tell({ kind: "promote", force: false, term, ...(epoch === undefined ? {} : { epoch }) });
  }

  #hears(): void {
    if (this.#following !== undefined)
      this.#following.detector = heartbeat(this.#following.detector, this.node.clock());
  }

  #loseStandby(peer: string): void {
    const { role } = this.state;
    this.outgoing.get(peer)?.end.close();
    if (!this.outgoing.delete(peer)) return;
    if (role.kind === "primary") this.tell({ kind: "standbyLost", node: peer });
  }

  #closeOutgoing(all: boolean): void {
    if (!all) return;
    for (const { end } of this.outgoing.values()) end.close();
    this.outgoing.clear();
  }

  #closeIncoming(): void {
    this.incoming?.close();
    this.incoming = undefined;
  }

  #after(delayMs: number, work: () => void): void {
    this.world.agenda.after(delayMs, () => this.run(work));
  }

  #every(periodMs: number, work: () => void): void {
    const again = () => {
      if (this.dead) return;
      this.run(work);
      this.world.agenda.after(periodMs * this.world.random.between(0.9, 1.1), again);
    };
    this.world.agenda.after(this.world.random.between(0, periodMs), again);
  }
}

/** It goes on from an older checkpoint because it was told so. */
function isOlder({ role }: ViewState): boolean {
  return role.kind === "standby" && role.promotion?.epoch !== undefined && role.promotion.epoch !== role.holds?.epoch;
}

/** It knows of the crash. */
function isCrashed({ role }: ViewState): boolean {
  return (role.kind === "primary" || role.kind === "standby") && role.crashed !== false;
}
