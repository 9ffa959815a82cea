/** The standby's part of an instance: a clone, the stream that feeds it, and the eye on the primary. */
import type { Operation } from "../checkpoint/operations.ts";
import { phaseEnd } from "../checkpoint/phases.ts";
import type { EarlierMemory } from "../clone/earlier-memory.ts";
import type { RestartOrder } from "../cluster/restart.ts";
import type { View } from "../cluster/spec.ts";
import { type ClusterStore, storeKeys } from "../cluster/store.ts";
import { KeptFiles, putAside } from "../files/kept.ts";
import type { Lacking } from "../files/offer.ts";
import { type Clocks, ownClocks } from "../kernel/clocks.ts";
import { diskFull } from "../kernel/disk-full.ts";
import { OperatingError, toFailure } from "../kernel/failure.ts";
import type { Message } from "../replication/frames.ts";
import type { Link } from "../replication/link.ts";
import type { InodeNumbers } from "../stage/inode-numbers.ts";
import { diskForClone } from "./disk.ts";
import type { LossKind } from "./loss.ts";
import { MemoryKept } from "./memory-kept.ts";
import { PrimaryWatch } from "./primary-watch.ts";
import { ProgramWait } from "./program-wait.ts";
import { filesDirectoryOf, type InstanceShell } from "./shell.ts";
import { inSlices } from "./slices.ts";
import { Clone, type Living } from "./standby.ts";
import { STANDBY_HEARTBEAT_MS, TICK_MS } from "./standby-link.ts";
import type { Asking } from "./stream-server.ts";

/** A clone that comes to life in less does so in one go; one that takes longer gives a sign of life so often. */
const RISING_SLICE_MS = 100;

/** What there is before there is a clone. */
interface Ground {
  kept: KeptFiles;
  /** Of its own disk, if it has one. */
  numbers: InodeNumbers | undefined;
}

function leaveGround({ kept, numbers }: Ground): void {
  kept.close();
  numbers?.close();
}

export class StandbyRole {
  readonly #shell: InstanceShell;
  #isRestart = false;
  readonly #store: ClusterStore;
  readonly watch: PrimaryWatch;
  /** The last checkpoint's way to the disk. */
  #onDisk: Promise<void> = Promise.resolve();
  #clone: Clone | undefined;
  #programs: ProgramWait | undefined;
  /** What earlier clones here had, until this one is in sync. */
  #kept: KeptFiles | undefined;
  #applySoon = false;
  /** The stream from the primary, once accepted. */
  #upstream: Link | undefined;
  #ticks = 0;

  /** A clone failed here for a reason of its own. */
  worn = false;

  constructor(shell: InstanceShell, store: ClusterStore) {
    this.#shell = shell;
    this.#store = store;
    this.watch = new PrimaryWatch(shell.view, (node, silence) =>
      shell.note("primary-silent", `The primary on "${node}" gives no sign of life`, {
        node,
        how: "silent",
        ...silence,
      }),
    );
  }

  readonly #memory = new MemoryKept();
  /** A stream that was greeted and waits until what was here before is out of its way. */
  #asking: Asking | undefined;
  #cleared: Promise<void> = Promise.resolve();

  get clone(): Clone | undefined {
    return this.#clone;
  }

  acknowledge(term: number, epoch: number): void {
    this.#upstream?.send({ type: "acknowledged", term, epoch });
  }

  /** Nothing of the stream counts from here on. */
  seal(): void {
    this.#upstream?.close();
    this.#upstream = undefined;
  }

