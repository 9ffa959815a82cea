/** The primary's standbys: who is connected, who was lost, who gets checkpoints, and whether each is fast enough. */
import { type Operation, release } from "../checkpoint/operations.ts";
import type { FileOperation } from "../files/change.ts";
import { OperatingError } from "../kernel/failure.ts";
import type { Message } from "../replication/frames.ts";
import { acknowledged, judge, SlowPauses } from "../replication/pace.ts";
import type { LossKind } from "./loss.ts";
import type { OutputCommit } from "./output-commit.ts";
import type { PrimaryParts, PrimaryShell } from "./primary-parts.ts";
import type { StandbyLink } from "./standby-link.ts";
import type { UnderWay } from "./under-way.ts";
import type { Wakefulness } from "./wakefulness.ts";

export interface StandbysOptions {
  parts: PrimaryParts;
  shell: PrimaryShell;
  output: OutputCommit;
  underWay: UnderWay;
  wakefulness: Wakefulness;
  /** A checkpoint may be complete by it, or begin. */
  onSettled: () => void;
  onLost: () => void;
}

export class Standbys {
  readonly #options: StandbysOptions;
  readonly links = new Map<string, StandbyLink>();
  /** Standbys that were connected and are not any more, and why. */
  readonly lost = new Map<string, string>();
  readonly #slowPauses = new SlowPauses();
  #receivers: readonly StandbyLink[] = [];
  /** Changes of files that a standby gets as soon as it has the names of those before. */
  readonly #kept = new Map<StandbyLink, FileOperation[]>();

  constructor(options: StandbysOptions) {
    this.#options = options;
  }

  /** Those that get operations as they are made. */
  get receivers(): readonly StandbyLink[] {
    return this.#receivers;
  }

  /** Those that a checkpoint taken now would be for. */
  ready(): StandbyLink[] {
    return this.#receivers.filter((standby) => standby.phase === "following" || standby.phase === "joining");
  }

  /** Those of them whose first checkpoint it would be. */
  joining(): StandbyLink[] {
    return this.#receivers.filter((standby) => standby.phase === "joining");
  }

