/**
 * A cluster of three nodes with an etcd on them: how long clients wait when the primary's machine dies, whether anybody is
 * suspected wrongly when all processors are busy, and what heartbeats and the store cost a node as the cluster grows.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { availableParallelism } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { median } from "../workload/checkpoint-samples.ts";
import { startWorkload } from "../workload/driver.ts";
import type { CounterResult } from "../workload/messages.ts";
import { RedisSite, SERVICE } from "../workload/site.ts";
import { type Figure, figure } from "./figures.ts";
import type { Bench, BenchContext, BenchResult } from "./main.ts";
import { leadsStore, type PowerOff, renderPowerOff, stepsOf } from "./power-off-steps.ts";
import { measureTraffic, type Traffic } from "./traffic.ts";

const PARTS = ["power-off", "busy", "traffic"] as const;
type Part = (typeof PARTS)[number];
const CONNECTIONS = 50;
const SETTLE_MS = 1000;
/** After a power-off: longer than any client may wait. */
const WINDOW_MS = 3000;
const STANDBYS = ["node-b", "node-c"];
/** Told when a part fails. */
const LAST_EVENTS = 60;
/** The first and the last are compared. */
const TRAFFIC_NODES = [4, 6, 9];

export const failoverBench: Bench = {
  about: "power-off with two standbys and etcd, wrong suspicions, traffic",
  nodes: 3,
  store: "etcd",
  parts: [...PARTS],
  run: (context) => new FailoverRun(context).run(),
};

interface Measures {
  powerOffs?: PowerOff[];
  losses?: Losses;
  suspicions?: number;
  busyMinutes?: number;
  traffic?: Traffic[];
}

interface Losses {
  writes: number;
  connections: number;
}

class FailoverRun {
  readonly #context: BenchContext;
  readonly #site: RedisSite;
  readonly #measures: Measures = {};
  readonly #failures: string[] = [];

  constructor(context: BenchContext) {
    this.#context = context;
    this.#site = new RedisSite(context.lab);
  }

  async run(): Promise<BenchResult> {
    await this.#part("power-off", () => this.#protected(() => this.#powerOffs()));
    await this.#part("busy", () => this.#protected(() => this.#busy()));
    await this.#part("traffic", async () => {
      this.#measures.traffic = [];
      for (const nodes of TRAFFIC_NODES) {
        this.#context.say(`  ${nodes} nodes, as many applications`);
        const traffic = await measureTraffic(this.#context.lab, nodes);
        this.#measures.traffic.push(traffic);
        this.#context.say(`    ${Math.round(traffic.bytesPerSecond)} bytes/s per node`);
      }
    });
    return { figures: this.#figures(), failures: this.#failures, runs: this.#measures.powerOffs };
  }

