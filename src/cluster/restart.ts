/** Whether an application that has crashed or hangs is restarted, and from what. Pure: times are milliseconds since 1970. */
import type { Application } from "./application.ts";
import type { RestartStep } from "./spec.ts";

/** Restarts so far; goes from one primary to the next with the order. */
export type RestartHistory = readonly number[];

export type RestartDecision =
  | { step: RestartStep; history: RestartHistory }
  /** It is not restarted (again). */
  | { step: undefined; why: string };

/** From the primary to its standbys in sync: go on with it. */
export interface RestartOrder {
  /** Of the primary that says so. */
  term: number;
  step: Exclude<RestartStep, "cold">;
  reason: string;
  /** This restart included. */
  history: RestartHistory;
}

/** Signals by which somebody ends a program on purpose, or a reader that went away does: no crashes. */
const ORDERLY = new Set([1 /* HUP */, 2 /* INT */, 13 /* PIPE */, 15 /* TERM */]);

export function isCrash(signal: number): boolean {
  return !ORDERLY.has(signal);
}

/** @param canGoOn a standby has a checkpoint and can be told */
export function decideRestart(
  policy: Application["restart"],
  history: RestartHistory,
  canGoOn: boolean,
  now: number,
): RestartDecision {
  const { on, steps, within } = policy;
  if (on === "never") return { step: undefined, why: "its specification says so" };
  // A clock that was set back makes no crash of the future count for ever.
  const recent = history.filter((at) => Math.abs(now - at) < within * 1000);
  if (recent.length >= steps.length) {
    const times = `${recent.length === 1 ? "once" : `${recent.length} times`} within ${within} s`;
    return { step: undefined, why: `it was restarted ${times}` };
  }
  const step = steps.slice(recent.length).find((one) => one === "cold" || canGoOn);
  if (step === undefined) return { step, why: "no standby is in sync" };
  return { step, history: [...recent, now] };
}
