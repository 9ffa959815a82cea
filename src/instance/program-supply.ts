/** The primary's side of one standby: tells which of the node's own files are mapped, and sends those that the standby lacks. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { programParts } from "../files/program-file.ts";
import { OperatingError } from "../kernel/failure.ts";
import type { Link } from "../replication/link.ts";
import type { Program } from "../tree/programs.ts";

export class ProgramSupply {
  readonly #link: Link;
  readonly #rootFd: number;
  /** Nothing else of this node is sent on demand. */
  readonly #told = new Set<string>();
  #answered = Promise.withResolvers<void>();
  #failed: Error | undefined;

  /** @param rootFd of the application's root */
  constructor(link: Link, rootFd: number) {
    this.#link = link;
    this.#rootFd = rootFd;
  }

  /** Told with a checkpoint's end: an answer comes when the standby lacks some. */
  note(programs: readonly Program[]): void {
    for (const { path } of programs) this.#told.add(path);
  }

  /** Tells of them and resolves when the standby has them all. @throws when it is lost */
  async offer(programs: Program[]): Promise<void> {
    if (this.#failed) throw this.#failed;
    this.note(programs);
    this.#answered = Promise.withResolvers();
    this.#link.send({ type: "programs", programs });
    await this.#answered.promise;
  }

  /** The standby's answer. @throws OperatingError `clone-refuses` when it wants what it was not told of */
  async wanted(paths: readonly string[]): Promise<void> {
    const foreign = paths.find((path) => !this.#told.has(path));
    if (foreign !== undefined)
      throw new OperatingError("clone-refuses", `It asks for "${foreign}", which the application has not mapped`);
    for (const path of paths)
      for (const part of programParts(this.#rootFd, path)) {
        this.#link.send({ type: "program", part });
        await nextTurn();
        await this.#link.drained();
      }
    this.#link.send({ type: "programs-sent" });
    this.#answered.resolve();
  }

  /** No answer will come. */
  fail(error: Error): void {
    this.#failed = error;
    this.#answered.promise.catch(() => {});
    this.#answered.reject(error);
  }
}
