/**
 * One application on one node: plays the role that the view machine gives it. Its parts do the machine's actions; see
 * primary-role.ts, standby-role.ts, stream-server.ts, and requests.ts for what the agent asks.
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { armFailure, armHalt, placeReached } from "../checkpoint/phases.ts";
import { Identity } from "../cluster/identity.ts";
import { openStore } from "../cluster/open.ts";
import type { ApplicationSpec } from "../cluster/spec.ts";
import type { ClusterStore } from "../cluster/store.ts";
import { describeView, type ViewAction, type ViewEvent } from "../cluster/view.ts";
import { showName } from "../files/names.ts";
import { toFailure } from "../kernel/failure.ts";
import type { InstanceConfig, InstanceStatus } from "./control.ts";
import { PrimaryRole } from "./primary-role.ts";
import type { PrimaryWatch } from "./primary-watch.ts";
import { Requests } from "./requests.ts";
import { ControlServer } from "./server.ts";
import { filesDirectoryOf, type InstanceShell } from "./shell.ts";
import { SpecificationWatch } from "./specification.ts";
import type { Living } from "./standby.ts";
import { TICK_MS } from "./standby-link.ts";
import { StandbyRole } from "./standby-role.ts";
import { StreamServer } from "./stream-server.ts";
import { SwitchSteps } from "./switch-steps.ts";
import { TooFewWatch } from "./too-few.ts";
import { holdBelow, ViewShell } from "./view-shell.ts";
import { Waiters } from "./waiters.ts";

/** A clone on its way to life. */
interface Rising {
  term: number;
  epoch: number;
  steps: SwitchSteps;
  begun: number;
  loss: PrimaryWatch["loss"];
}

export class Instance {
  readonly #config: InstanceConfig;
  readonly #store: ClusterStore;
  readonly #view: ViewShell;
  readonly #primary: PrimaryRole;
  readonly #standby: StandbyRole;
  readonly #streams: StreamServer;
  readonly #waiters = new Waiters();
  readonly #tooFew = new TooFewWatch();
  readonly #requests: Requests;
  readonly #specification: SpecificationWatch;
  readonly #control: ControlServer;
  #ended: string | undefined;
  #failure: Error | undefined;
  #lastState = "";

