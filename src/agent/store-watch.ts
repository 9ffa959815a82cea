/** Tells when the cluster store does not answer any more, and when it does again: an operator asks only when it is late. */
import { setTimeout as sleep } from "node:timers/promises";
import { storeKeys } from "../cluster/store.ts";
import { OperatingError } from "../kernel/failure.ts";
import type { AgentContext } from "./context.ts";

const PERIOD_MS = 5_000;
/** One question without an answer is no news. */
const FAILURES = 2;

/** @param periodMs between two questions */
export async function watchStore(context: AgentContext, signal: AbortSignal, periodMs = PERIOD_MS): Promise<void> {
  const { store, events, node } = context;
  for (let failures = 0; !signal.aborted; ) {
    const failure = await store.get(storeKeys.node(node)).then(
      () => undefined,
      (error: unknown) => error,
    );
    if (signal.aborted) return;
    failures = failure === undefined ? 0 : failures + 1;
    const wasAway = context.storeAway;
    context.storeAway = failures >= FAILURES;
    if (context.storeAway && !wasAway) {
      const message = `${(failure as Error).message}. What is in sync goes on; changes of views wait`;
      events.add({ kind: "store-unreachable", message });
    } else if (wasAway && !context.storeAway)
      events.add({ kind: "store-answers", message: "The cluster store answers again" });
    await sleep(periodMs, undefined, { signal, ref: false }).catch(() => {});
  }
}

export function isStoreAway(error: unknown): boolean {
  return error instanceof OperatingError && error.code === "store-unreachable";
}
