/** What protection costs an unmodified Redis, and how long its clients wait when its machine dies. */
import { setTimeout as sleep } from "node:timers/promises";
import { CheckpointSamples } from "../workload/checkpoint-samples.ts";
import { startWorkload } from "../workload/driver.ts";
import type { WindowSummary } from "../workload/gaps.ts";
import type { CounterResult } from "../workload/messages.ts";
import { type LoadKind, measureRate } from "../workload/rate.ts";
import { RedisSite, SERVICE } from "../workload/site.ts";
import type { Bench, BenchContext, BenchResult } from "./main.ts";
import {
  CONNECTIONS,
  figuresOf,
  type Measures,
  PARTS,
  type Part,
  PIPELINE,
  type WritingMeasures,
} from "./redis-figures.ts";

const MEGABYTES = 100;
const LARGE_MEGABYTES = 500;
/** After data are written or a standby came in sync: let what follows from it pass. */
const SETTLE_MS = 1000;
/** When a part failed. */
const EVENTS_TOLD = 15;

export const redisBench: Bench = {
  about: "protection of an unmodified Redis: stop times, throughput, switches",
  nodes: 3,
  parts: [...PARTS],
  run: (context) => new RedisRun(context).run(),
};

class RedisRun {
  readonly #context: BenchContext;
  readonly #site: RedisSite;
  readonly #measures: Measures = { unprotected: [], unprotectedSpread: [] };
  readonly #failures: string[] = [];

  constructor(context: BenchContext) {
    this.#context = context;
    this.#site = new RedisSite(context.lab);
  }

