/**
 * The primary role: the application runs here; its checkpoints go to the standbys; its output waits for them. The face to the view
 * machine; when and how a checkpoint is taken is in `checkpoint-loop.ts`.
 */
import { dirname } from "node:path";
import { Capture } from "../checkpoint/capture.ts";
import type { CheckpointEnd } from "../checkpoint/operations.ts";
import type { ApplicationSpec } from "../cluster/spec.ts";
import { FileCapture } from "../files/capture.ts";
import { type Failure, OperatingError } from "../kernel/failure.ts";
import { resetTcp, watchClosedTcp, watchTcpHandshakes, watchTcpOptions } from "../resources/tcp/index.ts";
import { layerPaths } from "../stage/root.ts";
import { ProgramFiles } from "../tree/files.ts";
import { type Graph, graphOf } from "../tree/graph.ts";
import { WaitKeeper } from "../tree/wait-keeper.ts";
import { CheckpointLoop } from "./checkpoint-loop.ts";
import { Figures } from "./figures.ts";
import { FirstCopies } from "./first-copies.ts";
import { OutputCommit } from "./output-commit.ts";
import type { PrimaryParts, PrimaryShell } from "./primary-parts.ts";
import { residentBytes } from "./resident.ts";
import { type Greeting, HEARTBEAT_MS, type StandbyLink, TICK_MS } from "./standby-link.ts";
import { Standbys } from "./standbys.ts";
import { UnderWay } from "./under-way.ts";
import { replicatedVolumes } from "./volumes.ts";
import { Wakefulness } from "./wakefulness.ts";

const STOP_TIMEOUT_US = 100_000;
const SHADOW_BYTES = 4 * 2 ** 30;
/** Between looks at how much memory the application has. */
const MEASURE_MS = 1000;

export class Primary {
  readonly parts: PrimaryParts;
  readonly figures = new Figures();
  readonly #shell: PrimaryShell;
  readonly #files: FileCapture;
  readonly #capture: Capture;
  readonly #output: OutputCommit;
  readonly #underWay: UnderWay;
  readonly #standbys: Standbys;
  readonly #firstCopies: FirstCopies;
  readonly #loop: CheckpointLoop;
  readonly #waits: WaitKeeper;
  readonly #timer: NodeJS.Timeout;
  readonly #wakefulness: Wakefulness;
  #ticks = 0;
  #measuredAt = 0;
  #closed = false;
  #programs: ProgramFiles | undefined;

