/** A clone's first copy in a test: offers are answered at once, as if there were no network between. */
import { FileApply, type OfferedBlocks } from "../../../src/files/apply.ts";
import type { EmitOperation, FileCapture, FileNewcomer } from "../../../src/files/capture.ts";
import type { FileOperation } from "../../../src/files/change.ts";
import { Answers } from "../../../src/files/newcomer.ts";
import { Numbered } from "../../../src/files/numbered.ts";
import type { Lacking } from "../../../src/files/offer.ts";
import { forgetUnusedNames } from "../../../src/kernel/file-systems.ts";
import type { InodeNumbers } from "../../../src/stage/inode-numbers.ts";

export interface FillOptions {
  pause?: () => Promise<void>;
  /** To all clones, when there are others. */
  others?: EmitOperation;
}

export interface FillResult {
  /** Bytes of files, and those that the clone had of its own. */
  bytes: number;
  kept: number;
  /** Bytes of `write` operations. */
  written: number;
}

/** A clone's files; with `blocks` it has something of its own. */
export class TestClone {
  readonly apply: FileApply;
  readonly #answers = new Answers();
  readonly #holds: boolean;
  /** What others were told of while this one is told all names. */
  #kept: FileOperation[] | undefined;

  constructor(rootFd: number, blocks?: OfferedBlocks & { holds: boolean }, numbers?: InodeNumbers) {
    this.#holds = blocks?.holds ?? false;
    const numbered = numbers && new Numbered(numbers, { forget: () => forgetUnusedNames(rootFd) });
    const answer = (lacking: Lacking) => this.#answers.push(lacking);
    this.apply = new FileApply(rootFd, { blocks, numbered, answer, behindBytes: 1 });
  }

  /** As a standby takes what comes in: writes may be under way still. */
  #take(operation: FileOperation): void {
    for (const _pause of this.apply.steps(operation));
  }

  /** A step that all clones get. */
  take(operation: FileOperation): void {
    // Others have the same bytes, now or later, so that none may give them back.
    if (operation.change.type === "write") delete operation.change.release;
    if (this.#kept) this.#kept.push(operation);
    else this.apply.apply(operation);
  }

  /** Every name comes by itself: others do something after each. */
  async #introduce(capture: FileCapture, pause: () => Promise<void>): Promise<void> {
    const kept: FileOperation[] = [];
    this.#kept = kept;
    await capture.introduce((operation) => this.#take(operation), pause, 1);
    this.#kept = undefined;
    for (const operation of kept) this.#take(operation);
  }

  async fill(capture: FileCapture, { pause = async () => {}, others }: FillOptions = {}): Promise<FillResult> {
    const result = { bytes: 0, kept: 0, written: 0 };
    const newcomer: FileNewcomer = {
      emit: (operation: FileOperation) => {
        if (operation.change.type === "write") result.written += operation.change.bytes.length;
        this.#take(operation);
      },
      pause,
      answers: this.#answers,
      holds: this.#holds,
      progress: (bytes, kept) => {
        result.bytes += bytes;
        result.kept += kept;
      },
      sentBytes: () => result.written,
      expect: (files) => files,
    };
    if (others) await this.#introduce(capture, pause);
    await capture.copyAll(newcomer, others);
    this.apply.settle();
    return result;
  }
}
