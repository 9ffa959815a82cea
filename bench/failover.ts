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
import { measureTraffic, type Traffic } from "./traffic.ts";

const PARTS = ["power-off", "busy", "traffic"] as const;
type Part = (typeof PARTS)[number];
const CONNECTIONS = 50;
const SETTLE_MS = 1000;
/** After a power-off: longer than any client may wait. */
const WINDOW_MS = 3000;
const STANDBYS = ["node-b", "node-c"];
const TRAFFIC_NODES = [3, 5, 9];

export const failoverBench: Bench = {
  about: "power-off with two standbys and etcd, wrong suspicions, traffic",
  nodes: 3,
  store: "etcd",
  parts: [...PARTS],
  run: (context) => new FailoverRun(context).run(),
};

interface Measures {
  /** Milliseconds from the last answer before to the first after each power-off. */
  silences?: number[];
  worstWaits?: number[];
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
        this.#measures.traffic.push(await measureTraffic(this.#context.lab, nodes));
      }
    });
    return { figures: this.#figures(), failures: this.#failures };
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
      for (const { at, node, message } of (await this.#site.events().catch(() => [])).slice(-15))
        this.#context.say(`  ${at} ${node}: ${message}`);
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
    const silences: number[] = [];
    const worstWaits: number[] = [];
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
        await counters.mark("power-off");
        const since = Date.now();
        await lab.powerOff(primary!);
        await sleep(WINDOW_MS);
        const { silenceMs, worstWaitMs } = await counters.mark("between");
        silences.push(silenceMs);
        worstWaits.push(worstWaitMs);
        say(
          `  ${time}: "${primary}" lost power, ${silenceMs.toFixed(0)} ms (worst client ${worstWaitMs.toFixed(0)} ms); ${await this.#steps(since)}`,
        );
        await lab.powerOn(primary!);
        await this.#site.untilProtected({ standbys: STANDBYS.length, term: term + 1, timeoutMs: 120_000 });
      }
    } finally {
      this.#measures.losses = lossesOf(await counters.stop());
    }
    this.#measures.silences = silences;
    this.#measures.worstWaits = worstWaits;
  }

  /** What took how long, from the command on; for whoever wants to make it faster. */
  async #steps(since: number): Promise<string> {
    const news = (await this.#site.events()).map(({ at, kind, message }) => ({
      ms: Date.parse(at) - since,
      kind,
      message,
    }));
    const steps = news.filter(({ ms, kind }) => ms >= 0 && STEPS.includes(kind));
    return steps.map(({ ms, kind, message }) => `${kind} ${ms} ms${/ \(\d+ ms\)/.exec(message)?.[0] ?? ""}`).join(", ");
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
      for (const { at, node, message } of lost) this.#context.say(`  ${at} ${node}: ${message}`);
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
    const { silences, worstWaits, losses, suspicions, busyMinutes, traffic } = this.#measures;
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
        (traffic ?? []).map(({ nodes, bytesPerSecond }) =>
          figure(`heartbeats and store, ${nodes} nodes, one idle application each`, bytesPerSecond, "bytes/s per node"),
        ),
      ],
    ];
    return figures.flatMap(([part, list]) => (this.#wants(part) ? list : []));
  }
}

/** Kinds of events that a take-over consists of. */
const STEPS = ["primary-silent", "stream-closed", "went-live"];

/** Kinds of events that take a peer for lost. */
const SUSPICIONS = ["standby-lost", "stream-closed", "went-live"];

function lossesOf(result: CounterResult): Losses {
  const { writesMissing, writesUnverified, valuesUnexpected, connectionsBroken } = result;
  return { writes: writesMissing + writesUnverified + valuesUnexpected, connections: connectionsBroken };
}

function burn(): ChildProcess {
  return spawn(process.execPath, ["-e", "for (;;);"], { stdio: "ignore" });
}
