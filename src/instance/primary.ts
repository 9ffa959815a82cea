/**
 * The primary role: the application runs here; its checkpoints go to the standbys; its output waits for them.
 * One checkpoint is under way at a time; the loop at the bottom says when the next one begins.
 */
import { dirname } from "node:path";
import { Capture } from "../checkpoint/capture.ts";
import type { CheckpointEnd, Operation } from "../checkpoint/operations.ts";
import { dueAt, type PeriodOptions, type PeriodState, periodDefaults } from "../checkpoint/period.ts";
import { phaseEnd } from "../checkpoint/phases.ts";
import type { ProcessCapture } from "../checkpoint/process-capture.ts";
import type { ApplicationSpec } from "../cluster/spec.ts";
import type { ViewEvent } from "../cluster/view.ts";
import { FileCapture, type FileNewcomer } from "../files/capture.ts";
import { Alarm } from "../kernel/alarm.ts";
import { type Failure, OperatingError, toFailure } from "../kernel/failure.ts";
import type { OutputHold } from "../network/hold.ts";
import type { ApplicationInterface } from "../network/interface.ts";
import type { Message } from "../replication/frames.ts";
import { acknowledged, type Debt, judge, SlowPauses } from "../replication/pace.ts";
import { RateLimit } from "../replication/rate-limit.ts";
import {
  markTcpHandshakes,
  resetTcp,
  watchClosedTcp,
  watchTcpHandshakes,
  watchTcpOptions,
} from "../resources/tcp/index.ts";
import { layerPaths } from "../stage/root.ts";
import type { Stage } from "../stage/stage.ts";
import { ProgramFiles } from "../tree/files.ts";
import { type Graph, graphOf } from "../tree/graph.ts";
import type { Tracees } from "../tree/tracees.ts";
import { Figures } from "./figures.ts";
import { FirstCopy } from "./first-copy.ts";
import type { LossKind } from "./loss.ts";
import { residentBytes } from "./resident.ts";
import { type Greeting, greet, HEARTBEAT_MS, type StandbyLink, TICK_MS } from "./standby-link.ts";
import { replicatedVolumes } from "./volumes.ts";

export interface PrimaryParts {
  application: ApplicationSpec;
  stage: Stage;
  /** Where the application's layer of files is on this node. */
  filesDirectory: string;
  tracees: Tracees;
  port: ApplicationInterface;
  hold: OutputHold;
  term: number;
  /** Epochs go on above it. */
  epoch: number;
}

export interface PrimaryShell {
  tell: (event: ViewEvent) => void;
  note: (kind: string, message: string, details?: Record<string, unknown>) => void;
}

const STOP_TIMEOUT_US = 100_000;
const SHADOW_BYTES = 4 * 2 ** 30;
/** After a stop that came between a client's first words and their hearing: the next try, and how often. */
const POSTPONED_MS = 1;
const MOST_POSTPONED = 20;
/** After a stop that failed: the next try; ever later while threads do not stop, or the application would stand still. */
const RETRY_MS = 10;
const LATEST_RETRY_MS = 200;
/** After so long a first copy is given up whose processes do not stop to be watched. */
const ATTACH_LIMIT_MS = 10_000;
/** So long without a checkpoint because threads do not stop: the operator is told. */
const LATE_MS = 1000;
/** Between looks at how much memory the application has. */
const MEASURE_MS = 1000;
/** As long as the application uses what cannot be copied: each try stops it for nothing. */
const UNPROTECTABLE_RETRY_MS = 200;
/**
 * So many checkpoints may wait for acknowledgements at a time: while one is on its way, the application goes on with what came
 * since, and the next begins.
 */
const MOST_UNDER_WAY = 2;

interface UnderWay {
  epoch: number;
  begun: number;
  /** When its last byte was handed to the network. */
  sentAt: number;
  end: CheckpointEnd;
  /** Standbys whose acknowledgement is still to come. */
  waiting: Set<string>;
}

