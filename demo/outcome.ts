/** What the demo finds out; the JSON document is a contract: fields are only ever added. */
import { styleText } from "node:util";
import { count } from "./display.ts";

export interface Waits {
  median: number;
  worst: number;
}

export interface Outcome {
  connections: number;
  connectionsBroken: number;
  writesAcknowledged: number;
  writesMissing: number;
  /** Acknowledged writes that nobody answered for. */
  writesUnverified: number;
  /** Values that nobody had written, or a write done twice. */
  valuesUnexpected: number;
  readsVerified: number;
  /** The longest time in which no client at all got an answer; null: it did not come to it. */
  gapMs: { planned: number | null; powerOff: number | null };
  /** The longest time that one client waited for an answer: the median client's, the unluckiest one's. */
  waitMs: { planned: Waits | null; powerOff: Waits | null };
  checkpointsPerSecond: number;
  stopMs: { median: number; p99: number; max: number };
  pagesPerCheckpoint: number;
  bytesPerCheckpoint: number;
  /** Writes a second, 50 connections with 16 in flight each, protected over unprotected. */
  throughputRatio: number;
  writesPerSecond: { unprotected: number; protected: number };
  /** Where it ran, in this order. */
  primaries: string[];
  /** Nodes that ran a copy at the end: one. */
  copiesRunning: string[];
  findings: string[];
}

/** No connection broke, nothing acknowledged is missing, nothing ran twice; and it did move each time. */
export function isSound(outcome: Outcome): boolean {
  const { connectionsBroken, writesMissing, writesUnverified, valuesUnexpected, copiesRunning } = outcome;
  const harm = connectionsBroken + writesMissing + writesUnverified + valuesUnexpected;
  const moved = outcome.primaries.length === 3 && outcome.primaries.every((node, i, all) => node !== all[i - 1]);
  return harm === 0 && moved && copiesRunning.length === 1 && outcome.writesAcknowledged > 0;
}

export function renderOutcome(outcome: Outcome, colour: boolean): string {
  const { gapMs, waitMs, stopMs, writesPerSecond } = outcome;
  const ms = (value: number | null) => (value === null ? "—" : `${value.toFixed(value < 10 ? 2 : 0)} ms`);
  const waits = (of: Waits | null) =>
    of === null ? "" : `longest wait: median client ${ms(of.median)}, unluckiest ${ms(of.worst)}`;
  const rows: [string, string, string][] = [
    ["connections", count(outcome.connections), ""],
    ["connections broken", count(outcome.connectionsBroken), ""],
    ["writes acknowledged", count(outcome.writesAcknowledged), ""],
    ["writes missing", count(outcome.writesMissing + outcome.writesUnverified), "each looked for once more"],
    ["planned switch, silence", ms(gapMs.planned), waits(waitMs.planned)],
    ["power-off, silence", ms(gapMs.powerOff), waits(waitMs.powerOff)],
    ["checkpoints per second", outcome.checkpointsPerSecond.toFixed(0), "while the clients wrote"],
    ["stop per checkpoint", ms(stopMs.median), `p99 ${ms(stopMs.p99)}, max ${ms(stopMs.max)}`],
    ["pages per checkpoint", count(outcome.pagesPerCheckpoint), `${count(outcome.bytesPerCheckpoint)} bytes sent`],
    [
      "throughput",
      `${(outcome.throughputRatio * 100).toFixed(0)} %`,
      `of unprotected: ${count(writesPerSecond.protected)} of ${count(writesPerSecond.unprotected)} writes/s, 16 in flight each`,
    ],
    ["ran on", outcome.primaries.join(" → "), `copies at the end: ${outcome.copiesRunning.join(", ") || "none"}`],
  ];
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  const lines = rows.map(([name, value, note]) =>
    `  ${name.padEnd(widths[0]!)}  ${value.padStart(widths[1]!)}  ${note}`.trimEnd(),
  );
  const sound = isSound(outcome);
  const verdict = sound ? "No connection broke, no write is missing." : "Not as it must be:";
  const painted = colour ? styleText(sound ? "green" : "red", verdict, { validateStream: false }) : verdict;
  const findings = outcome.findings.map((finding) => `  ${finding}`);
  return `\n${lines.join("\n")}\n\n${painted}\n${findings.length > 0 ? `${findings.join("\n")}\n` : ""}`;
}
