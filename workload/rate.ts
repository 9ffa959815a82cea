/** How many SETs a second a Redis does, the same way for protected and unprotected, demo and benchmark. */
import { startWorkload } from "./driver.ts";
import type { LoadResult } from "./messages.ts";
import { keysOf, type RedisSite, VALUE_BYTES } from "./site.ts";

/** What a run may take beyond its time before it counts as stuck. */
const GRACE_MS = 30_000;

/**
 * `numbered`: clients overwrite numbered values of their own, as those of the demonstration do: 10,000 keys, 100 bytes each.
 * `spread`: 900 random bytes to a random key of the whole data set: nearly every write is to other pages than the last ones.
 */
export type LoadKind = "numbered" | "spread";
const NUMBERED = { keys: 10_000, valueBytes: 100 };

export interface RateOptions {
  kind: LoadKind;
  connections: number;
  /** Requests each connection has in flight. */
  pipeline: number;
  seconds: number;
  /** Of the whole data set. */
  megabytes: number;
}

/** Throws when a connection broke, a write was refused or nobody answered any more: such a rate means nothing. */
export async function measureRate(
  site: RedisSite,
  { host, port }: { host: string; port: number },
  { kind, connections, pipeline, seconds, megabytes }: RateOptions,
): Promise<LoadResult> {
  const what = kind === "numbered" ? NUMBERED : { keys: keysOf(megabytes), valueBytes: VALUE_BYTES };
  const options = { host, port, connections, pipeline, seconds, ...what };
  const load = await startWorkload("load", site.spawn, { ...options, progressMs: 0 });
  const limit = setTimeout(() => void load.kill(), seconds * 1000 + GRACE_MS);
  try {
    const result = await load.result;
    if (result.connectionsBroken + result.errorReplies > 0) throw new Error(result.findings.join("; "));
    if (result.answered === 0) throw new Error(`${host}:${port} answered nothing in ${seconds} s`);
    return result;
  } finally {
    clearTimeout(limit);
  }
}
