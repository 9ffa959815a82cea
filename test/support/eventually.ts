import { setTimeout as sleep } from "node:timers/promises";

const POLL_MS = 50;

/** Waiting longer will not mend it: `eventually` fails with it at once. */
export class Hopeless extends Error {
  override name = "Hopeless";
}

/** Waits for a condition, on a busy machine too. The last failure is told. */
export async function eventually<T>(
  what: string,
  look: () => T | Promise<T>,
  timeoutMs = 60_000,
): Promise<NonNullable<T>> {
  const deadline = performance.now() + timeoutMs;
  let failure: unknown;
  while (performance.now() < deadline) {
    try {
      const found = await look();
      if (found) return found;
      failure = undefined;
    } catch (error) {
      if (error instanceof Hopeless) throw error;
      failure = error;
    }
    await sleep(POLL_MS);
  }
  throw new Error(`Not within ${timeoutMs} ms: ${what}`, { cause: failure });
}
