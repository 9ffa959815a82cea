/** Gathers what a protected application's checkpoints cost while something goes on: not since its start. */
import { setTimeout as sleep } from "node:timers/promises";
import type { CheckpointSummary } from "../src/agent/api-types.ts";

export interface CheckpointFigures {
  count: number;
  perSecond: number;
  stopMs: { median: number; p99: number; max: number };
  /** From a checkpoint's begin to its acknowledgement. */
  commitMs: { median: number };
  pages: number;
  bytes: number;
}

const POLL_MS = 300;

/** The primary remembers only the last checkpoints; asked often enough, each is seen. */
export class CheckpointSamples {
  readonly #seen = new Map<string, CheckpointSummary>();
  readonly #ask: () => Promise<CheckpointSummary[]>;
  readonly #abort = new AbortController();
  /** Taken before: of another time, so not counted. */
  #before: Set<string> | undefined;
  readonly #polling: Promise<void>;

  constructor(ask: () => Promise<CheckpointSummary[]>) {
    this.#ask = ask;
    this.#polling = this.#poll();
  }

  /** Ends the gathering, without a result. */
  stop(): void {
    this.#abort.abort();
  }

  async finish(): Promise<CheckpointFigures> {
    this.stop();
    await this.#polling;
    await this.#take();
    return summarise([...this.#seen.values()]);
  }

  async #poll(): Promise<void> {
    while (!this.#abort.signal.aborted) {
      await this.#take();
      await sleep(POLL_MS, undefined, { signal: this.#abort.signal }).catch(() => {});
    }
  }

  /** While a switch is under way nobody can be asked: what is missed then is missed. */
  async #take(): Promise<void> {
    const answer = await this.#ask().catch(() => undefined);
    if (answer === undefined) return;
    const keyed = answer.map((summary) => [`${summary.term}/${summary.epoch}`, summary] as const);
    this.#before ??= new Set(keyed.map(([key]) => key));
    for (const [key, summary] of keyed) if (!this.#before.has(key)) this.#seen.set(key, summary);
  }
}

export function summarise(samples: CheckpointSummary[]): CheckpointFigures {
  const ordered = samples.toSorted((a, b) => Date.parse(a.at) - Date.parse(b.at));
  const commits = samples.flatMap(({ commitUs }) => (commitUs === undefined ? [] : commitUs / 1000));
  const stops = samples.map(({ stopUs }) => stopUs / 1000).sort((a, b) => a - b);
  return {
    count: samples.length,
    perSecond: perSecond(ordered),
    stopMs: { median: quantile(stops, 0.5), p99: quantile(stops, 0.99), max: stops.at(-1) ?? 0 },
    commitMs: { median: median(commits) },
    pages: mean(samples.map(({ pages }) => pages)),
    bytes: mean(samples.map(({ bytes }) => bytes)),
  };
}

/** By the epochs' numbers, which count those as well that nobody saw. */
function perSecond(ordered: CheckpointSummary[]): number {
  let epochs = 0;
  let elapsedMs = 0;
  for (let i = 1; i < ordered.length; i++) {
    const [a, b] = [ordered[i - 1]!, ordered[i]!];
    if (a.term !== b.term || b.epoch <= a.epoch) continue;
    epochs += b.epoch - a.epoch;
    elapsedMs += Date.parse(b.at) - Date.parse(a.at);
  }
  return elapsedMs === 0 ? 0 : round((epochs * 1000) / elapsedMs);
}

function quantile(sorted: number[], share: number): number {
  return round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0);
}

export function median(values: number[]): number {
  return quantile(
    values.toSorted((a, b) => a - b),
    0.5,
  );
}

function mean(values: number[]): number {
  return values.length === 0 ? 0 : Math.round(values.reduce((sum, value) => sum + value, 0) / values.length);
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