export class Primary {
  readonly parts: PrimaryParts;
  readonly figures = new Figures();
  readonly links = new Map<string, StandbyLink>();
  /** Standbys that were connected and are not any more. */
  readonly lost = new Set<string>();
  readonly #shell: PrimaryShell;
  readonly #capture: Capture;
  readonly #files: FileCapture;
  #period: PeriodOptions;
  /** Newest held packet at each epoch's cut. */
  readonly #marks = new Map<number, number>();
  readonly #timer: NodeJS.Timeout;
  /** Of first copies, all together. */
  readonly #limit: RateLimit;
  /** The first copy that is under way. */
  #copying: Promise<void> = Promise.resolve();
  /** Why no checkpoint can be taken, since when. */
  unprotectable: (Failure & { since: string }) | undefined;
  /** By the view machine's word. */
  #nobodyToWaitFor = false;
  /** Checkpoints that were sent and not acknowledged by all, oldest first. */
  readonly #underWay: UnderWay[] = [];
  readonly #slowPauses = new SlowPauses();
  /** Packets held since the last checkpoint's mark. */
  #uncovered = 0;
  #last: PeriodState = { lastStart: 0, lastStopMs: 0, lastPages: 0 };
  #closed = false;
  /** Stopped for a planned switch. */
  #frozen = false;
  readonly #alarm = new Alarm();
  #wake: () => void = () => {};
  readonly #requests: Array<{ resolve: (end: CheckpointEnd) => void; reject: (error: Error) => void; epoch?: number }> =
    [];
  #receivers: StandbyLink[] = [];
  readonly #whenSettled: Array<() => void> = [];
  /** The checkpoint that is being made, up to its dump. */
  #making: Promise<void> = Promise.resolve();
  #lastTick = performance.now();
  #ticks = 0;
  #measuredAt = 0;
  #programs: ProgramFiles | undefined;
  term: number;

