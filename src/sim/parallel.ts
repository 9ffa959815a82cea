/** Lives on all processors: each of some threads lives every so-manieth seed. */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import type { LivesOptions, LivesResult } from "./lives.ts";

/** A life's steps leave much behind that is dead at once: with room for it the collector has little to do. */
const YOUNG_MB = 64;

type Shared = Omit<LivesOptions, "trace">;

/** The lives of all threads together; of failures, that of the lowest seed. */
export async function runLivesOnAll(options: Shared, threads = availableParallelism()): Promise<LivesResult> {
  const results = await Promise.all(
    Array.from({ length: threads }, (_, i) => runInThread({ ...options, seed: options.seed + i, stride: threads })),
  );
  return results.reduce(together);
}

function runInThread(options: Shared): Promise<LivesResult> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL("./thread.ts", import.meta.url), {
      workerData: options,
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB },
    });
    worker.once("message", resolve);
    worker.once("error", reject);
  });
}

function together(a: LivesResult, b: LivesResult): LivesResult {
  const faultKinds = { ...a.faultKinds };
  for (const [kind, count] of Object.entries(b.faultKinds)) faultKinds[kind] = (faultKinds[kind] ?? 0) + count;
  const failures = [a.failure, b.failure].filter((failure) => failure !== undefined);
  const [failure] = failures.sort((x, y) => x.seed - y.seed);
  return {
    lives: a.lives + b.lives,
    faults: a.faults + b.faults,
    faultsPerSecond: a.faultsPerSecond + b.faultsPerSecond,
    faultKinds,
    steps: a.steps + b.steps,
    terms: a.terms + b.terms,
    releases: a.releases + b.releases,
    echoes: a.echoes + b.echoes,
    forgotten: a.forgotten + b.forgotten,
    lost: a.lost + b.lost,
    ...(failure && { failure }),
  };
}