  #wants(part: Part): boolean {
    return this.#context.only.length === 0 || this.#context.only.includes(part);
  }

  async #part(part: Part, work: () => Promise<void>): Promise<void> {
    if (!this.#wants(part)) return;
    this.#context.say(part);
    try {
      await work();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      for (const { at, node, message, details } of (await this.#site.events().catch(() => [])).slice(-LAST_EVENTS))
        this.#context.say(`  ${at} ${node}: ${message} ${JSON.stringify(details ?? {})}`);
      this.#failures.push(`${part}: ${reason}`);
    }
  }

  async #protected(work: () => Promise<void>): Promise<void> {
    await this.#site.protect({ standby: STANDBYS });
    try {
      await work();
    } finally {
      await this.#site.stop().catch(() => {});
    }
  }

  /** Every time the node that runs it loses power, and comes back before the next time. */
  async #powerOffs(): Promise<void> {
    const { lab, say } = this.#context;
    const times = this.#context.times ?? (this.#context.quick ? 3 : 30);
    const powerOffs: PowerOff[] = [];
    this.#measures.powerOffs = powerOffs;
    const counters = await startWorkload("counters", this.#site.spawn, {
      ...SERVICE,
      connections: CONNECTIONS,
      progressMs: 0,
      drainMs: 20_000,
    });
    try {
      for (let time = 1; time <= times; time++) {
        const { primary, term } = await this.#site.untilProtected({ standbys: STANDBYS.length });
        await sleep(SETTLE_MS);
        const storeLeader = await leadsStore(lab, primary!);
        await counters.mark("power-off");
        const since = new Date().toISOString();
        await lab.powerOff(primary!);
        await sleep(WINDOW_MS);
        const { silenceMs, worstWaitMs } = await counters.mark("between");
        const news = (await this.#site.events()).filter(({ at }) => at > since);
        const steps = stepsOf(news, silenceMs);
        const powerOff = { node: primary!, storeLeader, silenceMs, worstWaitMs, steps };
        powerOffs.push(powerOff);
        say(`  ${time}: ${renderPowerOff(powerOff)}`);
        await lab.powerOn(primary!);
        await this.#site.untilProtected({ standbys: STANDBYS.length, term: term + 1, timeoutMs: 120_000 });
      }
    } finally {
      this.#measures.losses = lossesOf(await counters.stop());
    }
  }

  /** Nothing is wrong but that all processors are busy: whoever is taken for dead is taken so wrongly. */
  async #busy(): Promise<void> {
    const minutes = this.#context.minutes ?? (this.#context.quick ? 1 : 10);
    const options = { ...SERVICE, connections: CONNECTIONS, paceMs: 20, progressMs: 0, drainMs: 20_000 };
    const counters = await startWorkload("counters", this.#site.spawn, options);
    const burners = Array.from({ length: availableParallelism() }, burn);
    const before = await this.#site.untilProtected({ standbys: STANDBYS.length });
    const since = new Date().toISOString();
    try {
      await sleep(minutes * 60_000);
      const { term } = await this.#site.report();
      const lost = (await this.#site.events()).filter(({ kind, at }) => SUSPICIONS.includes(kind) && at > since);
      for (const { at, node, message, details } of lost)
        this.#context.say(`  ${at} ${node}: ${message} ${JSON.stringify(details ?? {})}`);
      this.#measures.suspicions = lost.length + (term - before.term);
      this.#measures.busyMinutes = minutes;
    } finally {
      for (const burner of burners) burner.kill("SIGKILL");
      const { connections, writes } = lossesOf(await counters.stop());
      if (connections + writes > 0)
        this.#failures.push(`busy: ${writes} writes lost, ${connections} connections broken`);
    }
  }

  #figures(): Figure[] {
    const { powerOffs, losses, suspicions, busyMinutes, traffic } = this.#measures;
    const silences = powerOffs?.map(({ silenceMs }) => silenceMs);
    const worstWaits = powerOffs?.map(({ worstWaitMs }) => worstWaitMs);
    const worst = (values: number[] | undefined) => (values === undefined ? null : Math.max(...values));
    const middle = (values: number[] | undefined) => (values === undefined ? null : median(values));
    const figures: [Part, Figure[]][] = [
      [
        "power-off",
        [
          figure("power-offs of the primary's node", silences?.length ?? null, "times"),
          figure("power-off to next answer, median", middle(silences), "ms", { below: 250 }),
          figure("power-off to next answer, worst", worst(silences), "ms", { below: 600 }),
          figure("power-off, worst client's wait, median", middle(worstWaits), "ms"),
          figure("writes lost", losses?.writes ?? null, "writes", { below: 1 }),
          figure("connections broken", losses?.connections ?? null, "connections", { below: 1 }),
        ],
      ],
      [
        "busy",
        [
          figure("all processors busy for", busyMinutes ?? null, "minutes"),
          figure("wrong suspicions meanwhile", suspicions ?? null, "times", { below: 1 }),
        ],
      ],
      [
        "traffic",
        [
          ...(traffic ?? []).map(({ nodes, bytesPerSecond }) =>
            figure(
              `heartbeats and store, ${nodes} nodes, one idle application each`,
              bytesPerSecond,
              "bytes/s per node",
            ),
          ),
          figure("the same, with the most nodes : with the fewest", growthOf(traffic), "times", { below: 1.2 }),
        ],
      ],
    ];
    return figures.flatMap(([part, list]) => (this.#wants(part) ? list : []));
  }
}

/** Kinds of events that take a peer for lost. */
const SUSPICIONS = ["primary-silent", "standby-lost", "stream-closed", "went-live"];

function growthOf(traffic: Traffic[] | undefined): number | null {
  const [first, last] = [traffic?.at(0), traffic?.at(-1)];
  return first === undefined || last === undefined ? null : last.bytesPerSecond / first.bytesPerSecond;
}

function lossesOf(result: CounterResult): Losses {
  const { writesMissing, writesUnverified, valuesUnexpected, connectionsBroken } = result;
  return { writes: writesMissing + writesUnverified + valuesUnexpected, connections: connectionsBroken };
}

function burn(): ChildProcess {
  return spawn(process.execPath, ["-e", "for (;;);"], { stdio: "ignore" });
}
