/**
 * The hot clone before it lives: real processes and threads with the application's pids, all stopped, their memory laid out
 * and filled as checkpoints come. Ends with this process until it is brought to life.
 */

import type { KeptRun } from "../checkpoint/held-pages.ts";
import type { Operation } from "../checkpoint/operations.ts";
import { FileApply, type FileApplyOptions } from "../files/apply.ts";
import { closeDescriptor } from "../kernel/calls.ts";
import { OperatingError } from "../kernel/failure.ts";
import { Objects } from "../resources/nameless/objects.ts";
import { Segments } from "../resources/shm/segments.ts";
import type { Stage } from "../stage/stage.ts";
import { Areas } from "./areas.ts";
import { Births } from "./births.ts";
import type { CloneNumbers } from "./clone-numbers.ts";
import type { EarlierMemory } from "./earlier-memory.ts";
import { PageWriter } from "./page-writer.ts";
import type { SkeletonProcess } from "./skeleton-process.ts";
import { Terminals } from "./terminals.ts";
import { Window } from "./window.ts";

export interface SkeletonParts {
  /** Memory of an earlier clone. */
  earlier?: EarlierMemory | undefined;
  /** The clone has a disk of its own. */
  numbers?: CloneNumbers | undefined;
}

export class Skeleton {
  readonly stage: Stage;
  readonly processes = new Map<number, SkeletonProcess>();
  readonly #files: FileApply;
  readonly #earlier: EarlierMemory | undefined;
  /** System V shared memory. */
  readonly segments: Segments;
  /** Files without a name, and memory that several mappings or processes share. */
  readonly objects: Objects;
  readonly terminals: Terminals;
  readonly #window = new Window();
  readonly #births: Births;
  readonly #areas: Areas;
  readonly #pages = new PageWriter(this.#window);

  /** Of a clone on a disk of its own. */
  readonly #numbers: CloneNumbers | undefined;

  /** @param earlier memory of an earlier clone, which the first checkpoint may name pages of; it stays the caller's */
  constructor(stage: Stage, files: Omit<FileApplyOptions, "numbered"> = {}, parts: SkeletonParts = {}) {
    const { earlier, numbers } = parts;
    this.#numbers = numbers;
    this.stage = stage;
    this.#earlier = earlier;
    this.terminals = new Terminals(stage.rootFd);
    this.segments = new Segments(stage.ipcFd);
    this.objects = new Objects(stage.rootFd, (id) => this.#isMapped(id), numbers);
    const numbered = numbers?.files((inode) => this.objects.letGo(inode));
    this.#files = new FileApply(stage.rootFd, { ...files, numbered });
    const { terminals, processes, segments, objects } = this;
    this.#births = new Births(stage, terminals, processes, (virtualPid) => this.process(virtualPid));
    this.#areas = new Areas({ rootFd: stage.rootFd, segments, objects, window: this.#window });
  }

  process(virtualPid: number): SkeletonProcess {
    const process = this.processes.get(virtualPid);
    if (!process)
      throw new OperatingError(
        "checkpoint-inconsistent",
        `The checkpoint names process ${virtualPid}, which it never made`,
      );
    return process;
  }

  /** As `steps`, in one go. */
  apply(operation: Operation): void {
    for (const _pause of this.steps(operation));
  }

  /** Takes an operation; what takes long has pauses for other work, but for other operations. */
  *steps(operation: Operation): Generator<void, void> {
    switch (operation.op) {
      case "process":
        this.#births.make(operation);
        return;
      case "process-end":
        this.#births.end(operation.pid);
        this.objects.settle();
        return;
      case "layout":
        this.#areas.layOut(this.process(operation.pid), operation.areas, operation.fresh);
        this.objects.settle();
        return;
      case "drop":
        this.#areas.drop(this.process(operation.pid), operation.ranges);
        return;
      case "file":
        yield* this.#files.steps(operation);
        return;
      case "segment":
      case "segment-bytes":
      case "segment-end":
        this.segments.apply(operation);
        return;
      case "object":
      case "object-bytes":
      case "object-hole":
      case "object-end":
        this.objects.apply(operation);
        return;
      case "kept":
        this.#pages.write(this.process(operation.pid), this.#takeEarlier(operation.runs));
        return;
      case "pages":
        this.#pages.write(this.process(operation.pid), operation.bytes);
        return;
    }
  }

  /** Waits until the steps taken so far are in the files. @throws SystemCallError for the first that could not be taken */
  settleFiles(): void {
    this.#files.settle();
  }

  #isMapped(id: string): boolean {
    for (const { areas } of this.processes.values())
      if (areas.some(({ backing }) => (backing.type === "shared" || backing.type === "file") && backing.id === id))
        return true;
    return false;
  }

  #takeEarlier(runs: KeptRun[]): Buffer {
    if (this.#earlier) return this.#earlier.stream(runs);
    throw new OperatingError(
      "checkpoint-inconsistent",
      "The checkpoint names memory of an earlier clone; there was none",
    );
  }

  /** See `CreateContext.numbered`. */
  numbered<T>(path: string, inode: number, make: () => T): T {
    return this.#numbers ? this.#numbers.make(path, inode, make) : make();
  }

  /** Makes and ends threads until each process has those given (the leader is always there). */
  setThreads(wanted: Map<number, Set<number>>): void {
    this.#births.setThreads(wanted);
  }

  /** The window is not the application's: it goes before life. */
  unmapWindow(process: SkeletonProcess): void {
    if (process.window) this.#window.unmapFrom(process.remote);
    process.window = false;
  }

  close(): void {
    this.#files.close();
    this.terminals.close();
    this.segments.release();
    this.objects.release();
    this.#window.close();
    for (const process of this.processes.values()) closeDescriptor(process.memoryFd);
    this.processes.clear();
  }
}