  tick(): void {
    if (this.#ticks++ % (STANDBY_HEARTBEAT_MS / TICK_MS) === 0)
      (this.#upstream ?? this.#asking?.link)?.send({ type: "heartbeat" });
    this.watch.tick(this.#upstream);
  }

  /**
   * The clone of a checkpoint comes to life; undefined when there is none, or when it could not. What takes long is told to the old
   * primary, where that stands aside and can still be reached: nothing of the stream counts any more, but it hears of its end.
   */
  live(term: number, epoch: number): Living | undefined | Promise<Living | undefined> {
    const clone = this.#clone;
    if (!clone) return undefined;
    const old = this.#upstream;
    this.#upstream = undefined;
    old?.deafen();
    this.watch.stop();
    this.#clone = undefined;
    return inSlices(this.#rise(clone, epoch, old), RISING_SLICE_MS, () => old?.send({ type: "rising", term }));
  }

  *#rise(clone: Clone, epoch: number, old: Link | undefined): Generator<void, Living | undefined> {
    try {
      clone.takeAddress();
      return yield* clone.live(epoch);
    } catch (error) {
      this.worn = true;
      this.#shell.note("go-live-failed", `The clone could not be brought to life: ${(error as Error).message}`);
      clone.destroy();
      phaseEnd("abortRestore");
      return undefined;
    } finally {
      old?.close();
    }
  }

  /** The stream that asks is the one to follow; the clone begins anew, when what was here before is out of its way. */
  accept(asking: Asking): void {
    this.seal();
    this.#asking = asking;
    void this.#begin(asking, ownClocks());
  }

  async #begin(asking: Asking, arrived: Clocks): Promise<void> {
    this.#isRestart = false;
    this.#after(() => this.#retire());
    const ground = this.#cleared.then(() => (this.#asking === asking ? this.#prepare() : undefined));
    this.#cleared = ground.then(
      () => {},
      () => {},
    );
    const { link, hello } = asking;
    // What failed is told where it would be used.
    await this.#cleared;
    if (this.#asking !== asking || link.isClosed) {
      if (this.#asking === asking) this.#asking = undefined;
      void ground.then((unused) => unused && leaveGround(unused)).catch(() => {});
      return;
    }
    this.#asking = undefined;
    try {
      const { kept, numbers } = (await ground)!;
      this.#kept = kept;
      const answer = (lacking: Lacking) => link.send({ type: "lacking", lacking });
      const files = { blocks: kept, answer };
      const clone = Clone.create(this.#shell.config, { hello, arrived, files, numbers, earlier: this.#memory.held });
      this.#clone = clone;
      this.#programs = new ProgramWait(clone, (paths) => link.send({ type: "programs-wanted", paths }));
    } catch (error) {
      this.worn = true;
      this.#kept?.close();
      this.#kept = undefined;
      void ground.then((unused) => unused?.numbers?.close()).catch(() => {});
      const { config } = this.#shell;
      const failure = toFailure(diskFull(error, config.node, config.stateDirectory));
      this.#shell.note("clone-failed", `No clone could be made: ${(error as Error).message}`);
      link.send({ type: "refused", reason: (error as Error).message, failure });
      link.goodbye("refused");
      return;
    }
    this.#upstream = link;
    link.onMessage = (message) => this.#receive(link, hello.term, message);
    link.onClose = (error) => this.#upstreamLost(link, error);
    link.send({ type: "accepted", holds: this.#kept.holds, memory: this.#memory.held !== undefined });
    void this.#memory.tell(link, hello.key);
    this.watch.follow(hello.node, hello.term);
  }

  /** What a clone begins on. @throws OperatingError `disk-no-room`, `disk-not-made` */
  async #prepare(): Promise<Ground> {
    const { config } = this.#shell;
    let kept = await KeptFiles.open(config.keptDirectory);
    try {
      const numbers = await diskForClone(config, async () => {
        await kept.remove();
        kept = await KeptFiles.open(config.keptDirectory);
      });
      return { kept, numbers };
    } catch (error) {
      kept.close();
      throw error;
    }
  }

  /** One after the other. */
  #after(work: () => Promise<void>): void {
    this.#cleared = this.#cleared.then(work).catch((error: Error) => {
      this.#shell.note("memory-not-kept", `Memory that was here cannot be kept for the next clone: ${error.message}`);
    });
  }

  /** The application ends here just now: what it had in memory may spare the next clone a copy. */
  inherit(leaving: Promise<EarlierMemory | undefined>): void {
    this.#after(async () => this.#memory.replace(await leaving));
  }

  /** The clone that is here goes; the next one takes from it what is still right. */
  async #retire(): Promise<void> {
    const clone = this.#clone;
    if (!clone) return;
    // One that was never whole has less than what it was to be made of.
    if (clone.newest || !this.#memory.held) await this.#memory.putAside(clone.pids, () => this.#clone === clone);
    if (this.#clone === clone) this.#dropClone();
  }

  /** Handles a message; what takes long in pieces. */
  *#receive(link: Link, term: number, message: Message): Generator<void, void> {
    if (this.#upstream !== link) return;
    this.watch.beat();
    let waits = false;
    if (!this.#orGiveUp(() => (waits = this.#programs!.holds(message))) || waits) return;
    switch (message.type) {
      case "operation":
        yield* this.#take(this.#clone!, message.operation);
        if (message.operation.op === "kept") link.send({ type: "took" });
        return;
      case "end":
        if (!this.#orGiveUp(() => this.#clone!.end(message.end))) return;
        this.#endReceived(term, message.end.epoch);
        return;
      case "programs":
        this.#orGiveUp(() => this.#programs!.told(message.programs));
        return;
      case "program":
        this.#orGiveUp(() => this.#programs!.part(message.part));
        return;
      case "programs-sent":
        yield* this.#programsSent(link, term);
        return;
      case "restart":
        this.#restart(message.order);
        return;
      case "go-live":
        void this.#readView();
        return;
      case "goodbye":
        this.#upstreamClosed(link, message.reason, "goodbye");
        return;
    }
  }

  /** What waited for the programs goes on. */
  *#programsSent(link: Link, term: number): Generator<void, void> {
    let kept: Message[] = [];
    const taken = this.#orGiveUp(() => {
      const sent = this.#programs!.sent();
      kept = sent.kept;
      for (const { path } of sent.programs)
        this.#shell.note("program-taken", `"${path}" is not the same on this node: the primary's is used`, { path });
    });
    if (!taken) return;
    for (const message of kept) {
      yield;
      yield* this.#receive(link, term, message);
    }
  }

  /** Whether the life that begins is one after a crash or a hang; asked once. */
  takeRestart(): boolean {
    const isRestart = this.#isRestart;
    this.#isRestart = false;
    return isRestart;
  }

  /** The application has crashed at the primary's. An older checkpoint may lack what clients have seen: the owner's own wish. */
  #restart({ term, step, reason, history }: RestartOrder): void {
    const { view, restarts } = this.#shell;
    const { role } = view.state;
    restarts.history = history;
    if (role.kind !== "standby" || role.promotion !== undefined) return;
    const kept = this.#clone!.checkpoints();
    const newest = kept.at(-1);
    const from = step === "older" ? kept[0] : newest;
    if (from === undefined) return;
    const older = from !== newest;
    const what = older ? `an older checkpoint, ${from.epoch}: clients may have seen more` : "the newest checkpoint";
    this.#isRestart = true;
    this.#shell.note("restarting", `${reason}; goes on from ${what}`, { epoch: from.epoch, older });
    view.tell({ kind: "promote", force: false, term, ...(older ? { epoch: from.epoch } : {}) });
  }

