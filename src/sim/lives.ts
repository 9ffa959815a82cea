import type { Bug } from "./bugs.ts";
import { World } from "./world.ts";

export interface LivesOptions {
  seed: number;
  seconds: number;
  /** From one life's seed to the next; default 1. */
  stride?: number;
  /** At most so many lives. */
  lives?: number;
  bug?: Bug;
  trace?: (line: string) => void;
}

export interface LivesResult {
  lives: number;
  faults: number;
  faultsPerSecond: number;
  faultKinds: Record<string, number>;
  steps: number;
  terms: number;
  releases: number;
  echoes: number;
  forgotten: number;
  lost: number;
  failure?: { seed: number; message: string };
}

/** Runs lives with seeds `seed`, `seed + stride`, … until the time is over or one fails. */
export function runLives(options: LivesOptions): LivesResult {
  const { seed, seconds, stride = 1, bug, trace } = options;
  const sum: LivesResult = {
    lives: 0,
    faults: 0,
    faultsPerSecond: 0,
    faultKinds: {},
    steps: 0,
    terms: 0,
    releases: 0,
    echoes: 0,
    forgotten: 0,
    lost: 0,
  };
  const begin = performance.now();
  const end = begin + seconds * 1000;
  for (let life = 0; performance.now() < end && life < (options.lives ?? Number.POSITIVE_INFINITY); life++) {
    const lifeSeed = seed + life * stride;
    sum.lives++;
    try {
      const result = new World(lifeSeed, {
        ...(bug === undefined ? {} : { bug }),
        ...(trace === undefined ? {} : { trace }),
      }).live();
      sum.faults += result.faults;
      sum.steps += result.steps;
      sum.terms += result.terms;
      sum.releases += result.releases;
      sum.echoes += result.echoes;
      sum.forgotten += result.forgotten;
      if (result.lost) sum.lost++;
      for (const [kind, count] of result.faultKinds) sum.faultKinds[kind] = (sum.faultKinds[kind] ?? 0) + count;
    } catch (error) {
      // An assertion of the machine is a finding like any other.
      sum.failure = {
        seed: lifeSeed,
        message: error instanceof Error ? (error.stack ?? error.message) : String(error),
      };
      break;
    }
  }
  sum.faultsPerSecond = Math.round((sum.faults * 1000) / (performance.now() - begin));
  return sum;
}
