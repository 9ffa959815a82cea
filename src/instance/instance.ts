/**
 * One application on one node: plays the role that the view machine gives it. The shell that does the machine's actions,
 * listens for a primary's stream, and answers the agent.
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server, type TLSSocket } from "node:tls";
import { type DetectorState, heartbeat, startDetector, tick } from "../cluster/detector.ts";
import { openStore } from "../cluster/open.ts";
import type { View } from "../cluster/spec.ts";
import { type ClusterStore, storeKeys } from "../cluster/store.ts";
import { type MutualTlsOptions, peerName, tlsOptions } from "../cluster/tls.ts";
import { describeView, type ViewAction, type ViewEvent } from "../cluster/view.ts";
import { OperatingError, toFailure } from "../kernel/failure.ts";
import { resume } from "../kernel/trace.ts";
import { OutputHold } from "../network/hold.ts";
import { ApplicationInterface } from "../network/interface.ts";
import { type Hello, type Message, STREAM_VERSION } from "../replication/frames.ts";
import { LIMITS } from "../replication/limits.ts";
import { Link } from "../replication/link.ts";
import { Stage } from "../stage/stage.ts";
import { startProgram } from "../stage/start.ts";
import { Tracees } from "../tree/tracees.ts";
import type { CheckpointSummary, InstanceConfig, InstanceStatus } from "./control.ts";
import { Figures } from "./figures.ts";
import { readPidFile, removePidFile, startTicks, writePidFile } from "./pid-file.ts";
import { Primary, type PrimaryParts } from "./primary.ts";
import { ControlServer } from "./server.ts";
import { Clone, createPort, type Living } from "./standby.ts";
import { connectStandby, TICK_MS } from "./standby-link.ts";
import { ViewShell } from "./view-shell.ts";

/** How often a suspicion is repeated while it lasts. */
const SUSPECT_AGAIN_MS = 100;
const SWITCH_TIMEOUT_MS = 15_000;

type Waiter = { until: (status: InstanceStatus) => boolean; resolve: () => void; reject: (error: Error) => void };

export class Instance {
  readonly #config: InstanceConfig;
  readonly #store: ClusterStore;
  readonly #tls: MutualTlsOptions;
  readonly #view: ViewShell;
  readonly #control: ControlServer;
  #server: Server | undefined;
  #streamPort = 0;
  #primary: Primary | undefined;
  #clone: Clone | undefined;
  /** The stream from the primary, once accepted. */
  #upstream: Link | undefined;
  /** A stream whose acceptance the view machine has to decide. */
  #asking: { link: Link; hello: Hello } | undefined;
  #detector: DetectorState | undefined;
  /** Term whose primary is watched over; 0: nobody. */
  #watched = 0;
  #suspectedAt = 0;
  #ended: string | undefined;
  /** When the application was known to live elsewhere; 0: not yet. */
  #endedAt = 0;
  #failure: Error | undefined;
  readonly #waiters = new Set<Waiter>();
  #lastState = "";