  private constructor(config: InstanceConfig, store: ClusterStore, identity: Identity) {
    this.#config = config;
    this.#store = store;
    const { node, application } = config;
    const act = (action: ViewAction) => this.#act(action);
    this.#view = new ViewShell(node, application, store, act, () => this.#changed());
    const shell: InstanceShell = {
      config,
      view: this.#view,
      restarts: { history: [] },
      rising: (node, term) => this.#standby.watch.rising(node, term),
      note: (kind, message, details) => this.#note(kind, message, details),
    };
    this.#primary = new PrimaryRole(shell);
    this.#standby = new StandbyRole(shell, store);
    this.#streams = new StreamServer(shell, identity);
    this.#specification = new SpecificationWatch(store, config.application, (spec) => this.#configure(spec));
    const parts = {
      specification: this.#specification,
      primary: this.#primary,
      standby: this.#standby,
      streams: this.#streams,
      waiters: this.#waiters,
      identity,
    };
    const requests = new Requests(shell, parts);
    this.#requests = requests;
    /** While a clone comes to life it is neither one role's nor the other's: who wants more than to know of it waits. */
    const settled =
      <P, R>(answer: (params: P) => Promise<R>) =>
      async (params: P) => {
        await this.#view.settled();
        return answer(params);
      };
    this.#control = new ControlServer(config.controlSocket, {
      status: async () => this.#statusOrFailure(),
      checkpoint: settled(() => requests.checkpointNow()),
      checkpoints: settled(async () => requests.checkpoints()),
      tree: settled(async () => this.#primary.need().tree()),
      addStandby: settled((params) => requests.addStandby(params)),
      removeStandby: settled(async ({ node }) => {
        this.#primary.need().removeStandby(node, "removed by the operator");
        return {};
      }),
      switch: settled(({ to }) => requests.switch(to)),
      promote: settled((params) => requests.promote(params)),
      fail: async ({ phases }) => {
        for (const phase of phases)
          armFailure(phase, () => this.#note("failure-injected", `The phase "${phase}" fails`, { phase }));
        return {};
      },
      halt: async ({ place }) => {
        armHalt(place);
        return {};
      },
      stop: settled(() => this.#stop()),
    });
  }

  static async begin(config: InstanceConfig): Promise<Instance> {
    mkdirSync(config.stateDirectory, { recursive: true });
    rmSync(`${config.stateDirectory}/failure.json`, { force: true });
    const identity = await Identity.open(config.tls);
    const instance = new Instance(config, await openStore(config.store, identity), identity);
    await instance.#streams.listen();
    await instance.#control.listen();
    setInterval(() => instance.#standby.tick(), TICK_MS);
    instance.#view.tell(instance.#beginning());
    instance.#view.watch();
    return instance;
  }

  #beginning(): ViewEvent {
    if (this.#config.begin === "standby") return { kind: "begin", as: "standby" };
    // The agent has written the record with this node as its first primary: the application is attached to before it runs.
    const { createdAt } = this.#config.application;
    const epoch = this.#config.begin === "start" ? 0 : Math.max(1, Date.now() - Date.parse(createdAt));
    return {
      kind: "begin",
      as: "attach",
      term: this.#config.begin === "start" ? 1 : this.#primary.attachTerm(),
      epoch,
    };
  }

  #act(action: ViewAction): void | Promise<void> {
    try {
      const rest = this.#doAction(action);
      if (rest) return rest.catch((error) => this.#fail(error, action.kind)).then(() => this.#changed());
    } catch (error) {
      this.#fail(error as Error, action.kind);
    }
    this.#changed();
  }

  /** A promise where it takes its time: until then nothing else is done. */
  #doAction(action: ViewAction): void | Promise<void> {
    switch (action.kind) {
      case "compareAndSwap":
      case "readView":
        return;
      case "startApplication":
      case "attached":
        this.#primary.begin(action.term);
        return;
      case "startAgain":
        this.#primary.startAgain(action.term, action.epoch);
        return;
      case "goLive":
        return this.#goLive(action.term, action.checkpoint.epoch);
      case "passThrough":
        this.#primary.current?.passThrough(action.on);
        return;
      case "release":
        this.#primary.current?.release(action.epoch);
        return;
      case "finalCheckpoint":
        void this.#primary.current?.finalCheckpoint();
        return;
      case "standAside":
        this.#primary.standAside();
        return;
      case "tellGoLive":
        this.#primary.current?.links
          .get(action.to)
          ?.link.send({ type: "go-live", term: action.term, epoch: action.epoch });
        return;
      case "resume":
        this.#primary.resume(action.term, action.reason);
        return;
      case "endInstance":
        this.#standby.inherit(this.#primary.leave(action.reason));
        return;
      case "synchronise":
        this.#primary.synchronise(action.node, action.stream);
        return;
      case "acceptStream": {
        const asking = this.#streams.take();
        if (asking) this.#standby.accept(asking);
        return;
      }
      case "refuseStream":
        this.#streams.refuse();
        return;
      case "acknowledge":
        placeReached("acknowledge");
        this.#standby.acknowledge(action.term, action.epoch);
        return;
      case "seal":
        this.#standby.seal();
        return;
      case "follow":
        this.#standby.watch.follow(action.primary, action.term);
        return;
      case "stateLost":
        this.#note("state-lost", `The record names this node primary of term ${action.term}, but it has no state`);
        return;
      case "finished":
        this.#finish(action.reason);
        return;
      case "refused":
        this.#requests.refused(action);
        return;
      default:
        action satisfies never;
    }
  }

  /** The owner's wishes have changed: what goes by them reads the configuration, or is told here. */
  #configure(application: ApplicationSpec): void {
    this.#config.application = application;
    this.#primary.current?.configure(application);
    this.#view.tell({ kind: "holdBelow", count: holdBelow(application) });
    this.#note("configured", `"${application.name}" goes by a changed specification`);
    this.#changed();
  }

