/**
 * What a checkpoint is made of: operations in the order in which a clone applies them, and an end that closes it. Operations
 * sent before the barrier (pre-copy) belong to the next end; a dump that is aborted leaves them there, nothing is lost.
 */
import type { FileOperation } from "../files/change.ts";
import type { Area } from "../resources/memory/layout.ts";
import type { ObjectOperation } from "../resources/nameless/state.ts";
import type { SegmentOperation } from "../resources/shm/state.ts";
import type { Program } from "../tree/programs.ts";
import type { KeptRun } from "./held-pages.ts";

/** Grows when an operation or the end changes its meaning. */
export const IMAGE_VERSION = 3;

export type Operation =
  /**
   * A process the clone does not have: pid, parent and session as the application sees them. Its memory begins empty.
   * `terminal`: the number of its controlling terminal, which it can have from its parent alone.
   */
  | { op: "process"; pid: number; parent: number; session: number; terminal?: number }
  /** A process that has ended, or whose memory is another since an exec (then `process` follows). */
  | { op: "process-end"; pid: number }
  /** The areas of its memory now; `fresh` ranges have no old content. */
  | { op: "layout"; pid: number; areas: Area[]; fresh: Array<[number, number]> }
  /** Ranges given back: zero again, or the file's content. */
  | { op: "drop"; pid: number; ranges: Array<[number, number]> }
  /** A page stream, see native/memory.cc. `release`: the bytes are free again (not part of what is sent). */
  | { op: "pages"; pid: number; bytes: Buffer; release?: () => void }
  /** In a clone's first checkpoint: pages that it has from an earlier time. */
  | { op: "kept"; pid: number; runs: KeptRun[] }
  /** System V shared memory, before the layouts of those who have it attached. */
  | SegmentOperation
  /** Files without a name, before the layouts of those who have them mapped. */
  | ObjectOperation
  /** One step of the application's files, before the layouts of the same checkpoint. */
  | FileOperation;

/** The operation has been taken or sent: the memory of what it carries may be used again. */
export function release(operation: Operation): void {
  if (operation.op === "pages") operation.release?.();
  else if (operation.op === "file" && operation.change.type === "write") operation.change.release?.();
}

/** A resource's state under its key, e.g. `thread/2/5`, `description/17`. */
export interface Resource {
  kind: string;
  version: number;
  state: unknown;
}

/** A process that has ended and waits for its parent to ask how: a resource of kind "zombie". */
export interface ZombieState {
  pid: number;
  parent: number;
  code: number;
  /** That ended it, or 0. */
  signal: number;
  group: number;
  session: number;
}

export interface CheckpointEnd {
  version: number;
  epoch: number;
  term: number;
  /** RFC 3339 */
  at: string;
  stopUs: number;
  /** Pages looked at that had been written; bytes of all operations. */
  pages: number;
  bytes: number;
  /** Resources that are new or not as in the previous checkpoint. */
  changed: Array<[string, Resource]>;
  gone: string[];
  /** Of the node's own files, those mapped that were not told of before. */
  programs?: Program[];
  /** Monotonic clock of the application at the instant, nanoseconds, for the clone's clock. */
  clock: string;
  /** The last checkpoint before a planned switch: the application stays stopped. */
  final: boolean;
}
