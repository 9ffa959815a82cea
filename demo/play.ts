/** What is played: measure without, protect, measure with, let clients count, switch, pull the plug, count up. */
import { setTimeout as delay } from "node:timers/promises";
import type { ApplicationReport } from "../src/agent/api-types.ts";
import { CheckpointSamples } from "../workload/checkpoint-samples.ts";
import { startWorkload } from "../workload/driver.ts";
import type { WindowSummary } from "../workload/gaps.ts";
import type { Message } from "../workload/messages.ts";
import { measureRate } from "../workload/rate.ts";
import { type RedisSite, SERVICE } from "../workload/site.ts";
import { count, type Display } from "./display.ts";
import type { Outcome } from "./outcome.ts";

const CONNECTIONS = 50;
const MEGABYTES = 100;
const PIPELINE = 16;
const RATE_SECONDS = 4;
/** Of each scene, so that one can follow. */
const SCENE_MS = 4000;
const FOLLOW_MS = 500;
/** Until a node that came back holds a clone again. */
const PATIENCE_MS = 30_000;

const LOAD = { connections: CONNECTIONS, pipeline: PIPELINE, seconds: RATE_SECONDS, megabytes: MEGABYTES };

export async function perform(site: RedisSite, display: Display, signal: AbortSignal): Promise<Outcome> {
  display.title("Redis without protection, to compare");
  const unprotected = await rateUnprotected(site, display);
  signal.throwIfAborted();

  display.title("The same Redis under protection: home node-a, standby node-b");
  await site.protect({ onProgress: ({ message }) => display.step(message), signal });
  using follower = new Follower(site, display);
  await fill(site, display);
  await site.untilProtected();
  display.step("in sync; the same load again");
  const { perSecond } = await measureRate(site, SERVICE, LOAD);
  display.step(`${count(perSecond)} writes a second`);
  signal.throwIfAborted();

  const outcome = await count50(site, display, follower, signal);
  const writesPerSecond = { unprotected, protected: perSecond };
  return { ...outcome, throughputRatio: Number((perSecond / unprotected).toFixed(3)), writesPerSecond };
}

async function rateUnprotected(site: RedisSite, display: Display): Promise<number> {
  await using redis = await site.unprotected();
  await fill(site, display, { host: redis.host, port: redis.port });
  const { perSecond } = await measureRate(site, redis, LOAD);
  display.step(`${count(perSecond)} writes a second, ${CONNECTIONS} connections with ${PIPELINE} in flight each`);
  return perSecond;
}

async function fill(site: RedisSite, display: Display, target = SERVICE): Promise<void> {
  await site.fill(MEGABYTES, target, (share) => display.step(`${(share * MEGABYTES).toFixed(0)} MB of ${MEGABYTES}`));
  display.step(`${MEGABYTES} MB of data are in it`);
}

type Counted = Omit<Outcome, "throughputRatio" | "writesPerSecond">;

/** The clients count through all that happens to the server. */
async function count50(site: RedisSite, display: Display, follower: Follower, signal: AbortSignal): Promise<Counted> {
  display.title(`${CONNECTIONS} clients write numbers and read them back`);
  const options = { ...SERVICE, connections: CONNECTIONS, progressMs: 1000 };
  const counters = await startWorkload("counters", site.spawn, options, (message) => follower.hear(message));
  const primaries: string[] = [];
  const scene = () => delay(SCENE_MS, undefined, { signal });
  const samples = new CheckpointSamples(() => site.checkpoints());
  let windows: { planned: WindowSummary; powerOff: WindowSummary };
  try {
    const first = await site.untilProtected();
    primaries.push(first.primary!);
    await scene();

    const to = first.standbys.find(({ state }) => state === "in-sync")!.node;
    display.act(`planned switch: from ${first.primary} to ${to}`);
    await counters.mark("planned");
    const { stopMs } = await site.switchTo(to);
    if (stopMs !== null) display.step(`it stood still for ${stopMs.toFixed(0)} ms`);
    const second = await site.untilProtected({ term: first.term + 1, timeoutMs: PATIENCE_MS });
    if (second.primary !== to) throw new Error(`The switch to ${to} failed: it runs on ${second.primary}`);
    primaries.push(to);
    await scene();
    const planned = await counters.mark("between");

    display.act(`power-off: ${second.primary} dies, no goodbye`);
    await counters.mark("power-off");
    await site.lab.powerOff(second.primary!);
    await scene();
    const powerOff = await counters.mark("after");
    windows = { planned, powerOff };
    display.act(`power-on: ${second.primary} comes back; it must not run a second copy`);
    await site.lab.powerOn(second.primary!);
    const third = await site.untilProtected({ term: second.term + 1, timeoutMs: PATIENCE_MS });
    primaries.push(third.primary!);
    await scene();
  } catch (error) {
    // What the clients found is worth more than how far the play came.
    samples.stop();
    const { findings } = await counters.stop().catch(() => ({ findings: [] }));
    for (const finding of findings) display.problem(finding);
    throw error;
  }
  display.title("Looking for every acknowledged write");
  const checkpoints = await samples.finish();
  const result = await counters.stop();
  const { planned, powerOff } = windows;
  const wait = (window: WindowSummary) => ({ median: window.medianWaitMs, worst: window.worstWaitMs });
  return {
    connections: result.connections,
    connectionsBroken: result.connectionsBroken,
    writesAcknowledged: result.writesAcknowledged,
    writesMissing: result.writesMissing,
    writesUnverified: result.writesUnverified,
    valuesUnexpected: result.valuesUnexpected,
    readsVerified: result.readsVerified,
    gapMs: { planned: planned.silenceMs, powerOff: powerOff.silenceMs },
    waitMs: { planned: wait(planned), powerOff: wait(powerOff) },
    checkpointsPerSecond: checkpoints.perSecond,
    stopMs: checkpoints.stopMs,
    pagesPerCheckpoint: checkpoints.pages,
    bytesPerCheckpoint: checkpoints.bytes,
    primaries,
    copiesRunning: await site.copiesRunning(),
    findings: result.findings,
  };
}

/** Asks the cluster now and then, so that the clients' lines can say who answers them, and tells what happened. */
class Follower {
  readonly #site: RedisSite;
  readonly #display: Display;
  readonly #abort = new AbortController();
  #report: ApplicationReport | undefined;

  constructor(site: RedisSite, display: Display) {
    this.#site = site;
    this.#display = display;
    void this.#follow();
  }

  hear(message: Message): void {
    if (message.event === "progress") this.#display.second(message, this.#report);
    if (message.event === "broken") this.#display.problem(`connection ${message.connection} broke: ${message.reason}`);
  }

  [Symbol.dispose](): void {
    this.#abort.abort();
  }

  async #follow(): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      this.#report = await this.#site.report().catch(() => undefined);
      if (!signal.aborted) this.#display.events(await this.#site.events().catch(() => []));
      await delay(FOLLOW_MS, undefined, { signal }).catch(() => {});
    }
  }
}