  /** In sync: what the clone had to look for elsewhere it has itself. */
  #dropKept(): void {
    const kept = this.#kept;
    this.#kept = undefined;
    this.#memory.replace(undefined);
    kept?.remove().catch((error: Error) => {
      this.#shell.note("kept-files", `Files of an earlier clone could not be removed: ${error.message}`);
    });
  }

  /** Between other things: a checkpoint of thousands of files takes longer than a primary waits for a sign of life. */
  #applyOldLater(): void {
    if (this.#applySoon) return;
    this.#applySoon = true;
    setImmediate(() => {
      this.#applySoon = false;
      this.#orGiveUp(() => {
        if (this.#clone?.applyOld()) this.#applyOldLater();
      });
    });
  }

  /** It counts from now on; where a disk must have it, from then on. */
  #endReceived(term: number, epoch: number): void {
    const tell = () => this.#shell.view.tell({ kind: "checkpointApplied", term, epoch });
    if (!this.#shell.config.application.durable) {
      tell();
      this.#dropKept();
      this.#applyOldLater();
      return;
    }
    const clone = this.#clone!;
    this.#onDisk = this.#onDisk
      .then(() => (this.#clone === clone ? clone.makeDurable() : undefined))
      .then(
        () => {
          if (this.#clone !== clone) return;
          tell();
          this.#dropKept();
        },
        (error) => {
          if (this.#clone === clone) this.#cloneLost(error as Error);
        },
      );
  }

  *#take(clone: Clone, operation: Operation): Generator<void, void> {
    try {
      yield* clone.operation(operation);
    } catch (error) {
      this.#cloneLost(error as Error);
    }
  }

  /** What fails here says nothing against the primary: the clone is given up, and nobody is suspected. */
  #orGiveUp(work: () => void): boolean {
    try {
      work();
      return true;
    } catch (error) {
      this.#cloneLost(error as Error);
      return false;
    }
  }

  #cloneLost(error: Error): void {
    this.worn = true;
    this.#shell.note("clone-lost", `The clone is given up: ${error.message}`);
    this.#upstream?.goodbye(error.message);
    this.giveUp();
    this.#shell.view.tell({ kind: "cloneLost" });
  }

  #upstreamLost(link: Link, error?: Error): void {
    if (this.#upstream !== link) return;
    if (error instanceof OperatingError && error.code === "stream-damaged") this.#cloneLost(error);
    else this.#upstreamClosed(link, error?.message ?? "it was closed", error ? "failed" : "closed");
  }

  /** A stream that ends without a goodbye means a primary that died. */
  #upstreamClosed(link: Link, reason: string, how: LossKind): void {
    this.#upstream = undefined;
    link.close();
    this.#shell.note("stream-closed", `The primary's stream ended: ${reason}`, { node: link.peer, how });
    if (how !== "goodbye") this.watch.suspect();
  }

  /** The store's word, at once rather than at its next poll. */
  async #readView(): Promise<void> {
    try {
      const found = await this.#store.get<View>(storeKeys.view(this.#shell.config.application.name));
      this.#shell.view.tell({ kind: "viewSeen", view: found?.value, revision: found?.revision ?? 0 });
    } catch {
      // The watch brings it when the store answers again.
    }
  }

  /** No clone is here any more; its files are kept for the next one, unless the agent removes them. */
  giveUp(): void {
    this.seal();
    this.#asking = undefined;
    this.#memory.replace(undefined);
    if (this.#clone) this.#dropClone();
  }

  #dropClone(): void {
    this.#clone?.destroy();
    this.#clone = undefined;
    this.#kept?.close();
    this.#kept = undefined;
    const { config } = this.#shell;
    const aside = putAside(filesDirectoryOf(config), config.keptDirectory);
    this.#cleared = this.#cleared.then(() => aside);
    aside.catch((error: Error) => this.#shell.note("kept-files", `Files cannot be kept: ${error.message}`));
  }
}
