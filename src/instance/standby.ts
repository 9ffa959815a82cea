/**
 * The standby role: receives checkpoints, keeps the last few as they came, applies older ones to the skeleton. What has been
 * acknowledged is here as a whole; what is applied is never newer than what is acknowledged.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { CheckpointEnd, Operation, Resource } from "../checkpoint/operations.ts";
import { IMAGE_VERSION, release } from "../checkpoint/operations.ts";
import { phaseEnd } from "../checkpoint/phases.ts";
import { CloneNumbers, type MissedNumber } from "../clone/clone-numbers.ts";
import type { EarlierMemory } from "../clone/earlier-memory.ts";
import { type HugeParts, HugeReserve } from "../clone/huge-reserve.ts";
import { checkVersions, prepare } from "../clone/life.ts";
import { Scratch } from "../clone/scratch.ts";
import { Skeleton } from "../clone/skeleton.ts";
import type { FileApplyOptions } from "../files/apply.ts";
import { DurableFiles } from "../files/durable.ts";
import { type ProgramPart, ProgramTaker } from "../files/program-file.ts";
import type { Clocks } from "../kernel/clocks.ts";
import { OperatingError } from "../kernel/failure.ts";
import { verifyPages } from "../kernel/pages.ts";
import { OutputHold } from "../network/hold.ts";
import { ApplicationInterface } from "../network/interface.ts";
import { damaged, type Hello } from "../replication/frames.ts";
import { prepareReading } from "../resources/tcp/orphan-reader.ts";
import { vouchingFunction } from "../resources/tcp/revive.ts";
import { settleDisk } from "../stage/disk.ts";
import type { InodeNumbers } from "../stage/inode-numbers.ts";
import { Stage } from "../stage/stage.ts";
import { differingPrograms, type Program, programDiffers } from "../tree/programs.ts";
import { Tracees } from "../tree/tracees.ts";
import type { CheckpointSummary, InstanceConfig } from "./control.ts";
import { emptyVolumes, scratchPaths } from "./volumes.ts";

interface Held {
  operations: Operation[];
  end: CheckpointEnd;
}

/**
 * So long at a time older checkpoints are applied: heartbeats and acknowledgements wait meanwhile. The more have gathered, the
 * longer, or a fast primary would fill the memory here, but never so long that it would miss a sign of life.
 */
const APPLY_SLICE_MS = 8;
const LONGEST_SLICE_MS = 40;

/** What a clone begins with. */
export interface CloneParts {
  hello: Hello;
  /** This node's when the hello came. */
  arrived: Clocks;
  files: Omit<FileApplyOptions, "numbered">;
  /** Of the clone's own disk, if it has one; the clone's from then on. */
  numbers?: InodeNumbers | undefined;
  /** Memory that was here before; it stays the caller's. */
  earlier?: EarlierMemory | undefined;
}

/** What a clone that has come to life consists of. */
export interface Living {
  stage: Stage;
  tracees: Tracees;
  port: ApplicationInterface;
  hold: OutputHold;
  epoch: number;
  numbers?: InodeNumbers | undefined;
  /** Files that have other inode numbers than before. */
  misses: readonly MissedNumber[];
}

export class Clone {
  readonly stage: Stage;
  readonly #config: InstanceConfig;
  readonly #disk: InodeNumbers | undefined;
  readonly #numbers: CloneNumbers | undefined;
  readonly #skeleton: Skeleton;
  readonly #scratch: Scratch;
  readonly #programs: ProgramTaker;
  readonly #huge = new HugeReserve();
  readonly #port: ApplicationInterface;
  readonly #hold: OutputHold;
  /** Resources as of the last applied checkpoint. */
  readonly #states = new Map<string, Resource>();
  #held: Held[] = [];
  /** Taken from the held ones, and applied up to here: what was done to the skeleton cannot be taken back. */
  #applying: { end: CheckpointEnd; work: Generator<void, void> } | undefined;
  #operations: Operation[] = [];
  #applied: CheckpointEnd | undefined;
  #newest: CheckpointEnd | undefined;
  /** Brings what is applied to the disk; undefined when nobody waits for that. */
  readonly #durable: DurableFiles | undefined;
  #destroyed = false;
  readonly receivedBytes = { value: 0 };