  constructor(parts: PrimaryParts, shell: PrimaryShell) {
    const { figures } = this;
    this.parts = parts;
    this.#shell = shell;
    const wake = () => this.#loop.wake();
    const output = new OutputCommit(parts, shell, wake);
    const underWay = new UnderWay((epoch, tookUs) => figures.committed(epoch, tookUs));
    const onLost = () => this.#forgetReceivers();
    const wakefulness = new Wakefulness((event) => {
      shell.tell(event);
      wake();
    }, parts.epoch);
    const standbys = new Standbys({ parts, shell, output, underWay, wakefulness, onSettled: wake, onLost });
    const files = fileCaptureOf(parts);
    this.#watchConnections();
    const capture = captureOf(parts, files, standbys);
    const bytesPerSecond = parts.application.syncLimit;
    const { stage } = parts;
    this.#firstCopies = new FirstCopies({ shell, standbys, capture, files, stage, bytesPerSecond, onCopied: wake });
    this.#loop = new CheckpointLoop({ parts, shell, standbys, underWay, wakefulness, output, capture, figures });
    this.#wakefulness = wakefulness;
    this.#output = output;
    this.#underWay = underWay;
    this.#standbys = standbys;
    this.#files = files;
    this.#capture = capture;
    this.#waits = new WaitKeeper(parts.tracees);
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    void this.#loop.run();
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

  get term(): number {
    return this.parts.term;
  }

  /** Stopped for a planned switch. */
  get isFrozen(): boolean {
    return this.#output.isFrozen;
  }

  get unprotectable(): (Failure & { since: string }) | undefined {
    return this.#output.unprotectable;
  }

  // --- Standbys ---

  get links(): ReadonlyMap<string, StandbyLink> {
    return this.#standbys.links;
  }

  /** Standbys that were connected and are not any more. */
  get lost(): ReadonlyMap<string, string> {
    return this.#standbys.lost;
  }

  /** Why the last first copy to a standby failed. */
  get failures(): ReadonlyMap<string, Failure> {
    return this.#firstCopies.failures;
  }

  /** A greeted standby; it waits until the view machine says `synchronise`. */
  addStandby(standby: StandbyLink): void {
    this.#standbys.add(standby);
  }

  removeStandby(node: string, reason: string): void {
    this.#standbys.remove(node, reason);
  }

  /** Errors: `standby-slow`: it was too slow a moment ago. */
  refuseSlow(node: string): void {
    this.#standbys.refuseSlow(node);
  }

  /** The whole application, to a new standby; beside the checkpoints that others get. One after the other. */
  synchronise(node: string, greeting: Greeting): Promise<void> {
    return this.#firstCopies.synchronise(node, greeting);
  }

  /** With nobody to follow, watching the memory only costs. */
  #forgetReceivers(): void {
    void this.#loop.made().then(() => {
      if (this.#standbys.receivers.length === 0 && !this.#closed) this.#capture.reset();
    });
  }

  #tick(): void {
    const now = performance.now();
    this.#wakefulness.look();
    this.#standbys.tick(now, this.#ticks++ % (HEARTBEAT_MS / TICK_MS) === 0);
    this.figures.heldPackets = this.parts.hold.pending;
    if (now - this.#measuredAt > MEASURE_MS) {
      this.#measuredAt = now;
      this.figures.residentBytes = residentBytes(this.parts.tracees.processes.keys());
    }
  }

  // --- What the view machine wants ---

  passThrough(on: boolean): void {
    this.#output.passThrough(on);
  }

  /** The specification has changed. */
  configure(application: ApplicationSpec): void {
    this.parts.application = application;
    this.#loop.configure();
    this.#firstCopies.limit.bytesPerSecond = application.syncLimit;
    this.#output.applyUnlessFrozen();
    this.#loop.wake();
  }

  release(epoch: number): void {
    this.#output.release(epoch);
  }

  /** The last checkpoint before a planned switch; the application stays stopped. */
  finalCheckpoint(): Promise<void> {
    return this.#loop.final();
  }

  /** No checkpoints any more, all output held, until `resume` or the end. */
  standAside(): void {
    this.#output.isFrozen = true;
    this.parts.hold.hold();
  }

  /** Somebody talks to it who does not belong to it; until the returned is called what cannot be copied is taken for theirs. */
  visited(): () => void {
    this.#loop.isVisited = true;
    return () => {
      this.#loop.isVisited = false;
    };
  }

  /** What runs here is no state to go on from any more: as `standAside`, and a stop that is being made takes nothing. */
  crashed(): void {
    this.#loop.giveUp();
    this.standAside();
  }

  /** A planned switch is off. */
  resume(term: number): void {
    this.parts.term = term;
    this.#output.isFrozen = false;
    this.#output.apply();
    this.parts.tracees.release();
    this.parts.port.announce();
    this.#loop.wake();
  }

  /** Takes a checkpoint now; resolves when every standby has it. */
  checkpointNow(): Promise<CheckpointEnd> {
    if (this.#standbys.ready().length === 0)
      return Promise.reject(
        new OperatingError("no-standby", "No standby holds a clone, so there is nobody to take a checkpoint for", {
          remedy: "Wait until one is in sync.",
        }),
      );
    const taken = this.#underWay.request();
    this.#loop.wake();
    return taken;
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

  /** Ends the role; the application itself is the caller's to end, or to leave. */
  close(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#timer);
    this.#waits.close();
    this.#standbys.close(reason);
    this.#underWay.close(
      new OperatingError("instance-ended", `The application is not primary here any more: ${reason}`),
    );
    this.#capture.close();
    this.#files.close();
    resetTcp();
    this.#loop.close();
  }
}

function fileCaptureOf({ application, filesDirectory, numbers, stage }: PrimaryParts): FileCapture {
  return new FileCapture({
    filesDirectory,
    numbers,
    init: stage.init,
    mounts: application.volumes.map(({ path }) => path),
    volumes: replicatedVolumes(application.volumes),
  });
}

function captureOf(parts: PrimaryParts, files: FileCapture, to: Standbys) {
  const { application, filesDirectory, stage, tracees, epoch } = parts;
  const capture = new Capture({
    layer: layerPaths(filesDirectory).upper,
    stage,
    mounts: application.volumes.map(({ path }) => path),
    tracees,
    emit: (operation) => to.broadcast(operation),
    files,
    // Who goes on with it after that crash shall not crash of it again.
    onFatal: (signal) => {
      if (parts.application.restart.on === "never") return;
      throw new OperatingError("application-crashed", `The application is about to be ended by signal ${signal}`);
    },
    stopTimeoutUs: STOP_TIMEOUT_US,
    shadowBytes: SHADOW_BYTES,
  });
  capture.epoch = epoch;
  return capture;
}
