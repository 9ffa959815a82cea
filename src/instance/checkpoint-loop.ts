/** When the primary takes checkpoints, one being made at a time, and what becomes of a stop that fails. */
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import type { Capture } from "../checkpoint/capture.ts";
import type { CheckpointEnd } from "../checkpoint/operations.ts";
import { dueAt, noCheckpoint, type PeriodOptions, periodDefaults, taken } from "../checkpoint/period.ts";
import { phaseEnd } from "../checkpoint/phases.ts";
import { Alarm } from "../kernel/alarm.ts";
import { OperatingError } from "../kernel/failure.ts";
import { markTcpHandshakes } from "../resources/tcp/index.ts";
import type { Figures } from "./figures.ts";
import type { OutputCommit } from "./output-commit.ts";
import type { PrimaryParts, PrimaryShell } from "./primary-parts.ts";
import type { StandbyLink } from "./standby-link.ts";
import type { Standbys } from "./standbys.ts";
import type { UnderWay } from "./under-way.ts";
import type { Wakefulness } from "./wakefulness.ts";

/** After a stop that came between a client's first words and their hearing: the next try, and how often. */
const POSTPONED_MS = 1;
const MOST_POSTPONED = 20;
/** After a stop that failed: the next try; ever later while threads do not stop, or the application would stand still. */
const RETRY_MS = 10;
const LATEST_RETRY_MS = 200;
/** So long without a checkpoint because threads do not stop: the operator is told. */
const LATE_MS = 1000;
/** So long a planned switch tries to stop all threads. */
const FINAL_MS = 3000;
/**
 * So many checkpoints may wait for acknowledgements at a time: while one is on its way, the application goes on with what came
 * since, and the next begins.
 */
const MOST_UNDER_WAY = 2;
/** As long as the application uses what cannot be copied: each try stops it for nothing. */
const UNPROTECTABLE_RETRY_MS = 200;

export interface LoopOptions {
  parts: PrimaryParts;
  shell: PrimaryShell;
  standbys: Standbys;
  underWay: UnderWay;
  wakefulness: Wakefulness;
  output: OutputCommit;
  capture: Capture;
  figures: Figures;
}

export class CheckpointLoop {
  readonly #options: LoopOptions;
  #period: PeriodOptions = periodDefaults;
  #last = noCheckpoint;
  /** Packets that the last cut covers. */
  #covered = 0;
  /** The checkpoint that is being made, up to its dump. */
  #making: Promise<void> = Promise.resolve();
  #closed = false;
  #crashed = false;
  /** A probe talks to the application: its end of a unix socket is not the application's, and gone in a moment. */
  isVisited = false;
  readonly #alarm = new Alarm();
  #endPause: () => void = () => {};
  #lastFailure = "";
  #failedInARow = 0;
  /** Planned switches begun. */
  #handOvers = 0;
  /** Stops in a row that were given up for data on connections that nobody had accepted. */
  #postponed = 0;

  constructor(options: LoopOptions) {
    this.#options = options;
    this.configure();
  }

  /** The specification's period, as it is now. */
  configure(): void {
    const { period, commit } = this.#options.parts.application;
    // Where no output waits, none tells that something has happened.
    const longestIdleMs = periodDefaults[commit === "none" ? "idleMs" : "longestIdleMs"];
    this.#period = { ...periodDefaults, period, longestIdleMs };
  }

  /** Until `close`. */
  async run(): Promise<void> {
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
        await new Promise((resolve) => setTimeout(resolve, late ? POSTPONED_MS : this.#retryMs()));
      }
    }
  }

  /** Something has happened that a checkpoint may be due for. */
  wake(): void {
    this.#endPause();
  }

  /** Resolves when the checkpoint that is being made is, or has failed. */
  made(): Promise<void> {
    return this.#making.catch(() => {});
  }

  /** The application has crashed: from now on no stop takes anything. */
  giveUp(): void {
    this.#crashed = true;
  }

  /** The last checkpoint before a planned switch; the application stays stopped. */
  async final(): Promise<void> {
    const { output, underWay, shell } = this.#options;
    const handOver = ++this.#handOvers;
    const isOff = () => handOver !== this.#handOvers || !output.isFrozen;
    output.isFrozen = true;
    try {
      await this.made();
      await underWay.settledAll();
      phaseEnd("preSwitch");
      await this.#untilFinal(isOff);
      phaseEnd("switch");
    } catch (error) {
      if (isOff()) return;
      output.isFrozen = false;
      shell.tell({ kind: "handOverFailed", reason: (error as Error).message });
    }
  }