  constructor(parts: PrimaryParts, shell: PrimaryShell) {
    this.parts = parts;
    this.term = parts.term;
    this.#shell = shell;
    this.#period = { ...periodDefaults, period: parts.application.period };
    this.#limit = new RateLimit(parts.application.syncLimit);
    this.#files = new FileCapture({
      filesDirectory: parts.filesDirectory,
      init: parts.stage.init,
      mounts: parts.application.volumes.map(({ path }) => path),
      volumes: replicatedVolumes(parts.application.volumes),
    });
    this.#watchConnections();
    this.#capture = new Capture({
      layer: layerPaths(parts.filesDirectory).upper,
      stage: parts.stage,
      mounts: parts.application.volumes.map(({ path }) => path),
      tracees: parts.tracees,
      emit: (operation) => this.#broadcast(operation),
      files: this.#files,
      stopTimeoutUs: STOP_TIMEOUT_US,
      shadowBytes: SHADOW_BYTES,
    });
    this.#capture.epoch = parts.epoch;
    parts.hold.onPacket((packets) => {
      this.#uncovered += packets;
      this.#wake();
    });
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    void this.#loop();
  }

  /** What makes dumps of connections complete and cheap; without it they are only less so. */
  #watchConnections(): void {
    const { port, stage } = this.parts;
    resetTcp();
    const cgroup = dirname(dirname(stage.cgroup));
    const tries: Array<[string, () => void]> = [
      [
        "Connections that are closed with bytes left to send are not kept",
        () => watchClosedTcp(port.namespaceFd, cgroup),
      ],
      ["Connections not accepted yet are not kept", () => watchTcpHandshakes(port.nodeEnd, port.namespaceFd)],
      ["Socket options are read in every checkpoint", () => watchTcpOptions(cgroup)],
    ];
    for (const [consequence, watch] of tries) {
      try {
        watch();
      } catch (error) {
        this.#shell.note("watch-refused", `${consequence}: ${(error as Error).message}`);
      }
    }
  }

  get epoch(): number {
    return this.#capture.epoch;
  }

  get isFrozen(): boolean {
    return this.#frozen;
  }

  #broadcast(operation: Operation): void {
    let left = this.#receivers.length;
    const written = () => {
      if (--left <= 0 && operation.op === "pages") operation.release?.();
    };
    if (left === 0) written();
    for (const standby of this.#receivers) standby.link.send({ type: "operation", operation }, written);
  }

  // --- Standbys ---

  /** A greeted standby; it waits until the view machine says `synchronise`. */
  addStandby(standby: StandbyLink): void {
    const { node } = standby;
    const before = this.links.get(node);
    // Lost like any other: a checkpoint would wait for what nobody acknowledges any more.
    if (before) this.#lose(before, "another clone of it is connected", "goodbye");
    this.links.set(node, standby);
    this.lost.delete(node);
    standby.alive();
    this.#listenTo(standby);
    this.#shell.note("standby-connected", `Standby "${node}" is connected`, { node });
    this.#shell.tell({ kind: "standbyConnected", node });
  }

  #listenTo(standby: StandbyLink): void {
    standby.link.onMessage = (message) => this.#receive(standby, message);
    standby.link.onClose = (error) =>
      this.#lose(standby, error?.message ?? "the connection ended", error ? "failed" : "closed");
  }

  removeStandby(node: string, reason: string): void {
    const standby = this.links.get(node);
    if (!standby) return;
    standby.link.goodbye(reason);
    this.#lose(standby, reason, "goodbye");
    this.lost.delete(node);
  }

  #lose(standby: StandbyLink, reason: string, how: LossKind): void {
    if (this.links.get(standby.node) !== standby) return;
    this.links.delete(standby.node);
    standby.link.close();
    standby.copy?.answers.fail(new OperatingError("standby-lost", `Standby "${standby.node}" is lost: ${reason}`));
    this.lost.add(standby.node);
    this.#receivers = this.#receivers.filter((other) => other !== standby);
    void this.#making.catch(() => {}).then(() => this.#forgetReceivers());
    this.#shell.note("standby-lost", `Standby "${standby.node}" is lost: ${reason}`, { node: standby.node, how });
    this.#shell.tell({ kind: "standbyLost", node: standby.node });
    this.#settle(standby.node, Number.POSITIVE_INFINITY);
  }

  /** With nobody to follow, watching the memory only costs. */
  #forgetReceivers(): void {
    if (this.#receivers.length === 0 && !this.#closed) this.#capture.reset();
  }

  #receive(standby: StandbyLink, message: Message): void {
    standby.alive();
    if (message.type === "acknowledged") {
      standby.acknowledgedEpoch = message.epoch;
      const underWay = this.#underWay.find(({ epoch }) => epoch === message.epoch);
      if (underWay) standby.pace = acknowledged(standby.pace, performance.now() - underWay.sentAt);
      standby.acknowledgedAt = performance.now();
      this.#shell.tell({ kind: "acknowledged", node: standby.node, term: message.term, epoch: message.epoch });
      this.#settle(standby.node, message.epoch);
    } else if (message.type === "lacking") standby.copy?.answers.push(message.lacking);
    else if (message.type === "goodbye") this.#lose(standby, message.reason, "goodbye");
  }

  /** A standby is not waited for any more up to `epoch`: it has acknowledged, or is gone. */
  #settle(node: string, epoch: number): void {
    for (const underWay of this.#underWay) if (underWay.epoch <= epoch) underWay.waiting.delete(node);
    while (this.#underWay[0]?.waiting.size === 0) this.#settled(this.#underWay.shift()!);
    this.#wake();
  }

  /** Every standby has it. */
  #settled({ epoch, begun, end }: UnderWay): void {
    this.figures.committed((performance.now() - begun) * 1000);
    for (const request of this.#requests.splice(0)) {
      if (request.epoch !== undefined && request.epoch <= epoch) request.resolve(end);
      else this.#requests.push(request);
    }
    if (this.#underWay.length === 0) for (const resolve of this.#whenSettled.splice(0)) resolve();
  }

  /** The whole application, to a new standby; beside the checkpoints that others get. One after the other. */
  synchronise(node: string, greeting: Greeting): Promise<void> {
    const copied = this.#copying.then(() => this.#firstCopy(node, greeting));
    this.#copying = copied;
    return copied;
  }

  async #firstCopy(node: string, greeting: Greeting): Promise<void> {
    const standby = this.links.get(node);
    if (!standby || this.#closed) return;
    try {
      const holds = await greet(standby, greeting);
      if (this.links.get(node) !== standby) return;
      this.#listenTo(standby);
      const copy = new FirstCopy(standby, this.#limit);
      standby.copy = copy;
      standby.phase = "copying";
      await this.#copyAll(standby, copy, holds);
      standby.copy = undefined;
      standby.phase = "joining";
      this.#tellCopied(node, copy);
      this.#wake();
    } catch (error) {
      standby.copy = undefined;
      // Another clone has taken its place: that one is not to suffer for it.
      if (this.links.get(node) !== standby) return;
      this.#shell.note("synchronisation-failed", `The first copy to "${node}" failed: ${(error as Error).message}`, {
        node,
      });
      this.removeStandby(node, (error as Error).message);
    }
  }

  /** As with any stop: threads that cannot stop just now are tried again. */
  async #attachNew(): Promise<void> {
    const begun = performance.now();
    for (;;) {
      try {
        this.#capture.attachNew();
        return;
      } catch (error) {
        const isLate = error instanceof OperatingError && error.code === "barrier-timeout";
        if (!isLate || performance.now() - begun > ATTACH_LIMIT_MS) throw error;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  async #copyAll(standby: StandbyLink, copy: FirstCopy, holds: boolean): Promise<void> {
    const alone = this.#receivers.length === 0;
    if (alone) {
      this.#capture.reset();
      this.#files.reset();
    }
    this.#receivers = [...this.#receivers, standby];
    this.#capture.whole = true;
    const emit = (operation: Operation) => standby.link.send({ type: "operation", operation });
    if (!alone) {
      for (const operation of this.#files.introduce()) emit(operation);
      for (const operation of this.#capture.introduce()) emit(operation);
    }
    const { answers, pause } = copy;
    const newcomer: FileNewcomer = {
      emit,
      answers,
      holds,
      pause,
      progress: (bytes, kept) => copy.progress(bytes, kept),
      sentBytes: () => copy.sentBytes,
      expect: (files) => {
        copy.expect(files.reduce((sum, file) => sum + file.size, 0));
        return files;
      },
    };
    await this.#files.copyAll(newcomer, alone ? undefined : (operation) => this.#broadcast(operation));
    copy.step = "memory";
    await this.#attachNew();
    for (const process of this.#capture.captured()) await this.#copyMemory(process, alone, copy);
    // What was written while memory was copied.
    if (alone) await this.#files.copyAll(newcomer);
  }

  async #copyMemory(process: ProcessCapture, alone: boolean, copy: FirstCopy): Promise<void> {
    let left = residentBytes([process.pid]);
    copy.expect(left);
    await this.#capture.copyAll(process, alone, copy.pause, (leftBytes) => {
      copy.progress(Math.max(0, left - leftBytes));
      left = Math.min(left, leftBytes);
    });
    copy.progress(left);
  }

  #tellCopied(node: string, copy: FirstCopy): void {
    const { seconds, bytes, sentBytes, keptBytes } = copy.summary();
    const text = `"${node}" has everything: ${megabytes(bytes)} in ${seconds.toFixed(1)} s, ${megabytes(sentBytes)} sent`;
    const kept = keptBytes > 0 ? `, ${megabytes(keptBytes)} were there` : "";
    this.#shell.note("synchronised", text + kept, { node, seconds, bytes, sentBytes, keptBytes });
  }

  #tick(): void {
    const now = performance.now();
    if (now - this.#lastTick > STARVED_MS) this.#shell.tell({ kind: "awoke" });
    this.#lastTick = now;
    const isBeat = this.#ticks++ % (HEARTBEAT_MS / TICK_MS) === 0;
    for (const standby of [...this.links.values()]) {
      if (standby.phase === "greeting") continue;
      if (isBeat) standby.link.send({ type: "heartbeat" });
      if (standby.suspected()) this.#lose(standby, "it gives no sign of life", "silent");
      else this.#judgePace(standby, now);
    }
    this.figures.heldPackets = this.parts.hold.pending;
    if (now - this.#measuredAt > MEASURE_MS) {
      this.#measuredAt = now;
      this.figures.residentBytes = residentBytes(this.parts.tracees.processes.keys());
    }
  }

  /** One that is too slow is not waited for any more; not where output would have to wait for it all the same. */
  #judgePace(standby: StandbyLink, now: number): void {
    if (standby.phase !== "following" || this.#frozen) return;
    const others = this.#receivers.filter((other) => other !== standby && other.phase === "following");
    const paces = others.map(({ pace }) => pace);
    const { pace, slow } = judge(standby.pace, this.#debtOf(standby), paces, now);
    standby.pace = pace;
    const { minInSync, onTooFew } = this.parts.application;
    if (slow === undefined || (onTooFew === "hold" && others.length < minInSync)) return;
    this.#slowPauses.begin(standby.node, now);
    const reason = slow === "stuck" ? "it acknowledges too late" : "it is much slower than the others";
    standby.link.goodbye(reason);
    this.#lose(standby, reason, "slow");
  }

  #debtOf({ node, link }: StandbyLink): Debt | undefined {
    const owed = this.#underWay.filter(({ waiting }) => waiting.has(node));
    if (owed[0] === undefined) return undefined;
    return { since: owed[0].sentAt, bytes: owed.reduce((sum, { end }) => sum + end.bytes, link.unsentBytes) };
  }

  /** Errors: `standby-slow`: it was too slow a moment ago. */
  refuseSlow(node: string): void {
    const leftMs = this.#slowPauses.left(node, performance.now());
    if (leftMs === 0) return;
    const seconds = Math.ceil(leftMs / 1000);
    throw new OperatingError("standby-slow", `Standby "${node}" was too slow; it is tried again in ${seconds} s`, {
      remedy: "See what keeps that node or the link to it so busy.",
      details: { node },
    });
  }

  // --- What the view machine wants ---

  passThrough(on: boolean): void {
    this.#nobodyToWaitFor = on;
    this.#applyHold();
  }

  /** Whether output waits for checkpoints while they can be taken. */
  get #waits(): boolean {
    return !this.#nobodyToWaitFor && this.parts.application.commit !== "none";
  }

  #applyHold(): void {
    const { hold, application } = this.parts;
    const warns = this.unprotectable !== undefined && application.onUnprotectable === "warn";
    if (this.#waits && !warns) hold.hold();
    else hold.passThrough();
  }

  /** The specification has changed. */
  configure(application: ApplicationSpec): void {
    this.parts.application = application;
    this.#period = { ...periodDefaults, period: application.period };
    this.#limit.bytesPerSecond = application.syncLimit;
    // In a planned switch nothing leaves, whatever the policy; what then goes on here goes by the new one.
    if (!this.#frozen) this.#applyHold();
    this.#wake();
  }

  release(epoch: number): void {
    const mark = this.#marks.get(epoch);
    if (mark !== undefined) this.parts.hold.release(mark);
    for (const old of this.#marks.keys()) if (old <= epoch) this.#marks.delete(old);
  }

  /** The last checkpoint before a planned switch; the application stays stopped. */
  async finalCheckpoint(): Promise<void> {
    this.#frozen = true;
    try {
      await this.#making.catch(() => {});
      while (this.#underWay.length > 0) await new Promise<void>((resolve) => this.#whenSettled.push(resolve));
      phaseEnd("preSwitch");
      while (!(await this.#finalTried())) await new Promise((resolve) => setTimeout(resolve, POSTPONED_MS));
      phaseEnd("switch");
    } catch (error) {
      this.#frozen = false;
      this.#shell.tell({ kind: "handOverFailed", reason: (error as Error).message });
    }
  }

  async #finalTried(): Promise<boolean> {
    try {
      await this.#checkpoint(true);
      return true;
    } catch (error) {
      if (isPostponed(error)) return false;
      throw error;
    }
  }

  /** No checkpoints any more, all output held, until `resume` or the end. */
  standAside(): void {
    this.#frozen = true;
    this.parts.hold.hold();
  }

  /** A planned switch is off. */
  resume(term: number): void {
    this.term = term;
    this.#frozen = false;
    this.#applyHold();
    this.parts.tracees.release();
    this.parts.port.announce();
    this.#wake();
  }

  /** Takes a checkpoint now; resolves when every standby has it. */
  checkpointNow(): Promise<CheckpointEnd> {
    if (this.#ready().length === 0)
      return Promise.reject(
        new OperatingError("no-standby", "No standby holds a clone, so there is nobody to take a checkpoint for", {
          remedy: "Wait until one is in sync.",
        }),
      );
    return new Promise((resolve, reject) => {
      this.#requests.push({ resolve, reject });
      this.#wake();
    });
  }

  /** From the last checkpoint: the application is not asked. Errors: `no-checkpoint`. */
  tree(): Graph {
    const last = this.#capture.lastSeen();
    const { application, stage, filesDirectory } = this.parts;
    if (last === undefined)
      throw new OperatingError("no-checkpoint", `No checkpoint of "${application.name}" has been taken here yet`, {
        remedy: `It is taken for a standby; see understudy status ${application.name}`,
      });
    this.#programs ??= new ProgramFiles(stage.rootFd, layerPaths(filesDirectory).upper);
    const programs = this.#programs;
    return graphOf({ application: application.name, ...last, files: (path) => programs.identify(path) });
  }

  // --- The loop ---

  #ready(): StandbyLink[] {
    return this.#receivers.filter((standby) => standby.phase === "following" || standby.phase === "joining");
  }

  async #loop(): Promise<void> {
    while (!this.#closed) {
      const waitMs = this.#waitMs();
      if (waitMs > 0) {
        await this.#pause(waitMs);
        continue;
      }
      try {
        this.#making = this.#checkpoint(false);
        await this.#making;
      } catch (error) {
        if (this.#closed) return;
        const late = isPostponed(error);
        if (!late) this.#stopFailed(error as Error);
        const waitMs = late ? POSTPONED_MS : this.unprotectable ? UNPROTECTABLE_RETRY_MS : this.#retryMs();
        await new Promise((resolve) => setTimeout(resolve, waitMs));
      }
    }
  }

  #retryMs(): number {
    return Math.min(LATEST_RETRY_MS, RETRY_MS * 2 ** this.#failedInARow++);
  }

  /** Milliseconds until the next checkpoint; Infinity when something must happen first. */
  #waitMs(): number {
    if (this.#frozen || this.#underWay.length >= MOST_UNDER_WAY || this.#ready().length === 0)
      return Number.POSITIVE_INFINITY;
    const joining = this.#receivers.some((standby) => standby.phase === "joining");
    if (joining || this.#requests.some((request) => request.epoch === undefined)) return 0;
    const waits = this.#uncovered > 0 && this.parts.hold.holding;
    return dueAt(this.#last, waits, this.#period) - performance.now();
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      if (ms < Number.POSITIVE_INFINITY) this.#alarm.set(ms, () => this.#wake());
      this.#wake = () => {
        if (ms < Number.POSITIVE_INFINITY) this.#alarm.clear();
        this.#wake = () => {};
        resolve();
      };
    });
  }

  #lastFailure = "";
  #failedInARow = 0;
  /** Stops in a row that were given up for data on connections that nobody had accepted. */
  #postponed = 0;

  /** The application has begun to use what cannot be copied. The standbys keep what they have. */
  #refused(error: OperatingError): void {
    const since = this.unprotectable?.since ?? new Date().toISOString();
    this.unprotectable = { ...toFailure(error), since };
    if (!this.#frozen) this.#applyHold();
    for (const request of this.#requests.splice(0)) {
      if (request.epoch === undefined) request.reject(error);
      else this.#requests.push(request);
    }
  }

  #consequence(): string {
    if (this.unprotectable === undefined || !this.#waits) return "";
    const warns = this.parts.application.onUnprotectable === "warn";
    return warns ? "; its output goes out unprotected" : "; its output waits";
  }

  /** A checkpoint has been taken again. */
  #protectableAgain(): void {
    if (this.unprotectable === undefined) return;
    this.unprotectable = undefined;
    this.#shell.note("protectable-again", "Checkpoints can be taken again");
  }

  #stopFailed(error: Error): void {
    const code = error instanceof OperatingError ? error.code : "checkpoint-failed";
    if (error instanceof OperatingError && code.startsWith("unprotectable-")) this.#refused(error);
    // A thread that cannot stop just now (it waits for its vfork's child), or woke up, is nothing to tell, unless it goes on.
    if (code.startsWith("barrier-") && performance.now() - this.#last.lastStart < LATE_MS) return;
    if (code === this.#lastFailure) return;
    this.#lastFailure = code;
    this.#shell.note(code, `No checkpoint could be taken: ${error.message}${this.#consequence()}`);
  }

  /** One checkpoint, up to its last byte handed to the network. */
  async #checkpoint(final: boolean): Promise<void> {
    const begun = performance.now();
    for (const _pause of this.#capture.preDump()) {
      await new Promise(setImmediate);
      for (const standby of this.#receivers) await standby.link.drained();
      if (this.#closed) return;
    }
    // Nobody left to take it for: what was copied belongs to nobody.
    if (this.#ready().length === 0) return;
    const joining = this.#receivers.filter((standby) => standby.phase === "joining");
    const { end, all, programs } = this.#capture.dump(
      (epoch) => {
        // What leaves after this instant waits again; what left before is part of this checkpoint.
        if (this.unprotectable && this.#waits) this.parts.hold.hold();
        // First of all in the stop: what is queued now was sent by a state that the dump includes.
        const mark = this.parts.hold.drain().lastId;
        if (markTcpHandshakes() > 0 && this.#postponed++ < MOST_POSTPONED) throw postponed();
        this.#postponed = 0;
        this.#marks.set(epoch, mark);
        this.#uncovered = 0;
        if (!final) this.#shell.tell({ kind: "epochCut", epoch });
      },
      final,
      this.term,
    );
    this.#last = { lastStart: begun, lastStopMs: end.stopUs / 1000, lastPages: end.pages };
    this.#lastFailure = "";
    this.#failedInARow = 0;
    this.#protectableAgain();
    const receivers = this.#ready();
    const sentAt = performance.now();
    this.#underWay.push({
      epoch: end.epoch,
      begun,
      sentAt,
      end,
      waiting: new Set(receivers.map((standby) => standby.node)),
    });
    for (const standby of receivers) {
      const first = joining.includes(standby);
      const whole = first ? { ...end, changed: all, gone: [], programs: programs() } : end;
      standby.link.send({ type: "end", end: whole, digest: 0 });
      standby.phase = "following";
    }
    if (joining.length && this.#receivers.every((standby) => standby.phase === "following"))
      this.#capture.whole = false;
    for (const request of this.#requests) request.epoch ??= end.epoch;
    this.figures.checkpoint(end);
    if (final) this.#shell.tell({ kind: "finalCheckpointCut", epoch: end.epoch });
  }

  /** Ends the role; the application itself is the caller's to end, or to leave. */
  close(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#timer);
    for (const standby of this.links.values()) standby.link.goodbye(reason);
    this.links.clear();
    this.#receivers = [];
    for (const request of this.#requests.splice(0))
      request.reject(new OperatingError("instance-ended", `The application is not primary here any more: ${reason}`));
    this.#capture.close();
    this.#files.close();
    resetTcp();
    this.#wake();
    this.#alarm.close();
  }
}

/** This process's own ticks late by so much: standbys may have given it up. */
const STARVED_MS = 120;

function postponed(): OperatingError {
  return new OperatingError("checkpoint-postponed", "Connections that are not accepted yet have data waiting");
}

function isPostponed(error: unknown): boolean {
  return error instanceof OperatingError && error.code === "checkpoint-postponed";
}

const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
