/**
 * `RUN/NAME.pid.json`: which processes an instance has on this node, so that an agent (or a successor of the instance)
 * finds them when the instance is dead. The start time guards against a process id that was given out again.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface PidFile {
  /** Process id of the application's init as the node sees it. */
  initPid: number;
  /** Clock ticks since boot: field 22 of /proc/PID/stat. */
  initStartTicks: number;
  /** The term under which the application runs here. */
  term?: number;
  /** The node's side of the application's veth. */
  veth?: string;
}

export function pidFilePath(runDirectory: string, application: string): string {
  return join(runDirectory, `${application}.pid.json`);
}

/** Replaces the file in one step. Call it as soon as the application's init exists, on the primary and after a switch. */
export function writePidFile(runDirectory: string, application: string, file: PidFile): void {
  const path = pidFilePath(runDirectory, application);
  writeFileSync(`${path}.new`, JSON.stringify(file));
  renameSync(`${path}.new`, path);
}

/** Undefined when there is none, or none that can be read. */
export function readPidFile(runDirectory: string, application: string): PidFile | undefined {
  try {
    return JSON.parse(readFileSync(pidFilePath(runDirectory, application), "utf8")) as PidFile;
  } catch {
    return undefined;
  }
}

export function removePidFile(runDirectory: string, application: string): void {
  rmSync(pidFilePath(runDirectory, application), { force: true });
}

/** Start time of a live process in clock ticks; undefined when there is no such process or it is a zombie. */
export function startTicks(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The command, in parentheses, may itself hold blanks and parentheses: count from the last one.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (fields[0] === "Z" || fields[0] === "X") return undefined;
    return Number(fields[19]);
  } catch {
    return undefined;
  }
}