  /** Threads that cannot stop just now (in vfork, say) can a moment later: no reason to stay. */
  async #untilFinal(isOff: () => boolean): Promise<void> {
    const begun = performance.now();
    for (;;) {
      try {
        await this.#checkpoint(true, isOff);
        this.#failedInARow = 0;
        return;
      } catch (error) {
        const late = isPostponed(error);
        if (!late && !(isBarrier(error) && performance.now() - begun < FINAL_MS)) throw error;
        await new Promise((resolve) => setTimeout(resolve, late ? POSTPONED_MS : this.#retryMs()));
      }
    }
  }

  close(): void {
    this.#closed = true;
    this.#endPause();
    this.#alarm.close();
  }

  #retryMs(): number {
    if (this.#options.output.unprotectable) return UNPROTECTABLE_RETRY_MS;
    return Math.min(LATEST_RETRY_MS, RETRY_MS * 2 ** this.#failedInARow++);
  }

  /** Milliseconds until the next checkpoint; Infinity when something must happen first. */
  #waitMs(): number {
    const { output, underWay, wakefulness, standbys } = this.#options;
    const isFull = underWay.count >= (wakefulness.wasSilent ? 1 : MOST_UNDER_WAY);
    if (output.isFrozen || isFull || standbys.ready().length === 0) return Number.POSITIVE_INFINITY;
    if (standbys.joining().length > 0 || underWay.isRequested) return 0;
    const waiting = output.waiting ?? (wakefulness.isStale ? output.held : undefined);
    return dueAt(this.#last, waiting, this.#period) - performance.now();
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      if (ms < Number.POSITIVE_INFINITY) this.#alarm.set(ms, () => this.#endPause());
      this.#endPause = () => {
        if (ms < Number.POSITIVE_INFINITY) this.#alarm.clear();
        this.#endPause = () => {};
        resolve();
      };
    });
  }

  #stopFailed(error: Error): void {
    const { output, underWay, shell } = this.#options;
    const code = error instanceof OperatingError ? error.code : "checkpoint-failed";
    if (this.isVisited && code.startsWith("unprotectable-")) return;
    if (error instanceof OperatingError && code.startsWith("unprotectable-")) {
      output.refused(error);
      underWay.refuse(error);
    }
    // A thread that cannot stop just now (it waits for its vfork's child), or woke up, is nothing to tell, unless it goes on.
    if (isBarrier(error) && performance.now() - this.#last.lastStart < LATE_MS) return;
    if (code === this.#lastFailure) return;
    this.#lastFailure = code;
    shell.note(code, `No checkpoint could be taken: ${error.message}${output.consequence()}`);
  }

  /** One checkpoint, up to its last byte handed to the network. */
  async #checkpoint(final: boolean, isOff = () => false): Promise<void> {
    const { parts, shell, standbys, underWay, wakefulness, output, capture, figures } = this.#options;
    const begun = performance.now();
    for (const _pause of capture.preDump()) {
      await (capture.restMs > 0 ? sleep(capture.restMs) : nextTurn());
      for (const standby of standbys.receivers) await standby.link.drained();
      if (this.#closed) return;
    }
    // Nobody left to take it for: what was copied belongs to nobody.
    if (standbys.ready().length === 0) return;
    // Resumed meanwhile: nobody would let go what is stopped now for good.
    if (isOff()) throw new Error("The planned switch is off");
    const joining = standbys.joining();
    const { end, all, programs } = capture.dump((epoch) => this.#cut(epoch, final), final, parts.term);
    this.#last = taken(this.#last, begun, end, this.#covered);
    this.#lastFailure = "";
    this.#failedInARow = 0;
    output.protectableAgain();
    const receivers = standbys.ready();
    const waiting = new Set(receivers.map((standby) => standby.node));
    underWay.add({ epoch: end.epoch, begun, sentAt: performance.now(), end, waiting });
    wakefulness.sending(end.epoch);
    const whole = (): CheckpointEnd => ({ ...end, changed: all(), gone: [], programs: programs() });
    for (const standby of receivers) {
      const told = joining.includes(standby) ? whole() : end;
      standby.programs?.note(told.programs ?? []);
      standby.link.send({ type: "end", end: told, digest: 0 });
      standby.phase = "following";
    }
    if (joining.length && standbys.receivers.every(isFollowing)) capture.whole = false;
    underWay.serve(end.epoch);
    figures.checkpoint(end);
    if (final) shell.tell({ kind: "finalCheckpointCut", epoch: end.epoch });
  }

  /** First of all in the stop. */
  #cut(epoch: number, final: boolean): void {
    const { output, shell } = this.#options;
    if (this.#crashed) throw new OperatingError("application-crashed", "The application has crashed");
    const newest = output.drain();
    if (markTcpHandshakes() > 0 && this.#postponed++ < MOST_POSTPONED) throw postponed();
    this.#postponed = 0;
    this.#covered = output.mark(epoch, newest);
    if (!final) shell.tell({ kind: "epochCut", epoch });
  }
}

const isFollowing = ({ phase }: StandbyLink) => phase === "following";

/** The barrier could not be made this time. */
function isBarrier(error: unknown): boolean {
  return error instanceof OperatingError && error.code.startsWith("barrier-");
}

function postponed(): OperatingError {
  return new OperatingError("checkpoint-postponed", "Connections that are not accepted yet have data waiting");
}

function isPostponed(error: unknown): boolean {
  return error instanceof OperatingError && error.code === "checkpoint-postponed";
}