  private constructor(
    config: InstanceConfig,
    stage: Stage,
    port: ApplicationInterface,
    hold: OutputHold,
    { files, earlier, numbers }: CloneParts,
  ) {
    this.#config = config;
    this.stage = stage;
    this.#disk = numbers;
    const mounts = config.application.volumes.map(({ path }) => path);
    this.#numbers = numbers && new CloneNumbers(numbers, stage.rootFd, mounts);
    this.#skeleton = new Skeleton(stage, files, { earlier, numbers: this.#numbers });
    this.#scratch = new Scratch(stage.rootFd, scratchPaths(config.application.volumes));
    this.#programs = new ProgramTaker(stage.rootFd, (change) => this.#apply({ op: "file", change }));
    if (config.application.durable)
      this.#durable = new DurableFiles(`/proc/self/fd/${stage.rootFd}`, durableRecordOf(config));
    this.#port = port;
    this.#hold = hold;
  }

  /** An empty clone on a stage of its own, its network closed. */
  static create(config: InstanceConfig, parts: CloneParts): Clone {
    const { application } = config;
    const { monotonic, boottime } = parts.hello.clocks;
    const filesDirectory = `${config.stateDirectory}/files`;
    const stage = Stage.create({
      name: application.name,
      cgroup: config.cgroup,
      filesDirectory,
      mounts: emptyVolumes({ application: application.name, volumes: application.volumes, filesDirectory }),
      clockOffsets: {
        monotonic: BigInt(monotonic) - parts.arrived.monotonic,
        boottime: BigInt(boottime) - parts.arrived.boottime,
      },
      exitKill: true,
    });
    try {
      const port = createPort(config, stage, true);
      const hold = OutputHold.open(port);
      hold.hold();
      prepareLookups();
      return new Clone(config, stage, port, hold, parts);
    } catch (error) {
      stage.destroy();
      throw error;
    }
  }

  get processes(): number {
    return this.#skeleton.processes.size;
  }

