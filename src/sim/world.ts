/** One life of a cluster with one application, under one seed. */
import { step } from "../cluster/view.ts";
import { Agenda } from "./agenda.ts";
import { type Bug, stepWithBug } from "./bugs.ts";
import { Faults } from "./faults.ts";
import { Judge, Violation } from "./judge.ts";
import { SimNode } from "./node.ts";
import { Process } from "./process.ts";
import { Random } from "./random.ts";
import { SimStore } from "./store.ts";

const roughMs = 12_000;
const drainMs = 2500;
const healedMs = 3500;
const endedMs = 1500;
const turnMs = 50;

export interface LifeOptions {
  bug?: Bug;
  trace?: (line: string) => void;
}

export interface LifeResult {
  faults: number;
  faultKinds: Map<string, number>;
  steps: number;
  simulatedMs: number;
  releases: number;
  echoes: number;
  /** See Judge. */
  forgotten: number;
  terms: number;
  /** Every copy of the state was gone at the end: too many crashes at once. */
  lost: boolean;
}

export class World {
  readonly agenda = new Agenda();
  readonly random: Random;
  readonly faults: Faults;
  readonly judge: Judge;
  readonly store: SimStore;
  readonly nodes: SimNode[];
  readonly bug: Bug | undefined;
  readonly trace: ((line: string) => void) | undefined;
  readonly step: typeof step;
  readonly holdBelow: number;
  readonly #cuts = new Set<string>();
  readonly #byName: Map<string, SimNode>;

  constructor(seed: number, options: LifeOptions) {
    this.random = new Random(seed);
    this.faults = new Faults(this.random);
    this.store = new SimStore(this);
    this.bug = options.bug;
    const { trace } = options;
    this.trace = trace && ((line) => trace(`${this.agenda.now.toFixed(1).padStart(8)} ${line}`));
    this.step = options.bug === undefined ? step : stepWithBug(options.bug);
    const count = this.random.pick([2, 3, 3, 4]);
    this.holdBelow = this.random.pick([0, 0, 0, 1, 1, Math.min(2, count - 1)]);
    this.judge = new Judge(this.holdBelow);
    this.nodes = ["a", "b", "c", "d"].slice(0, count).map((name) => new SimNode(this, name));
    this.#byName = new Map(this.nodes.map((node) => [node.name, node]));
  }

  node(name: string): SimNode {
    return this.#byName.get(name)!;
  }

  isCut(from: string, to: string): boolean {
    return this.#cuts.has(from + to);
  }

  live(): LifeResult {
    const [first, ...others] = this.nodes;
    first!.process = new Process(first!, { kind: "begin", as: "start" });
    for (const node of others) node.startProcess();
    this.faults.enabled = false;
    this.agenda.runUntil(600);
    this.faults.enabled = true;
    for (const node of this.nodes) this.#turn(node);
    this.agenda.runUntil(roughMs);
    this.#heal();
    this.agenda.runUntil(roughMs + drainMs);
    const lost = this.nodes.every((node) => !this.#carries(node));
    this.agenda.runUntil(roughMs + drainMs + healedMs);
    if (!lost) this.#checkHealed();
    if (!lost && this.random.chance(0.3)) this.#end();
    return {
      faults: this.faults.total,
      faultKinds: this.faults.counts,
      steps: this.agenda.done,
      simulatedMs: this.agenda.now,
      releases: this.judge.releases,
      echoes: this.judge.echoes,
      forgotten: this.judge.forgotten,
      terms: this.store.record.view?.term ?? 0,
      lost,
    };
  }

  /** A node's chance of trouble, every 50 ms. */
  #turn(node: SimNode): void {
    if (this.agenda.now > roughMs) return;
    const { faults, random, agenda } = this;
    agenda.after(turnMs, () => this.#turn(node));
    if (!node.up) return;
    if (faults.strikes("machineCrashed")) node.crashMachine();
    else if (faults.strikes("processCrashed")) node.crashProcess();
    if (node.app !== undefined && node.app.crashed === undefined && faults.strikes("applicationCrashed"))
      node.crashApp(random.pick(["newest", "newest", "older", "cold"]));
    if (faults.strikes("starved")) node.pause(random.between(20, random.chance(0.3) ? 1500 : 250));
    if (faults.strikes("clockJumped")) node.clockOffsetMs += random.between(-3000, 3000);
    if (faults.strikes("storeCut")) this.#cutStore(node.name, random.between(50, 1500));
    if (faults.strikes("cloneLost")) node.process?.tell({ kind: "cloneLost" });
    const peer = random.pick(this.nodes);
    if (peer !== node && faults.strikes("linkCut")) {
      const durationMs = random.between(30, random.chance(0.5) ? 200 : 2500);
      this.#cutLink(node.name, peer.name, durationMs);
      if (random.chance(0.5)) this.#cutLink(peer.name, node.name, durationMs);
    }
    if (faults.strikes("standbyDropped")) node.process?.drop(peer.name);
    if (node.app !== undefined && random.chance(0.03)) node.process?.handOver(peer.name);
    if (random.chance(0.002)) node.process?.promoteByOperator();
  }

  #cutLink(from: string, to: string, durationMs: number): void {
    this.#cuts.add(from + to);
    this.agenda.after(durationMs, () => this.#cuts.delete(from + to));
  }

  #cutStore(node: string, durationMs: number): void {
    this.store.cut.add(node);
    this.agenda.after(durationMs, () => this.store.cut.delete(node));
  }

  #heal(): void {
    this.faults.enabled = false;
    this.#cuts.clear();
    this.store.cut.clear();
    for (const node of this.nodes) node.startProcess();
  }

  /** Whether another node can go on from a sound state, as the record stands. */
  othersCarry(than: SimNode): boolean {
    return this.nodes.some((node) => node !== than && node.app?.crashed === undefined && this.#carries(node));
  }

  /** Whether the application can go on by this node, as the record stands. */
  #carries(node: SimNode): boolean {
    const { view } = this.store.record;
    const role = node.process?.state.role;
    if (view === undefined || role === undefined) return false;
    const holds = role.kind === "standby" && role.holds !== undefined;
    // A new primary may not have heard of it yet.
    if (view.primary === node.name) return holds || (role.kind === "primary" && role.term === view.term);
    return holds && view.inSync.includes(node.name);
  }

  /** The operator stops it: nothing of it may be left anywhere. */
  #end(): void {
    const node = this.node(this.store.record.view!.primary);
    node.process!.tell({ kind: "end", reason: "stopped", at: "2026-01-01T00:00:00Z" });
    this.agenda.runUntil(this.agenda.now + endedMs);
    for (const { name, app, process } of this.nodes) {
      if (app !== undefined || process?.state.role.kind !== "finished") throw new Violation(`${name} has not ended`);
    }
  }

  #checkHealed(): void {
    const { view } = this.store.record;
    const primary = this.node(view!.primary);
    const role = primary.process?.state.role;
    const speaks = this.agenda.now - this.judge.lastReleaseAt < 200;
    const follow = this.nodes.filter((node) => node !== primary).map((node) => node.name);
    const whole = follow.every((name) => view!.inSync.includes(name));
    if (role?.kind === "primary" && role.term === view!.term && speaks && whole) return;
    const states = this.nodes.map((node) => JSON.stringify(node.process?.state)).join("\n");
    throw new Violation(`Healed, but not well: ${JSON.stringify(view)}, output flows: ${speaks}\n${states}`);
  }
}
