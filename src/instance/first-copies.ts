/** The whole application, to new standbys; beside the checkpoints that others get. One after the other. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Capture } from "../checkpoint/capture.ts";
import type { MemoryNewcomer } from "../checkpoint/held-pages.ts";
import { type Operation, release } from "../checkpoint/operations.ts";
import type { ProcessCapture } from "../checkpoint/process-capture.ts";
import type { FileCapture, FileNewcomer } from "../files/capture.ts";
import { clocksOf } from "../kernel/clocks.ts";
import { type Failure, OperatingError, toFailure } from "../kernel/failure.ts";
import { RateLimit } from "../replication/rate-limit.ts";
import type { Stage } from "../stage/stage.ts";
import { FirstCopy } from "./first-copy.ts";
import type { PrimaryShell } from "./primary-parts.ts";
import { ProgramSupply } from "./program-supply.ts";
import { residentBytes } from "./resident.ts";
import { type Greeting, greet, type StandbyLink } from "./standby-link.ts";
import type { Standbys } from "./standbys.ts";

/** After so long a first copy is given up whose processes do not stop to be watched. */
const ATTACH_LIMIT_MS = 10_000;
/** Between two tries to stop them. */
const RETRY_MS = 10;

export interface FirstCopiesOptions {
  shell: PrimaryShell;
  standbys: Standbys;
  capture: Capture;
  files: FileCapture;
  stage: Stage;
  /** Bytes a second of first copies, all together; 0: as fast as they go. */
  bytesPerSecond: number;
  /** Its first checkpoint is due. */
  onCopied: () => void;
}

export class FirstCopies {
  readonly #options: FirstCopiesOptions;
  /** Of all together. */
  readonly limit: RateLimit;
  /** Why the last one to a node failed, until one succeeds. */
  readonly failures = new Map<string, Failure>();
  /** The one that is under way. */
  #copying: Promise<void> = Promise.resolve();

  constructor(options: FirstCopiesOptions) {
    this.#options = options;
    this.limit = new RateLimit(options.bytesPerSecond);
  }

  synchronise(node: string, greeting: Greeting): Promise<void> {
    const copied = this.#copying.then(() => this.#firstCopy(node, greeting));
    this.#copying = copied;
    return copied;
  }

  async #firstCopy(node: string, greeting: Greeting): Promise<void> {
    const { standbys, shell, capture, stage, onCopied } = this.#options;
    const standby = standbys.links.get(node);
    if (!standby) return;
    try {
      const holds = await greet(standby, greeting, () => clocksOf(stage.init));
      if (standbys.links.get(node) !== standby) return;
      this.failures.delete(node);
      standbys.listenTo(standby);
      const copy = new FirstCopy(standby, this.limit);
      standby.copy = copy;
      standby.phase = "copying";
      standby.programs = new ProgramSupply(standby.link, stage.rootFd);
      // Beside others it hears at once of everything that is mapped.
      if (standbys.receivers.length > 0) await standby.programs.offer(capture.programs());
      await this.#copyAll(standby, copy, holds);
      standby.copy = undefined;
      standby.phase = "joining";
      this.failures.delete(node);
      this.#tellCopied(node, copy);
      onCopied();
    } catch (error) {
      standby.copy = undefined;
      // Another clone has taken its place: that one is not to suffer for it.
      if (standbys.links.get(node) !== standby) {
        this.#noteLoss(node);
        return;
      }
      const { message } = error as Error;
      this.failures.set(node, toFailure(error));
      shell.note("synchronisation-failed", `The first copy to "${node}" failed: ${message}`, { node });
      standbys.remove(node, message);
    }
  }

  /** In the midst of its first copy. */
  #noteLoss(node: string): void {
    const reason = this.#options.standbys.lost.get(node);
    if (reason === undefined) return;
    this.failures.set(node, {
      code: "standby-lost",
      message: `Standby "${node}" was lost as it was filled: ${reason}`,
    });
  }

  async #copyAll(standby: StandbyLink, copy: FirstCopy, holds: boolean): Promise<void> {
    const { capture, files, standbys } = this.#options;
    const alone = standbys.receivers.length === 0;
    if (alone) {
      capture.reset();
      files.reset();
    }
    const emit = (operation: Operation) =>
      standby.link.gather({ type: "operation", operation }, () => release(operation));
    if (!alone) {
      standbys.keepFiles(standby);
      await files.introduce(emit, copy.pause);
    }
    // One instant: what it is told of here, and what it gets from here on.
    standbys.receive(standby);
    capture.whole = true;
    if (!alone) for (const operation of capture.introduce()) emit(operation);
    const newcomer = newcomerOf(copy, emit, holds);
    await files.copyAll(newcomer, alone ? undefined : (operation) => standbys.broadcast(operation));
    copy.step = "memory";
    if (alone) await standby.programs!.offer(capture.programs());
    await this.#attachNew(copy.pause);
    const held = (await standby.held.complete()) ? standby.held : undefined;
    const pause = async () => {
      await held?.settled();
      await copy.pause();
    };
    for (const process of capture.captured()) await this.#copyMemory(process, copy, { alone, held, pause });
    // What was written while memory was copied.
    if (alone) await files.copyAll(newcomer);
  }

  /** As with any stop: threads that cannot stop just now are tried again. The application runs as long as it stands still. */
  async #attachNew(pause: () => Promise<void>): Promise<void> {
    const { capture } = this.#options;
    let begun = performance.now();
    for (;;) {
      try {
        for (const _pause of capture.attachNew()) {
          await sleep(capture.restMs);
          await pause();
          begun = performance.now();
        }
        return;
      } catch (error) {
        const isLate = error instanceof OperatingError && error.code === "barrier-timeout";
        if (!isLate || performance.now() - begun > ATTACH_LIMIT_MS) throw error;
        await sleep(RETRY_MS);
      }
    }
  }

  async #copyMemory(process: ProcessCapture, copy: FirstCopy, way: Omit<MemoryNewcomer, "progress">): Promise<void> {
    let left = residentBytes([process.pid]);
    copy.expect(left);
    const progress = (leftBytes: number, keptBytes: number) => {
      copy.progress(Math.max(0, left - leftBytes), keptBytes);
      left = Math.min(left, leftBytes);
    };
    await this.#options.capture.copyAll(process, { ...way, progress });
    copy.progress(left);
  }

  #tellCopied(node: string, copy: FirstCopy): void {
    const { seconds, bytes, sentBytes, keptBytes } = copy.summary();
    const text = `"${node}" has everything: ${megabytes(bytes)} in ${seconds.toFixed(1)} s, ${megabytes(sentBytes)} sent`;
    const kept = keptBytes > 0 ? `, ${megabytes(keptBytes)} were there` : "";
    this.#options.shell.note("synchronised", text + kept, { node, seconds, bytes, sentBytes, keptBytes });
  }
}

/** How the files know the standby that is filled. */
function newcomerOf(copy: FirstCopy, emit: (operation: Operation) => void, holds: boolean): FileNewcomer {
  return {
    emit,
    answers: copy.answers,
    holds,
    pause: copy.pause,
    progress: (bytes, kept) => copy.progress(bytes, kept),
    sentBytes: () => copy.sentBytes,
    expect: (files) => {
      copy.expect(files.reduce((sum, file) => sum + file.size, 0));
      return files;
    },
  };
}

const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
