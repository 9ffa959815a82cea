/** What becomes of an application's threads that end here: nobody looks at what happens to them any more. */
import type { Tracees } from "../tree/tracees.ts";

/** Longest wait for all threads to stop. */
const STOP_TIMEOUT_US = 100_000;

/** It is nobody's application any more: nothing that happens to it is told. */
export function unheed(tracees: Tracees): void {
  tracees.onKilled = () => {};
  tracees.onEnding = () => {};
  tracees.onInitEnd = () => {};
  process.removeAllListeners("SIGCHLD");
}

/** Whether all threads are stopped, which they are from here on. */
export function standsStill(tracees: Tracees): boolean {
  try {
    if (!tracees.isStopped) tracees.stop(STOP_TIMEOUT_US);
    return true;
  } catch {
    return false;
  }
}
