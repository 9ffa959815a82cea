/** What a workload process says on its standard output and hears on its standard input: one JSON document a line. */
import type { WindowSummary } from "./gaps.ts";
import type { Distribution } from "./histogram.ts";

export interface CounterOptions {
  host: string;
  port: number;
  connections: number;
  /** Each connection writes over a ring of this many keys of its own. */
  slots: number;
  valueBytes: number;
  /** Pause of each connection between an answer and its next request; 0: none. */
  paceMs: number;
  /** Pause between two progress events; 0: none. */
  progressMs: number;
  /** How long after `stop` a last answer may take before its connection counts as broken. */
  drainMs: number;
}

export interface LoadOptions {
  host: string;
  port: number;
  connections: number;
  /** Requests each connection has in flight. */
  pipeline: number;
  /** Keys are drawn from this many. */
  keys: number;
  valueBytes: number;
  progressMs: number;
  /** Ends by itself after this long; 0: at `stop`. */
  seconds: number;
}

export interface FillOptions {
  host: string;
  port: number;
  keys: number;
  valueBytes: number;
  /** Pause between two progress events. */
  progressMs: number;
}

export type Command = { command: "mark"; name: string } | { command: "stop" };

export interface CounterResult {
  connections: number;
  connectionsBroken: number;
  writesAcknowledged: number;
  /** Acknowledged writes that were not there when read, overwritten or looked for at the end. */
  writesMissing: number;
  /** Acknowledged writes that could not be looked for, because nobody answered. */
  writesUnverified: number;
  /** Values that nobody can have written at that time: a write done twice, or another's value. */
  valuesUnexpected: number;
  readsVerified: number;
  errorReplies: number;
  answerMs: Distribution;
  windows: WindowSummary[];
  /** The first few findings in words. */
  findings: string[];
}

export interface LoadResult {
  answered: number;
  errorReplies: number;
  connectionsBroken: number;
  /** Over the whole run after the first second (or all of it, when shorter). */
  perSecond: number;
  /** Answers in each tenth of a second. */
  series: number[];
  /** From sending a batch of `pipeline` requests to its last answer. */
  batchMs: Distribution;
  windows: WindowSummary[];
  /** Processor time of this workload process, user and system, as a share of one core. */
  cpuShare: number;
  findings: string[];
}

export interface FillResult {
  keys: number;
  tookMs: number;
}

export type Message =
  | { event: "ready"; connections: number }
  | { event: "progress"; answered: number; perSecond: number; silenceMs: number; broken: number; missing: number }
  | { event: "marked"; name: string; ended: WindowSummary }
  | { event: "broken"; connection: number; reason: string }
  | { event: "finding"; text: string }
  | { event: "finished"; result: CounterResult | LoadResult | FillResult }
  | { event: "failed"; message: string };
