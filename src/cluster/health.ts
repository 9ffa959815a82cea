/** What follows from an application's probes. Pure: times are handed in, milliseconds of a monotonic clock. */
import type { Application } from "./application.ts";

/** `void`: it says nothing about the application, for this node was too slow itself, or its output is held. */
export type ProbeResult = { passed: true } | { passed: false; why: string } | "void";

export interface HealthState {
  /** When probes began. */
  since: number;
  /** One has passed since. */
  passed: boolean;
  /** In a row. */
  failures: number;
  /** Of the last that failed. */
  why: string | undefined;
}

export const startHealth = (now: number): HealthState => ({ since: now, passed: false, failures: 0, why: undefined });

/** @returns whether it has just come to hang, too */
export function judgeProbe(
  state: HealthState,
  result: ProbeResult,
  { failures, grace }: Application["health"],
  now: number,
): { state: HealthState; hangs: boolean } {
  if (result === "void") return { state, hangs: false };
  if (result.passed) return { state: { ...state, passed: true, failures: 0, why: undefined }, hangs: false };
  const early = !state.passed && now - state.since < grace * 1000;
  const inRow = early ? 0 : state.failures + 1;
  return { state: { ...state, failures: inRow, why: result.why }, hangs: inRow === failures };
}
