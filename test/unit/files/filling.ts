/** A clone's first copy in a test: offers are answered at once, as if there were no network between. */
import { FileApply, type OfferedBlocks } from "../../../src/files/apply.ts";
import type { EmitOperation, FileCapture, FileNewcomer } from "../../../src/files/capture.ts";
import type { FileOperation } from "../../../src/files/change.ts";
import { Answers } from "../../../src/files/newcomer.ts";

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

  constructor(rootFd: number, blocks?: OfferedBlocks & { holds: boolean }) {
    this.#holds = blocks?.holds ?? false;
    this.apply = new FileApply(rootFd, { blocks, answer: (lacking) => this.#answers.push(lacking) });
  }

  async fill(capture: FileCapture, { pause = async () => {}, others }: FillOptions = {}): Promise<FillResult> {
    const result = { bytes: 0, kept: 0, written: 0 };
    const newcomer: FileNewcomer = {
      emit: (operation: FileOperation) => {
        if (operation.change.type === "write") result.written += operation.change.bytes.length;
        this.apply.apply(operation);
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
    if (others) for (const operation of capture.introduce()) this.apply.apply(operation);
    await capture.copyAll(newcomer, others);
    return result;
  }
}