  private constructor(config: InstanceConfig, store: ClusterStore, tls: MutualTlsOptions) {
    this.#config = config;
    this.#store = store;
    this.#tls = tls;
    this.#view = new ViewShell(config.node, config.application.name, store, (action) => this.#act(action));
    this.#control = new ControlServer(config.controlSocket, {
      status: async () => this.#statusOrFailure(),
      checkpoint: async () => this.#checkpointNow(),
      checkpoints: async () => this.#checkpoints(),
      tree: async () => this.#needPrimary().tree(),
      addStandby: (params) => this.#addStandby(params),
      removeStandby: async ({ node }) => {
        this.#needPrimary().removeStandby(node, "removed by the operator");
        return {};
      },
      switch: ({ to }) => this.#switch(to),
      promote: (params) => this.#promote(params),
      stop: () => this.#stop(),
    });
  }

  static async begin(config: InstanceConfig): Promise<Instance> {
    mkdirSync(config.stateDirectory, { recursive: true });
    rmSync(`${config.stateDirectory}/failure.json`, { force: true });
    const instance = new Instance(config, await openStore(config.store, config.tls), await tlsOptions(config.tls));
    await instance.#listen();
    await instance.#control.listen();
    setInterval(() => instance.#tick(), TICK_MS);
    instance.#view.tell(instance.#beginning());
    instance.#view.watch();
    return instance;
  }

  #beginning(): ViewEvent {
    if (this.#config.begin === "standby") return { kind: "begin", as: "standby" };
    // The agent has written the record with this node as its first primary: the application is attached to before it runs.
    const { createdAt } = this.#config.application;
    const epoch = this.#config.begin === "start" ? 0 : Math.max(1, Date.now() - Date.parse(createdAt));
    return { kind: "begin", as: "attach", term: this.#config.begin === "start" ? 1 : this.#attachTerm(), epoch };
  }

  #attachTerm(): number {
    return readPidFile(this.#config.runDirectory, this.#config.application.name)?.term ?? 1;
  }

  // --- What the view machine wants ---

  #act(action: ViewAction): void {
    try {
      this.#doAction(action);
    } catch (error) {
      this.#fail(error as Error, action.kind);
    }
    this.#changed();
  }

  #doAction(action: ViewAction): void {
    switch (action.kind) {
      case "compareAndSwap":
      case "readView":
        return;
      case "startApplication":
      case "attached":
        this.#begin(action.term);
        return;
      case "goLive":
        this.#goLive(action.term, action.checkpoint.epoch);
        return;
      case "passThrough":
        this.#primary?.passThrough(action.on);
        return;
      case "release":
        this.#primary?.release(action.epoch);
        return;
      case "finalCheckpoint":
        void this.#primary?.finalCheckpoint();
        return;
      case "standAside":
        this.#standAside();
        return;
      case "tellGoLive":
        this.#primary?.links.get(action.to)?.link.send({ type: "go-live", term: action.term, epoch: action.epoch });
        return;
      case "resume":
        this.#resume(action.term, action.reason);
        return;
      case "endInstance":
        this.#endPrimary(action.reason);
        return;
      case "synchronise":
        this.#synchronise(action.node, action.stream);
        return;
      case "acceptStream":
        this.#acceptStream();
        return;
      case "refuseStream":
        this.#refuseStream();
        return;
      case "acknowledge":
        this.#upstream?.send({ type: "acknowledged", term: action.term, epoch: action.epoch });
        return;
      case "seal":
        this.#upstream?.close();
        this.#upstream = undefined;
        return;
      case "follow":
        this.#watchOver(action.term);
        return;
      case "stateLost":
        this.#note("state-lost", `The record names this node primary of term ${action.term}, but it has no state`);
        return;
      case "finished":
        this.#finish(action.reason);
        return;
      case "refused":
        this.#refused(action);
        return;
      default:
        action satisfies never;
    }
  }

  #begin(term: number): void {
    if (this.#config.begin === "start") this.#start(term);
    else this.#attach(term);
  }

  #start(term: number): void {
    const { application, cgroup } = this.#config;
    const stage = Stage.create({
      name: application.name,
      cgroup,
      filesDirectory: this.#filesDirectory,
      clockOffsets: { monotonic: 0n, boottime: 0n },
      exitKill: false,
    });
    try {
      const port = createPort(this.#config, stage, false);
      const hold = OutputHold.open(port);
      const tracees = new Tracees(stage.init, false);
      const pid = startProgram(stage, { ...application, logPath: this.#logPath });
      tracees.add(pid);
      this.#become({ application, filesDirectory: this.#filesDirectory, stage, tracees, port, hold, term, epoch: 0 });
      port.setPort("forwarding");
      port.announce();
      resume(pid);
    } catch (error) {
      stage.destroy();
      throw error;
    }
  }

  get #filesDirectory(): string {
    return `${this.#config.stateDirectory}/files`;
  }

  get #logPath(): string {
    return `/var/log/understudy/${this.#config.application.name}.log`;
  }

  #attach(term: number): void {
    const { application, cgroup, runDirectory } = this.#config;
    const known = readPidFile(runDirectory, application.name);
    if (!known || startTicks(known.initPid) !== known.initStartTicks)
      throw new OperatingError("application-gone", `Application "${application.name}" does not run here any more`);
    const stage = Stage.attach(known.initPid, cgroup);
    const tracees = new Tracees(stage.init, false);
    tracees.attachAll();
    const options = {
      application: application.name,
      initPid: stage.init,
      bridge: this.#config.bridge,
      address: application.address,
    };
    const port = ApplicationInterface.adopt(options);
    if (!port) throw new OperatingError("application-gone", `The network of application "${application.name}" is gone`);
    const hold = OutputHold.open(port);
    const epoch = Math.max(1, Date.now() - Date.parse(application.createdAt));
    this.#become({ application, filesDirectory: this.#filesDirectory, stage, tracees, port, hold, term, epoch });
    port.setPort("forwarding");
    tracees.drain();
    this.#note("attached", `Attached again to the running application (term ${term})`);
  }

  #become(parts: PrimaryParts): void {
    const { tracees } = parts;
    tracees.onEnding = (ending) => {
      if (tracees.processes.size > 0) return;
      const how = ending.signal ? `ended by signal ${ending.signal}` : `exited with code ${ending.code}`;
      this.#view.tell({ kind: "end", reason: `The program ${how}`, at: new Date().toISOString() });
    };
    tracees.onInitEnd = () =>
      this.#view.tell({ kind: "end", reason: "The application's init has ended", at: new Date().toISOString() });
    process.removeAllListeners("SIGCHLD");
    process.on("SIGCHLD", () => tracees.drain());
    this.#primary = new Primary(parts, {
      tell: (event) => this.#view.tell(event),
      note: (kind, message, details) => this.#note(kind, message, details),
    });
    this.#writePidFile(parts, parts.term);
  }

  /** How a successor of this process finds the application. */
  #writePidFile({ stage, port }: PrimaryParts, term: number): void {
    const { runDirectory, application } = this.#config;
    const initStartTicks = startTicks(stage.init);
    if (initStartTicks === undefined) return;
    writePidFile(runDirectory, application.name, { initPid: stage.init, initStartTicks, term, veth: port.nodeEnd });
  }

  #goLive(term: number, epoch: number): void {
    const clone = this.#clone;
    if (!clone) {
      this.#view.tell({ kind: "goLiveFailed" });
      return;
    }
    const begun = performance.now();
    this.#upstream?.close();
    this.#upstream = undefined;
    this.#watched = 0;
    let living: Living;
    try {
      clone.takeAddress();
      living = clone.live(epoch);
    } catch (error) {
      this.#note("go-live-failed", `The clone could not be brought to life: ${(error as Error).message}`);
      this.#clone = undefined;
      clone.destroy();
      this.#view.tell({ kind: "goLiveFailed" });
      return;
    }
    this.#clone = undefined;
    const { application } = this.#config;
    this.#become({ application, filesDirectory: this.#filesDirectory, ...living, term });
    living.tracees.liveOn();
    living.tracees.release();
    living.port.announce();
    living.stage.liveOn();
    this.#view.tell({ kind: "wentLive" });
    living.port.tuneRoutes(false);
    const ms = Math.round(performance.now() - begun);
    this.#note("went-live", `Runs here from checkpoint ${epoch}, term ${term} (${ms} ms)`, { term, epoch, ms });
  }

  #resume(term: number, reason: string): void {
    const primary = this.#primary;
    if (!primary) return;
    primary.parts.port.setPort("forwarding");
    primary.resume(term);
    this.#writePidFile(primary.parts, term);
    this.#note("switch-abandoned", `The application goes on here: ${reason}`);
  }

  #synchronise(node: string, stream: number): void {
    const { confirmed } = this.#view.state;
    const primary = this.#primary;
    if (!primary || !confirmed?.view) return;
    const { application, node: own } = this.#config;
    const { view, revision } = confirmed;
    void primary.synchronise(node, {
      application: application.name,
      node: own,
      term: primary.term,
      view,
      revision,
      stream,
    });
  }

  /** Another node has the term but does not live yet: silence here, and everything kept. */
  #standAside(): void {
    if (!this.#primary && this.#config.begin === "attach") this.#attach(this.#attachTerm());
    this.#primary?.parts.port.setPort("blocked");
    this.#primary?.standAside();
  }

  /** Silence first, then the application's end here. */
  #endPrimary(reason: string): void {
    const primary = this.#primary;
    if (!primary) return;
    this.#primary = undefined;
    this.#endedAt = performance.now();
    primary.parts.port.setPort("blocked");
    primary.close(reason);
    this.#dismantle(primary.parts);
    this.#note("instance-ended", `The application does not run here any more: ${reason}`);
  }

  #dismantle({ stage, port, hold, tracees }: PrimaryParts): void {
    tracees.onEnding = () => {};
    tracees.onInitEnd = () => {};
    process.removeAllListeners("SIGCHLD");
    hold.remove();
    stage.destroy();
    port.remove();
    removePidFile(this.#config.runDirectory, this.#config.application.name);
    rmSync(this.#filesDirectory, { recursive: true, force: true });
  }

  #finish(reason: string): void {
    if (this.#ended !== undefined) return;
    this.#ended = reason;
    this.#endPrimary(reason);
    this.#giveUpClone();
    setTimeout(() => void this.#exit(0), 0);
  }

  async #exit(code: number): Promise<void> {
    this.#view.close();
    await this.#control.close();
    this.#server?.close();
    this.#store.close();
    process.exit(code);
  }

  #giveUpClone(): void {
    this.#upstream?.close();
    this.#upstream = undefined;
    const clone = this.#clone;
    this.#clone = undefined;
    if (!clone) return;
    clone.destroy();
    rmSync(this.#filesDirectory, { recursive: true, force: true });
  }

  /** An action that failed: the application must not be left half-way. */
  #fail(error: Error, what: string): void {
    this.#failure = error;
    this.#note("failed", `${what}: ${error.message}`);
    writeFileSync(`${this.#config.stateDirectory}/failure.json`, JSON.stringify(toFailure(error)));
    if (what !== "startApplication" && what !== "attached") throw error;
    setTimeout(() => void this.#exit(1), 200);
  }

  // --- The stream of a primary ---

  #listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      const server = createServer({ ...this.#tls }, (socket) => this.#accept(socket));
      server.on("tlsClientError", (error, socket) => {
        socket.destroy();
        this.#note(
          "stream-refused",
          `A connection without a certificate of this cluster was refused: ${error.message}`,
        );
      });
      server.once("error", reject);
      server.listen(0, this.#config.listenHost, () => {
        this.#streamPort = (server.address() as { port: number }).port;
        resolve();
      });
      this.#server = server;
    });
  }

  #accept(socket: TLSSocket): void {
    const peer = peerName(socket);
    if (!peer) {
      socket.destroy();
      return;
    }
    const link = new Link(socket, peer);
    const timer = setTimeout(() => link.close(), LIMITS.helloMs);
    link.onMessage = (message) => {
      clearTimeout(timer);
      if (message.type === "hello") this.#greeted(link, message.hello);
      else link.close();
    };
    link.onClose = () => clearTimeout(timer);
  }

  #greeted(link: Link, hello: Hello): void {
    const refuse = (reason: string) => {
      link.send({ type: "refused", reason });
      link.goodbye(reason);
    };
    const reason = this.#reasonToRefuse(link, hello);
    if (reason !== undefined) {
      refuse(reason);
      return;
    }
    this.#asking = { link, hello };
    this.#view.tell({ kind: "viewSeen", view: hello.view, revision: hello.revision });
    this.#view.tell({ kind: "syncStarted", term: hello.term, revision: hello.revision, stream: hello.stream });
    if (this.#asking) {
      this.#asking = undefined;
      refuse("this instance is no standby");
    }
  }

  #reasonToRefuse(link: Link, hello: Hello): string | undefined {
    const { name } = this.#config.application;
    if (hello.version !== STREAM_VERSION) return `stream version ${hello.version}, known is ${STREAM_VERSION}`;
    if (hello.application !== name) return `application "${hello.application}" is not cloned here`;
    if (hello.node !== link.peer) return `node "${hello.node}" has the certificate of "${link.peer}"`;
    return this.#asking ? "another stream is being accepted" : undefined;
  }

  #acceptStream(): void {
    const asking = this.#asking;
    if (!asking) return;
    this.#asking = undefined;
    this.#giveUpClone();
    const { link, hello } = asking;
    try {
      this.#clone = Clone.create(this.#config, hello);
    } catch (error) {
      this.#note("clone-failed", `No clone could be made: ${(error as Error).message}`);
      link.send({ type: "refused", reason: (error as Error).message });
      link.goodbye("refused");
      return;
    }
    this.#upstream = link;
    link.onMessage = (message) => this.#receive(link, hello.term, message);
    link.onClose = (error) => this.#upstreamLost(link, error);
    link.send({ type: "accepted" });
    this.#detector = startDetector(performance.now());
    this.#watched = hello.term;
  }

  #refuseStream(): void {
    const asking = this.#asking;
    if (!asking) return;
    this.#asking = undefined;
    const { confirmed } = this.#view.state;
    const view = confirmed?.view;
    asking.link.send({
      type: "refused",
      reason: "a higher term is known here",
      ...(view ? { view, revision: confirmed!.revision } : {}),
    });
    asking.link.goodbye("refused");
  }

  #receive(link: Link, term: number, message: Message): void {
    if (this.#upstream !== link) return;
    if (this.#detector) this.#detector = heartbeat(this.#detector, performance.now());
    switch (message.type) {
      case "operation":
        this.#orGiveUp(() => this.#clone!.operation(message.operation));
        return;
      case "end":
        if (!this.#orGiveUp(() => this.#clone!.end(message.end))) return;
        this.#view.tell({ kind: "checkpointApplied", term, epoch: message.end.epoch });
        setImmediate(() => this.#applyOld());
        return;
      case "go-live":
        void this.#readView();
        return;
      case "goodbye":
        this.#upstreamClosed(link, message.reason, false);
        return;
    }
  }

  #applyOld(): void {
    this.#orGiveUp(() => this.#clone?.applyOld());
  }

  /** What fails here says nothing against the primary: the clone is given up, and nobody is suspected. */
  #orGiveUp(work: () => void): boolean {
    try {
      work();
      return true;
    } catch (error) {
      this.#cloneLost(error as Error);
      return false;
    }
  }

  #cloneLost(error: Error): void {
    this.#note("clone-lost", `The clone is given up: ${error.message}`);
    this.#upstream?.goodbye(error.message);
    this.#giveUpClone();
    this.#view.tell({ kind: "cloneLost" });
  }

  #upstreamLost(link: Link, error?: Error): void {
    if (this.#upstream !== link) return;
    if (error instanceof OperatingError && error.code === "stream-damaged") this.#cloneLost(error);
    else this.#upstreamClosed(link, error?.message ?? "it was closed", true);
  }

  /** A stream that ends without a goodbye means a primary that died. */
  #upstreamClosed(link: Link, reason: string, suspicious: boolean): void {
    this.#upstream = undefined;
    link.close();
    this.#note("stream-closed", `The primary's stream ended: ${reason}`);
    if (suspicious) this.#suspect();
  }

  /** The store's word, at once rather than at its next poll. */
  async #readView(): Promise<void> {
    try {
      const found = await this.#store.get<View>(storeKeys.view(this.#config.application.name));
      this.#view.tell({ kind: "viewSeen", view: found?.value, revision: found?.revision ?? 0 });
    } catch {
      // The watch brings it when the store answers again.
    }
  }

  #watchOver(term: number): void {
    this.#watched = term;
    this.#detector = startDetector(performance.now());
  }

  #suspect(): void {
    this.#suspectedAt = performance.now();
    if (this.#watched) this.#view.tell({ kind: "suspected", term: this.#watched });
  }

  #tick(): void {
    this.#upstream?.send({ type: "heartbeat" });
    if (!this.#watched || !this.#detector) return;
    const now = performance.now();
    const { state, suspected } = tick(this.#detector, now);
    this.#detector = state;
    if (suspected && now - this.#suspectedAt >= SUSPECT_AGAIN_MS) this.#suspect();
  }

  // --- What the agent asks ---

  #statusOrFailure(): InstanceStatus {
    if (this.#failure) throw this.#failure;
    return this.#status();
  }

  #status(): InstanceStatus {
    const { role, state, term, inSync } = describeView(this.#view.state);
    const primary = this.#primary;
    const { application, node, listenHost } = this.#config;
    const links = primary ? [...primary.links.values()] : [];
    const lost = primary ? new Set([...primary.lost, ...inSync.filter((other) => !primary.links.has(other))]) : [];
    return {
      application: application.name,
      node,
      role,
      state,
      term,
      epoch: primary?.epoch ?? this.#clone?.newest?.epoch ?? 0,
      initPid: primary?.parts.stage.init ?? this.#clone?.stage.init ?? 0,
      instancePid: process.pid,
      stream: { host: listenHost, port: this.#streamPort },
      standbys: [
        ...links.map((link) => link.status(inSync.includes(link.node) && link.phase === "following")),
        ...[...lost].map((other) => ({ node: other, state: "lost" as const })),
      ],
      processes: primary?.parts.tracees.processes.size ?? this.#clone?.processes ?? 0,
      threads: primary?.parts.tracees.threadCount ?? 0,
      ...(primary?.unprotectable ? { unprotectable: primary.unprotectable } : {}),
      figures: (primary?.figures ?? this.#noFigures).summary(),
    };
  }

  readonly #noFigures = new Figures();

  #needPrimary(): Primary {
    if (this.#primary) return this.#primary;
    throw new OperatingError(
      "not-primary",
      `Node "${this.#config.node}" does not run "${this.#config.application.name}"`,
    );
  }

  async #checkpointNow(): Promise<CheckpointSummary> {
    const { epoch, term, at, stopUs, pages, bytes } = await this.#needPrimary().checkpointNow();
    return { epoch, term, at, stopUs, pages, bytes };
  }

  #checkpoints(): CheckpointSummary[] {
    return this.#primary?.figures.recent() ?? this.#clone?.checkpoints() ?? [];
  }

  async #addStandby(target: { node: string; host: string; port: number }): Promise<Record<string, never>> {
    const primary = this.#needPrimary();
    const standby = await connectStandby(target, this.#tls);
    if (this.#primary !== primary) {
      standby.link.close();
      throw new OperatingError("not-primary", "The application has moved meanwhile");
    }
    primary.addStandby(standby);
    return {};
  }

  async #switch(to: string): Promise<{ term: number; primary: string; stopMs: number }> {
    this.#needPrimary();
    const begun = performance.now();
    const { term } = this.#status();
    // Done when the other node lives and counts on nobody here any more; until then it may still be taken back.
    const done = this.#waitUntil((status) => status.state !== "switching");
    this.#view.tell({ kind: "handOver", to });
    await done;
    const view = this.#view.state.confirmed?.view;
    if (view && view.term > term && view.primary === to)
      return { term: view.term, primary: to, stopMs: Math.round((this.#endedAt || performance.now()) - begun) };
    const where = view === undefined ? "" : `; "${this.#config.application.name}" runs on "${view.primary}"`;
    throw new OperatingError("switch-failed", `The switch to "${to}" was given up${where}`, {
      remedy: `See why: understudy events --application ${this.#config.application.name}`,
      details: { to },
    });
  }

  async #promote(params: { checkpoint?: number; force: boolean }): Promise<{ term: number }> {
    if (this.#primary)
      throw new OperatingError("already-primary", `Node "${this.#config.node}" runs the application already`);
    const { checkpoint, force } = params;
    const done = this.#waitUntil((status) => status.role === "primary" && status.state !== "going-live");
    this.#view.tell({ kind: "promote", force, ...(checkpoint === undefined ? {} : { epoch: checkpoint }) });
    await done;
    return { term: this.#status().term };
  }

  /** Ends the application for everybody, or only this clone. */
  async #stop(): Promise<Record<string, never>> {
    if (this.#primary)
      this.#view.tell({ kind: "end", reason: "Stopped by the operator", at: new Date().toISOString() });
    else this.#finish("given up by the operator");
    return {};
  }

  #refused(action: { request: string; reason: string }): void {
    const error = new OperatingError(action.reason, `The request is refused: ${action.reason}`, {
      details: { request: action.request },
    });
    if (action.request === "start") throw error;
    for (const waiter of [...this.#waiters]) waiter.reject(error);
  }

  #waitUntil(until: Waiter["until"]): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiters.delete(waiter);
        reject(new OperatingError("timeout", `Not done within ${SWITCH_TIMEOUT_MS / 1000} s`));
      }, SWITCH_TIMEOUT_MS);
      const end = (then: () => void) => {
        clearTimeout(timer);
        this.#waiters.delete(waiter);
        then();
      };
      const waiter: Waiter = { until, resolve: () => end(resolve), reject: (error) => end(() => reject(error)) };
      // Looked at after the next change, and a refusal may come at once.
      this.#waiters.add(waiter);
    });
  }

  #changed(): void {
    const { role, state, term } = describeView(this.#view.state);
    const now = `${role} ${state} ${term}`;
    if (now !== this.#lastState) {
      this.#lastState = now;
      this.#control.emit("changed", { role, state, term });
    }
    if (this.#waiters.size === 0) return;
    setImmediate(() => {
      for (const waiter of [...this.#waiters]) if (waiter.until(this.#status())) waiter.resolve();
    });
  }

  #note(kind: string, message: string, details?: Record<string, unknown>): void {
    const at = new Date().toISOString();
    process.stderr.write(`${at} ${kind}: ${message}\n`);
    this.#control.emit("note", { at, kind, message, ...(details ? { details } : {}) });
  }
}