  #goLive(term: number, epoch: number): void | Promise<void> {
    const rising: Rising = {
      term,
      epoch,
      steps: new SwitchSteps(),
      begun: performance.now(),
      loss: this.#standby.watch.loss,
    };
    const living = this.#standby.live(term, epoch);
    if (living instanceof Promise) return living.then((then) => this.#live(rising, then));
    this.#live(rising, living);
  }

  #live({ term, epoch, steps, begun, loss }: Rising, living: Living | undefined): void {
    steps.done("clone");
    if (!living) {
      this.#view.tell({ kind: "goLiveFailed" });
      return;
    }
    const { application } = this.#config;
    const { misses, ...parts } = living;
    this.#primary.become({ application, filesDirectory: filesDirectoryOf(this.#config), ...parts, term });
    steps.done("role");
    living.tracees.liveOn();
    living.tracees.release();
    // What hangs because somebody has stopped it would hang here as well.
    if (this.#standby.takeRestart()) living.tracees.wakeHalted();
    steps.done("threads");
    living.port.announce();
    living.stage.liveOn();
    this.#view.tell({ kind: "wentLive" });
    living.port.tuneRoutes(false);
    for (const { path, inode } of misses)
      this.#note(
        "inode-number-missed",
        `"${showName(path)}" has another inode number than ${inode}, as it had before`,
        {
          path: showName(path),
          inode,
        },
      );
    const ms = Math.round(performance.now() - begun);
    this.#note("went-live", `Runs here from checkpoint ${epoch}, term ${term} (${ms} ms)`, {
      term,
      epoch,
      ms,
      steps: { ...(loss && { missed: loss.silenceMs, elected: begun - loss.at }), ...steps.ms },
    });
  }

  #finish(reason: string): void {
    if (this.#ended !== undefined) return;
    this.#ended = reason;
    this.#primary.end(reason);
    this.#standby.giveUp();
    setTimeout(() => void this.#exit(0), 0);
  }

  async #exit(code: number): Promise<void> {
    this.#view.close();
    this.#specification.close();
    await this.#control.close();
    this.#streams.close();
    this.#store.close();
    process.exit(code);
  }

  /** An action that failed: the application must not be left half-way. */
  #fail(error: Error, what: string): void {
    this.#failure = error;
    this.#note("failed", `${what}: ${error.message}`);
    writeFileSync(`${this.#config.stateDirectory}/failure.json`, JSON.stringify(toFailure(error)));
    if (what !== "startApplication" && what !== "attached") throw error;
    setTimeout(() => void this.#exit(1), 200);
  }

  #statusOrFailure(): InstanceStatus {
    if (this.#failure) throw this.#failure;
    return this.#requests.status();
  }

  /** Ends the application for everybody, or only this clone. */
  async #stop(): Promise<Record<string, never>> {
    if (this.#primary.current)
      this.#view.tell({ kind: "end", reason: "Stopped by the operator", at: new Date().toISOString() });
    else this.#finish("given up by the operator");
    return {};
  }

  #changed(): void {
    const { role, state, term } = describeView(this.#view.state);
    const now = `${role} ${state} ${term}`;
    if (now !== this.#lastState) {
      this.#lastState = now;
      this.#control.emit("changed", { role, state, term });
    }
    const view = role === "primary" ? this.#view.state.confirmed?.view : undefined;
    const note = this.#tooFew.look(view, this.#config.application);
    if (note) this.#note(note.kind, note.message);
    this.#waiters.look(() => this.#requests.status());
  }

  #note(kind: string, message: string, details?: Record<string, unknown>): void {
    const at = new Date().toISOString();
    process.stderr.write(`${at} ${kind}: ${message}\n`);
    this.#control.emit("note", { at, kind, message, ...(details ? { details } : {}) });
  }
}
