/** Work that may take long, in slices between which this process hears and is heard. */
import { setImmediate as nextTurn } from "node:timers/promises";

type Work<T> = Generator<void, T>;

/** Everything in one go. */
export function atOnce<T>(work: Work<T>): T {
  return goOn(work, Number.POSITIVE_INFINITY) as T;
}

/**
 * Begins at once, and returns what it comes to where the first slice is enough; else a promise of it. Work ends a slice at its own
 * next pause.
 * @param between called after each slice that was not the last
 */
export function inSlices<T>(work: Work<T>, sliceMs: number, between: () => void): T | Promise<T> {
  const first = goOn(work, sliceMs);
  return first === LEFT ? theRest(work, sliceMs, between) : (first as T);
}

const LEFT = Symbol("left");

function goOn<T>(work: Work<T>, sliceMs: number): T | typeof LEFT {
  const until = performance.now() + sliceMs;
  for (;;) {
    const { done, value } = work.next();
    if (done) return value;
    if (performance.now() > until) return LEFT;
  }
}

async function theRest<T>(work: Work<T>, sliceMs: number, between: () => void): Promise<T> {
  for (;;) {
    between();
    await nextTurn();
    const result = goOn(work, sliceMs);
    if (result !== LEFT) return result as T;
  }
}