  async run(): Promise<BenchResult> {
    const measures = this.#measures;
    await this.#throughput();
    if (PARTS.some((part) => !["none", "throughput", "large"].includes(part) && this.#wants(part))) {
      await this.#protected("policy checkpoint", MEGABYTES, "checkpoint", () => this.#partsWithCheckpoints());
    }
    if (this.#wants("large")) {
      await this.#protected(`${LARGE_MEGABYTES} MB`, LARGE_MEGABYTES, "checkpoint", async () => {
        measures.large = await this.#writing(LARGE_MEGABYTES);
      });
    }
    return { figures: figuresOf(measures, (part) => this.#wants(part)), failures: this.#failures };
  }

  /** Unprotected before and after each, as the machine may be busier at one time than at another. */
  async #throughput(): Promise<void> {
    const measures = this.#measures;
    if (this.#wants("none") || this.#wants("throughput")) await this.#unprotected();
    if (this.#wants("none")) {
      await this.#protected("throughput, policy none", MEGABYTES, "none", async () => {
        measures.none = { rate: await this.#rate(SERVICE, "numbered"), before: measures.unprotected.length - 1 };
        measures.noneSpread = { rate: await this.#rate(SERVICE, "spread"), before: measures.unprotected.length - 1 };
      });
      await this.#unprotected();
    }
    if (this.#wants("throughput")) {
      await this.#protected("throughput, policy checkpoint", MEGABYTES, "checkpoint", async () => {
        const samples = new CheckpointSamples(() => this.#site.checkpoints());
        const rate = await this.#rate(SERVICE, "numbered").finally(() => samples.stop());
        const before = measures.unprotected.length - 1;
        const loaded = await samples.finish();
        // Else output was let go unprotected, and the rate says nothing.
        if (loaded.count === 0) throw new Error("no checkpoint was seen");
        measures.checkpointed = { rate, before };
        measures.loaded = loaded;
        measures.checkpointedSpread = { rate: await this.#rate(SERVICE, "spread"), before };
      });
      await this.#unprotected();
    }
  }

  async #partsWithCheckpoints(): Promise<void> {
    const measures = this.#measures;
    const part = async (name: Part, work: () => Promise<void>) => {
      if (!this.#wants(name)) return;
      await this.#attempt(name, async () => {
        await this.#ensureProtected();
        await work();
      });
    };
    await part("idle", async () => {
      measures.idle = await this.#idle();
    });
    await part("writing", async () => {
      measures.writing = await this.#writing(MEGABYTES);
    });
    await part("switch", () => this.#switches());
    await part("power-off", () => this.#powerOffs());
  }

  /** A part that went wrong must not spoil the next. */
  async #ensureProtected(): Promise<void> {
    const unwell = await this.#site.untilProtected({ timeoutMs: 10_000 }).then(
      () => false,
      () => true,
    );
    if (!unwell) return;
    this.#context.say("  starting anew");
    await this.#site.stop().catch(() => {});
    await this.#begin(MEGABYTES, "checkpoint");
  }

  async #begin(megabytes: number, commit: "checkpoint" | "none"): Promise<void> {
    await this.#site.allOn();
    await this.#site.protect({ commit });
    await this.#site.fill(megabytes);
    await this.#site.untilProtected();
    await sleep(SETTLE_MS);
  }

  #wants(part: Part): boolean {
    return this.#context.only.length === 0 || this.#context.only.includes(part);
  }

  /** One part that fails leaves its figures out; the others are measured all the same. */
  async #attempt(what: string, work: () => Promise<void>): Promise<void> {
    this.#context.say(what);
    try {
      await work();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#context.say(`${what} failed: ${reason}`);
      const events = await this.#site.events().catch(() => []);
      for (const { at, node, message } of events.slice(-EVENTS_TOLD)) this.#context.say(`  ${at} ${node}: ${message}`);
      this.#failures.push(`${what}: ${reason}`);
    }
  }

  /** Protects a fresh Redis, fills it, does the work, ends it. */
  async #protected(what: string, megabytes: number, commit: "checkpoint" | "none", work: () => Promise<void>) {
    await this.#attempt(what, async () => {
      try {
        await this.#begin(megabytes, commit);
        await work();
      } finally {
        // A failed one may be half there; what it failed with matters more than that.
        await this.#site.stop().catch(() => {});
      }
    });
  }

  async #unprotected(): Promise<void> {
    await this.#attempt("unprotected", async () => {
      await using redis = await this.#site.unprotected();
      await this.#site.fill(MEGABYTES, redis);
      const target = { host: redis.host, port: redis.port };
      this.#measures.unprotected.push(await this.#rate(target, "numbered"));
      this.#measures.unprotectedSpread.push(await this.#rate(target, "spread"));
    });
  }

  /** SETs a second with 50 connections × 16 requests in flight. */
  async #rate(target: { host: string; port: number }, kind: LoadKind): Promise<number> {
    const seconds = this.#context.quick ? 3 : 6;
    const options = { kind, connections: CONNECTIONS, pipeline: PIPELINE, seconds, megabytes: MEGABYTES };
    const { perSecond, batchMs, cpuShare } = await measureRate(this.#site, target, options);
    this.#context.say(
      `  ${kind}: ${perSecond} SETs/s, 16 take ${batchMs.median} ms; the load itself ${cpuShare} cores`,
    );
    return perSecond;
  }

  /** 50 clients that each wait for the answer before they write again, over the whole data set. */
  async #writing(megabytes: number): Promise<WritingMeasures> {
    const seconds = this.#context.quick ? 3 : 8;
    const samples = new CheckpointSamples(() => this.#site.checkpoints());
    const options = { kind: "spread", connections: CONNECTIONS, pipeline: 1, seconds, megabytes } as const;
    const rate = await measureRate(this.#site, SERVICE, options).finally(() => samples.stop());
    const checkpoints = await samples.finish();
    if (checkpoints.count === 0) throw new Error("no checkpoint was seen");
    const { perSecond, stopMs } = checkpoints;
    this.#context.say(`  ${rate.perSecond} SETs/s, ${perSecond} checkpoints/s, stop ${stopMs.median} ms`);
    return { ...checkpoints, setsPerSecond: rate.perSecond };
  }

  /** One client that asks now and then. */
  async #idle() {
    const options = { ...SERVICE, connections: 1, paceMs: 30, progressMs: 0 };
    const counters = await startWorkload("counters", this.#site.spawn, options);
    await sleep(this.#context.quick ? 2000 : 5000);
    const { answerMs, ...result } = await counters.stop();
    refuseLoss(result);
    return answerMs;
  }

  async #switches(): Promise<void> {
    const rounds = this.#context.quick ? 2 : 4;
    this.#measures.planned = await this.#interruptions("planned", rounds, async (primary) => {
      const { standbys } = await this.#site.report();
      const to = standbys.find(({ state, node }) => state === "in-sync" && node !== primary)?.node;
      if (to === undefined) throw new Error("no standby is in sync");
      await this.#site.switchTo(to);
      return async () => {};
    });
  }

  async #powerOffs(): Promise<void> {
    const { lab } = this.#context;
    this.#measures.powerOff = await this.#interruptions("power-off", this.#context.quick ? 1 : 3, async (primary) => {
      await lab.powerOff(primary);
      return () => lab.powerOn(primary);
    });
  }

  /** Does something to the primary, again and again, while clients count; what the clients saw of each time. */
  async #interruptions(name: string, rounds: number, interrupt: (primary: string) => Promise<() => Promise<void>>) {
    const options = { ...SERVICE, connections: CONNECTIONS, progressMs: 0 };
    const counters = await startWorkload("counters", this.#site.spawn, options);
    const seen: WindowSummary[] = [];
    try {
      for (let round = 0; round < rounds; round++) {
        const { primary, term } = await this.#site.untilProtected();
        await sleep(SETTLE_MS);
        await counters.mark(name);
        const repair = await interrupt(primary!);
        await sleep(2 * SETTLE_MS);
        const ended = await counters.mark("between");
        this.#context.say(`  ${name}: ${JSON.stringify(ended)}`);
        seen.push(ended);
        await repair();
        await this.#site.untilProtected({ term: term + 1 });
      }
    } finally {
      const result = await counters.stop();
      this.#context.say(`  ${result.writesAcknowledged} writes, ${result.writesMissing} missing`);
      refuseLoss(result);
    }
    return seen;
  }
}

/** A figure of a run that lost something is worth nothing. */
function refuseLoss(result: Omit<CounterResult, "answerMs">): void {
  const lost = result.writesMissing + result.writesUnverified + result.valuesUnexpected;
  if (result.connectionsBroken + lost + result.errorReplies === 0) return;
  const first = result.findings.slice(0, 3).join("; ");
  throw new Error(
    `${result.connectionsBroken} connections broke, ${result.writesMissing} writes missing, ${result.writesUnverified} unverified: ${first}`,
  );
}
