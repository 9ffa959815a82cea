/** Applications in words and tables. */
import type { ApplicationReport } from "../agent/api-types.ts";
import type { StandbyStatus, SynchronisationStatus } from "../instance/control.ts";
import { bytes, duration, milliseconds, shellWords } from "./output.ts";
import { table } from "./table.ts";

export function applicationsTable(reports: readonly ApplicationReport[]): string {
  if (reports.length === 0) return "No applications.\n";
  const rows = reports.map((report) => {
    const figures = report.instance?.figures;
    return [
      report.name,
      report.state,
      report.primary ?? "",
      String(report.term),
      standbysInShort(report),
      report.address,
      figures ? figures.checkpointsPerSecond.toFixed(1) : "",
      figures ? milliseconds(figures.stopUs.median) : "",
      shellWords(report.command),
    ];
  });
  return table(["name", "state", "primary", "term", "standbys", "address", "ckpt/s", "stop", "command"], rows);
}

function standbysInShort({ standbys, inSync, wanted }: ApplicationReport): string {
  const states = new Map(standbys.map(({ node, state }) => [node, state] as const));
  const all = [...new Set([...wanted, ...inSync, ...states.keys()])];
  if (all.length === 0) return "none";
  return all
    .map((node) => `${node} (${states.get(node) ?? (inSync.includes(node) ? "in-sync" : "no clone")})`)
    .join(", ");
}

export function applicationText(report: ApplicationReport): string {
  const { instance, ended } = report;
  const lines: [string, string][] = [
    ["application", report.name],
    ["state", report.state + (ended ? `: ${ended.reason} (${ended.at})` : "")],
    ["primary", `${report.primary ?? "none"}, term ${report.term}`],
    ["in sync", (report.inSync.join(", ") || "none") + tooFew(report) + lacking(report)],
    ...(report.stale
      ? [["store", "does not answer: the three lines above are as it told last"] as [string, string]]
      : []),
    ["address", report.address],
    ["command", shellWords(report.command)],
    ["policy", `commit ${report.commit}, period ${report.period}, keep ${report.keep}`],
  ];
  const { unprotectable } = instance ?? {};
  if (unprotectable) lines.push(["unprotectable", `since ${unprotectable.since}: ${unprotectable.message}`]);
  const { health } = instance ?? {};
  if (health) lines.push(["health", `${health.probe} probe: ${health.state}${health.why ? `, ${health.why}` : ""}`]);
  if (instance) {
    const { figures } = instance;
    const { stopUs, commitUs } = figures;
    lines.push(
      [
        "processes",
        `${instance.processes}, threads ${instance.threads}, init ${instance.initPid}, instance ${instance.instancePid}`,
      ],
      ["memory", bytes(figures.residentBytes)],
      [
        "checkpoints",
        `${figures.checkpoints}, ${figures.checkpointsPerSecond.toFixed(1)} a second, epoch ${instance.epoch}`,
      ],
      [
        "stop",
        `median ${milliseconds(stopUs.median)}, p99 ${milliseconds(stopUs.p99)}, max ${milliseconds(stopUs.max)}`,
      ],
      [
        "commit",
        `median ${milliseconds(commitUs.median)}, p99 ${milliseconds(commitUs.p99)}, max ${milliseconds(commitUs.max)}`,
      ],
      ["each", `${Math.round(figures.pagesPerCheckpoint)} pages, ${bytes(figures.bytesPerCheckpoint)}`],
      ["held packets", String(figures.heldPackets)],
    );
  }
  const width = Math.max(...lines.map(([key]) => key.length));
  const head = lines.map(([key, value]) => `${key.padEnd(width)}  ${value}\n`).join("");
  const standbys = report.standbys.length > 0 ? `\n${standbysTable(report.standbys)}` : "";
  const problems = report.problems.map(({ node, failure }) => `\nNo clone on ${node}: ${failure.message}\n`).join("");
  return head + standbys + problems;
}

function tooFew({ inSync, minInSync, onTooFew, state }: ApplicationReport): string {
  if (inSync.length >= minInSync || state === "ended") return "";
  return ` (${minInSync} wanted; output ${onTooFew === "hold" ? "waits" : "goes on"})`;
}

function lacking({ missing, state }: ApplicationReport): string {
  return missing > 0 && state !== "ended" ? ` (no node yet for ${missing} more)` : "";
}

function standbysTable(standbys: readonly StandbyStatus[]): string {
  const rows = standbys.map(({ node, state, acknowledgedEpoch, lagMs, synchronisation }) => [
    node,
    state,
    acknowledgedEpoch === undefined ? "" : String(acknowledgedEpoch),
    lagMs === undefined ? "" : `${Math.round(lagMs)} ms`,
    ...copyCells(synchronisation),
  ]);
  return table(["standby", "state", "epoch", "lag", "to send", "rate", "left"], rows);
}

function copyCells(copy: SynchronisationStatus | undefined): string[] {
  if (copy === undefined) return ["", "", ""];
  const { step, remainingBytes, bytesPerSecond, secondsLeft } = copy;
  const left = secondsLeft === undefined ? "" : duration(secondsLeft);
  return [`${bytes(remainingBytes)} (${step})`, `${bytes(bytesPerSecond)}/s`, left];
}