  /** Host pids. */
  get pids(): number[] {
    return [...this.#skeleton.processes.values()].map(({ pid }) => pid);
  }

  get newest(): CheckpointEnd | undefined {
    return this.#newest;
  }

  /** An operation as it comes. The first checkpoint is applied at once, piece by piece; later ones wait until they are old enough. */
  *operation(operation: Operation): Generator<void, void> {
    if (operation.op === "pages") {
      this.receivedBytes.value += operation.bytes.length;
      if (verifyPages(operation.bytes) < 0) throw damaged("a page stream that is not well-formed");
    }
    if (this.#newest && operation.op === "kept") throw damaged("memory of an earlier clone after the first checkpoint");
    this.#huge.note(operation);
    if (this.#newest) this.#operations.push(operation);
    else yield* this.#steps(operation);
  }

  /** The end of a checkpoint: checks that it is the next one. From here on it counts. */
  end(end: CheckpointEnd): void {
    if (end.version !== IMAGE_VERSION)
      throw new OperatingError(
        "image-version",
        `Checkpoint ${end.epoch} has image version ${end.version}, known is ${IMAGE_VERSION}`,
      );
    if (this.#newest && end.epoch <= this.#newest.epoch)
      throw damaged(`checkpoint ${end.epoch} after ${this.#newest.epoch}`);
    checkVersions(new Map(end.changed));
    this.checkPrograms(end.programs ?? []);
    const first = !this.#newest;
    // Before it counts.
    if (first) this.#skeleton.settleFiles();
    this.#huge.close(end.epoch, this.#appliedHuge(), first);
    this.#newest = end;
    if (first) this.#settle(end);
    else this.#held.push({ operations: this.#operations, end });
    this.#operations = [];
  }

  #appliedHuge(): HugeParts {
    const { processes, segments } = this.#skeleton;
    return { layouts: [...processes.values()].map(({ areas }) => areas), segments: segments.states() };
  }

  /** Of the primary's node's own files, those that this node lacks or has another version of. */
  differing(programs: readonly Program[]): Program[] {
    return differingPrograms(this.stage.rootFd, programs);
  }

  /** Those that a checkpoint maps and that can still be brought here: what the first maps is mapped by now. */
  lackingFor({ programs }: CheckpointEnd): Program[] {
    return this.#newest && programs ? this.differing(programs) : [];
  }

  /** Ahead of all that is held: nothing there knows of it yet. */
  takeProgram(part: ProgramPart): void {
    this.#programs.take(part);
  }

  /** @throws OperatingError `program-differs` */
  checkPrograms(programs: readonly Program[]): void {
    for (const program of this.differing(programs)) throw programDiffers(this.stage.rootFd, program);
  }

  /** Applies some of what is older than the checkpoints to keep; true: there is more. Call when nothing more urgent is to do. */
  applyOld(): boolean {
    const keep = Math.max(1, this.#config.application.keep);
    const sliceMs = Math.min(LONGEST_SLICE_MS, APPLY_SLICE_MS * Math.max(1, this.#held.length - keep));
    const until = performance.now() + sliceMs;
    while (this.#applying || this.#held.length >= keep) {
      this.#applying ??= this.#begin(this.#held.shift()!);
      if (!this.#applyUntil(until)) return true;
    }
    return false;
  }

  #begin({ operations, end }: Held): { end: CheckpointEnd; work: Generator<void, void> } {
    const steps = (operation: Operation) => this.#steps(operation);
    this.#huge.release();
    const work = (function* (): Generator<void, void> {
      for (const operation of operations) {
        yield;
        yield* steps(operation);
      }
    })();
    return { end, work };
  }

  /** Goes on with the checkpoint being applied; false: not to its end. */
  #applyUntil(until: number): boolean {
    const { work, end } = this.#applying!;
    while (!work.next().done) if (performance.now() > until) return false;
    this.#applying = undefined;
    this.#settle(end);
    this.#huge.applied(end.epoch, this.#appliedHuge());
    return true;
  }

  /** As `#applyUntil`, to the end. */
  *#applyRest(): Generator<void, void> {
    const { work, end } = this.#applying!;
    yield* work;
    this.#applying = undefined;
    this.#settle(end);
  }

  #apply(operation: Operation): void {
    for (const _pause of this.#steps(operation));
  }

  *#steps(operation: Operation): Generator<void, void> {
    this.#scratch.beforeLayout(operation);
    yield* this.#skeleton.steps(operation);
    if (operation.op === "file") this.#durable?.note(operation.change);
    release(operation);
  }

  #settle(end: CheckpointEnd): void {
    this.#skeleton.settleFiles();
    for (const [key, resource] of end.changed) this.#states.set(key, resource);
    for (const key of end.gone) this.#states.delete(key);
    this.#applied = end;
  }

  /** Applies all that there is and resolves when the disk has its files. */
  async makeDurable(): Promise<void> {
    while (this.#applying || this.#held[0]) {
      this.#applying ??= this.#begin(this.#held.shift()!);
      if (this.#applyUntil(performance.now() + APPLY_SLICE_MS)) continue;
      await nextTurn();
      if (this.#destroyed) return;
    }
    const { epoch, term, at } = this.#applied!;
    await this.#durable?.commit({ epoch, term, at });
  }

  checkpoints(): CheckpointSummary[] {
    const oldest = this.#applying?.end ?? this.#applied;
    const ends = [...(oldest ? [oldest] : []), ...this.#held.map((held) => held.end)];
    return ends.map(({ epoch, term, at, stopUs, pages, bytes }) => ({ epoch, term, at, stopUs, pages, bytes }));
  }

  /** Answers for the address from now on; what arrives is kept until the clone lives. */
  takeAddress(): void {
    this.#port.setPort("collecting");
    this.#port.announce();
  }

  /**
   * Brings the clone to life as of `epoch`. All threads stand still until `release` of the returned tracees. It pauses while nothing
   * of the application can be heard yet; in a pause nobody else may do anything with the clone.
   */
  *live(chosen: number): Generator<void, Living> {
    this.#huge.release();
    if (this.#numbers) this.#numbers.isRising = true;
    if (this.#applying) yield* this.#applyRest();
    // A durable clone may have applied a newer one whose files were still on their way to the disk: nobody was told of it.
    const epoch = this.#durable ? Math.max(chosen, this.#applied?.epoch ?? 0) : chosen;
    while (this.#held[0] && this.#held[0].end.epoch <= epoch) {
      this.#applying = this.#begin(this.#held.shift()!);
      yield* this.#applyRest();
    }
    this.#held = [];
    if (this.#applied?.epoch !== epoch)
      throw new OperatingError(
        "no-checkpoint",
        `Checkpoint ${epoch} is not held here (${this.#applied?.epoch ?? "none"} is)`,
      );
    this.#scratch.beforeLife(this.#states.values());
    phaseEnd("preRestore");
    const prepared = yield* prepare(this.stage, this.#skeleton, this.#states);
    const tracees = new Tracees(this.stage.init, false);
    for (const tid of prepared.tids) tracees.add(tid);
    tracees.adoptStopped(prepared.tids, prepared.ended, prepared.waits, prepared.halted);
    // What was collected is delivered last: acknowledgements of what the clone has not sent again yet would be thrown away.
    this.#port.setPort("speaking");
    for (const action of prepared.atLife) action();
    this.#port.setPort("forwarding");
    this.#skeleton.close();
    if (this.#disk) settle(this.#disk);
    phaseEnd("postRestore");
    const [misses, numbers] = [this.#numbers?.misses ?? [], this.#disk];
    return { stage: this.stage, tracees, port: this.#port, hold: this.#hold, epoch, numbers, misses };
  }

  destroy(): void {
    this.#destroyed = true;
    this.#applying?.work.return();
    this.#huge.release();
    this.#skeleton.close();
    this.#port.setPort("blocked");
    this.#hold.remove();
    this.stage.destroy();
    this.#disk?.close();
    this.#port.remove();
  }
}

/** A clone that lives shall not end for it. */
function settle(disk: InodeNumbers): void {
  try {
    settleDisk(disk.directory, disk);
  } catch (error) {
    process.stderr.write(`Numbers of inodes may be missed in the next switch: ${(error as Error).message}\n`);
  }
}

/** Tells which checkpoint of a durable application the files here are of, or of the one after. */
function durableRecordOf(config: InstanceConfig): string {
  return `${config.stateDirectory}/files/checkpoint.json`;
}

/** Looked up now, because it takes long; a kernel that has not all of it cannot keep some connections. */
function prepareLookups(): void {
  const lookups: Array<[what: string, lookUp: () => unknown]> = [
    ["not accepted yet", vouchingFunction],
    ["closed with bytes left to send", prepareReading],
  ];
  for (const [what, lookUp] of lookups) {
    try {
      lookUp();
    } catch (error) {
      process.stderr.write(`Connections ${what} will not survive a switch: ${(error as Error).message}\n`);
    }
  }
}

export function createPort(config: InstanceConfig, stage: Stage, restoring: boolean): ApplicationInterface {
  const { application, bridge } = config;
  return ApplicationInterface.create({
    application: application.name,
    initPid: stage.init,
    bridge,
    address: application.address,
    restoring,
    ...(application.gateway === undefined ? {} : { gateway: application.gateway }),
  });
}