  broadcast(operation: Operation): void {
    const isKept = operation.op === "file" && this.#kept.size > 0;
    if (isKept) for (const kept of this.#kept.values()) kept.push(operation);
    let left = this.#receivers.length;
    const written = () => {
      if (--left <= 0 && !isKept) release(operation);
    };
    if (left === 0) written();
    for (const standby of this.#receivers) standby.link.send({ type: "operation", operation }, written);
  }

  /** A greeted standby; it waits until the view machine says `synchronise`. */
  add(standby: StandbyLink): void {
    const { node } = standby;
    const before = this.links.get(node);
    // Lost like any other: a checkpoint would wait for what nobody acknowledges any more.
    if (before) this.#lose(before, "another clone of it is connected", "goodbye");
    this.links.set(node, standby);
    this.lost.delete(node);
    standby.alive();
    this.listenTo(standby);
    this.#options.shell.note("standby-connected", `Standby "${node}" is connected`, { node });
    this.#options.shell.tell({ kind: "standbyConnected", node });
  }

  listenTo(standby: StandbyLink): void {
    standby.link.onMessage = (message) => this.#receive(standby, message);
    standby.link.onClose = (error) =>
      this.#lose(standby, error?.message ?? "the connection ended", error ? "failed" : "closed");
  }

  /** From now on, changes of files are kept for it until it receives. */
  keepFiles(standby: StandbyLink): void {
    this.#kept.set(standby, []);
  }

  /** It gets what was kept for it, and from now on operations as they are made. */
  receive(standby: StandbyLink): void {
    for (const operation of this.#kept.get(standby) ?? []) standby.link.send({ type: "operation", operation });
    this.#kept.delete(standby);
    this.#receivers = [...this.#receivers, standby];
  }

  remove(node: string, reason: string): void {
    const standby = this.links.get(node);
    if (!standby) return;
    standby.link.goodbye(reason);
    this.#lose(standby, reason, "goodbye");
    this.lost.delete(node);
  }

  #lose(standby: StandbyLink, reason: string, how: LossKind): void {
    const { node } = standby;
    if (this.links.get(node) !== standby) return;
    this.links.delete(node);
    standby.link.close();
    const lost = new OperatingError("standby-lost", `Standby "${node}" is lost: ${reason}`);
    standby.copy?.answers.fail(lost);
    standby.programs?.fail(lost);
    standby.held.gone();
    this.lost.set(node, reason);
    this.#receivers = this.#receivers.filter((other) => other !== standby);
    this.#kept.delete(standby);
    this.#options.onLost();
    this.#options.shell.note("standby-lost", `Standby "${node}" is lost: ${reason}`, { node, how });
    this.#options.shell.tell({ kind: "standbyLost", node });
    this.#settle(node, Number.POSITIVE_INFINITY);
  }

  #receive(standby: StandbyLink, message: Message): void {
    this.#options.wakefulness.look();
    standby.alive();
    if (message.type === "acknowledged") {
      const { term, epoch } = message;
      standby.acknowledgedEpoch = epoch;
      const sentAt = this.#options.underWay.sentAt(epoch);
      if (sentAt !== undefined) standby.pace = acknowledged(standby.pace, performance.now() - sentAt);
      standby.acknowledgedAt = performance.now();
      this.#options.shell.tell({ kind: "acknowledged", node: standby.node, term, epoch });
      this.#settle(standby.node, epoch);
    } else if (message.type === "lacking") standby.copy?.answers.push(message.lacking);
    else if (message.type === "programs-wanted") this.#sendPrograms(standby, message.paths);
    else if (message.type === "held" || message.type === "took") standby.held.hear(message);
    else if (message.type === "rising") this.#options.shell.rising(standby.node, message.term);
    else if (message.type === "goodbye") this.#lose(standby, message.reason, "goodbye");
  }

  #sendPrograms(standby: StandbyLink, paths: string[]): void {
    standby.programs?.wanted(paths).catch((error: Error) => {
      standby.link.goodbye(error.message);
      this.#lose(standby, error.message, "goodbye");
    });
  }

  #settle(node: string, epoch: number): void {
    this.#options.underWay.settle(node, epoch);
    this.#options.onSettled();
  }

  /** @param isBeat whether a heartbeat is due */
  tick(now: number, isBeat: boolean): void {
    for (const standby of [...this.links.values()]) {
      if (standby.phase === "greeting") continue;
      if (isBeat) standby.link.send({ type: "heartbeat" });
      if (standby.suspected()) this.#lose(standby, "it gives no sign of life", "silent");
      else this.#judgePace(standby, now);
    }
  }

  /** One that is too slow is not waited for any more; not where output would have to wait for it all the same. */
  #judgePace(standby: StandbyLink, now: number): void {
    const { parts, output, underWay } = this.#options;
    if (standby.phase !== "following" || output.isFrozen) return;
    const others = this.#receivers.filter((other) => other !== standby && other.phase === "following");
    const paces = others.map(({ pace }) => pace);
    const { pace, slow } = judge(standby.pace, underWay.debtOf(standby), paces, now);
    standby.pace = pace;
    const { minInSync, onTooFew } = parts.application;
    if (slow === undefined || (onTooFew === "hold" && others.length < minInSync)) return;
    this.#slowPauses.begin(standby.node, now);
    const reason = slow === "stuck" ? "it acknowledges too late" : "it is much slower than the others";
    standby.link.goodbye(reason);
    this.#lose(standby, reason, "slow");
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

  close(reason: string): void {
    for (const standby of this.links.values()) {
      standby.link.goodbye(reason);
      standby.held.gone();
    }
    this.links.clear();
    this.#receivers = [];
  }
}
