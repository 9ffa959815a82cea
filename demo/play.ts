/** What is played: measure without, protect, measure with, let clients count, switch, pull the plug, count up. */
import { setTimeout as delay } from "node:timers/promises";
import type { ApplicationReport } from "../src/agent/api-types.ts";
import { CheckpointSamples } from "../workload/checkpoint-samples.ts";
import { startWorkload, type Workload } from "../workload/driver.ts";
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
const BREAKS_TOLD = 3;
/** Until a node that came back holds a clone again. */
const PATIENCE_MS = 30_000;

const LOAD = {
  kind: "numbered",
  connections: CONNECTIONS,
  pipeline: PIPELINE,
  seconds: RATE_SECONDS,
  megabytes: MEGABYTES,
} as const;

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

/** The clients count through all that happens to the server; what they found is told however far the play came. */
async function count50(site: RedisSite, display: Display, follower: Follower, signal: AbortSignal): Promise<Counted> {
  display.title(`${CONNECTIONS} clients write numbers and read them back`);
  const options = { ...SERVICE, connections: CONNECTIONS, progressMs: 1000 };
  const counters = await startWorkload("counters", site.spawn, options, (message) => follower.hear(message));
  const samples = new CheckpointSamples(() => site.checkpoints());
  const seen: Scenes = { primaries: [] };
  let failure: string | undefined;
  try {
    await playScenes(site, display, counters, seen, signal);
  } catch (error) {
    signal.throwIfAborted();
    display.problem(error);
    failure = error instanceof Error ? error.message : String(error);
  }
  samples.stop();
  display.title("Looking for every acknowledged write");
  const [checkpoints, result] = await Promise.all([samples.finish(), counters.stop()]);
  const wait = (window: WindowSummary) => ({ median: window.medianWaitMs, worst: window.worstWaitMs });
  const { primaries, planned, powerOff } = seen;
  return {
    connections: result.connections,
    connectionsBroken: result.connectionsBroken,
    writesAcknowledged: result.writesAcknowledged,
    writesMissing: result.writesMissing,
    writesUnverified: result.writesUnverified,
    valuesUnexpected: result.valuesUnexpected,
    readsVerified: result.readsVerified,
    gapMs: { planned: planned?.silenceMs ?? null, powerOff: powerOff?.silenceMs ?? null },
    waitMs: { planned: planned ? wait(planned) : null, powerOff: powerOff ? wait(powerOff) : null },
    checkpointsPerSecond: checkpoints.perSecond,
    stopMs: checkpoints.stopMs,
    pagesPerCheckpoint: checkpoints.pages,
    bytesPerCheckpoint: checkpoints.bytes,
    primaries,
    copiesRunning: await site.copiesRunning().catch(() => []),
    findings: [...(failure === undefined ? [] : [failure]), ...result.findings],
  };
}

/** Filled in as the play goes on. */
interface Scenes {
  primaries: string[];
  planned?: WindowSummary;
  powerOff?: WindowSummary;
}

async function playScenes(
  site: RedisSite,
  display: Display,
  counters: Workload<"counters">,
  seen: Scenes,
  signal: AbortSignal,
): Promise<void> {
  const scene = () => delay(SCENE_MS, undefined, { signal });
  const first = await site.untilProtected({ timeoutMs: PATIENCE_MS });
  seen.primaries.push(first.primary!);
  await scene();

  const to = first.standbys.find(({ state }) => state === "in-sync")!.node;
  display.act(`planned switch: from ${first.primary} to ${to}`);
  await counters.mark("planned");
  const { stopMs } = await site.switchTo(to);
  if (stopMs !== null) display.step(`it stood still for ${stopMs.toFixed(0)} ms`);
  await scene();
  seen.planned = await counters.mark("between");
  const second = await site.untilProtected({ term: first.term + 1, timeoutMs: PATIENCE_MS });
  seen.primaries.push(second.primary!);
  if (second.primary !== to) throw new Error(`The switch to ${to} failed: it runs on ${second.primary}`);
  await scene();

  display.act(`power-off: ${to} dies, no goodbye`);
  await counters.mark("power-off");
  await site.lab.powerOff(to);
  await scene();
  seen.powerOff = await counters.mark("after");

  display.act(`power-on: ${to} comes back; it must not run a second copy`);
  await site.lab.powerOn(to);
  const third = await site.untilProtected({ term: second.term + 1, timeoutMs: PATIENCE_MS });
  seen.primaries.push(third.primary!);
  await scene();
}

/** Asks the cluster now and then, so that the clients' lines can say who answers them, and tells what happened. */
class Follower {
  readonly #site: RedisSite;
  readonly #display: Display;
  readonly #abort = new AbortController();
  #report: ApplicationReport | undefined;
  #broken = 0;

  constructor(site: RedisSite, display: Display) {
    this.#site = site;
    this.#display = display;
    void this.#follow();
  }

  hear(message: Message): void {
    if (message.event === "progress") this.#display.second(message, this.#report);
    if (message.event !== "broken" || ++this.#broken > BREAKS_TOLD) return;
    this.#display.problem(`connection ${message.connection} broke: ${message.reason}`);
    if (this.#broken === BREAKS_TOLD) this.#display.step("further ones are only counted");
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
