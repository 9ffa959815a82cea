/** A machine: what outlives its instance process, and what does not outlive the machine. */
import type { Checkpoint } from "../cluster/view.ts";
import { Process } from "./process.ts";
import type { World } from "./world.ts";

export interface App {
  term: number;
  cut: number;
  stopped: boolean;
  /**
   * It has crashed, and its owner wants it to go on from this. `others`: who could, when its instance noticed, if nothing was
   * unsettled then.
   */
  crashed: { from: RestartFrom; others: readonly string[] } | undefined;
}

export type RestartFrom = "newest" | "older" | "cold";

export class SimNode {
  readonly name: string;
  readonly world: World;
  process: Process | undefined;
  /** The application, if it runs (or stands stopped) here. */
  app: App | undefined;
  up = true;
  pausedUntil = 0;
  clockOffsetMs = 0;
  #deferred: (() => void)[] = [];

  constructor(world: World, name: string) {
    this.world = world;
    this.name = name;
  }

  clock(): number {
    return this.world.agenda.now + this.clockOffsetMs;
  }

  /** @param epoch the newest cut before, if that is not `base`'s */
  startApp(term: number, base: Checkpoint | undefined, byPolicy = false, epoch = base?.epoch ?? 0): void {
    this.world.judge.begins(this.name, term, base, byPolicy);
    this.app = { term, cut: epoch, stopped: false, crashed: undefined };
  }

  crashApp(from: RestartFrom): void {
    const app = this.app!;
    app.crashed = { from, others: [] };
    this.world.judge.crashes(app.term);
  }

  whenAwake(work: () => void): void {
    this.#deferred.push(work);
  }

  /** Nothing of this machine runs for a while; what arrives meanwhile waits in its sockets. */
  pause(durationMs: number): void {
    const until = this.world.agenda.now + durationMs;
    if (until <= this.pausedUntil) return;
    this.pausedUntil = until;
    this.world.agenda.after(durationMs, () => {
      if (this.world.agenda.now < this.pausedUntil) return;
      this.process?.awake();
      for (const work of this.#deferred.splice(0)) work();
    });
  }

  crashProcess(): void {
    this.process?.kill();
    this.process = undefined;
    const { app } = this;
    // Its tracer gone, the application runs on, silent: nobody reads the queue that holds its output.
    if (app !== undefined) app.stopped = false;
    this.#restartLater();
  }

  crashMachine(): void {
    this.app = undefined;
    this.up = false;
    this.crashProcess();
  }

  /** The agent's part: an instance for the application that runs here, or else for a clone. */
  startProcess(): void {
    this.up = true;
    if (this.process !== undefined) return;
    const { app } = this;
    this.process = new Process(
      this,
      app === undefined
        ? { kind: "begin", as: "standby" }
        : { kind: "begin", as: "attach", term: app.term, epoch: app.cut },
    );
  }

  #restartLater(): void {
    const { agenda, random } = this.world;
    agenda.after(random.between(20, random.chance(0.5) ? 200 : 2000), () => this.startProcess());
  }
}
