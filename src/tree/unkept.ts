/**
 * What a program has that a clone would miss although nothing refuses it: found by looking from outside. A line goes when its
 * thing is kept.
 */
import { readlinkSync } from "node:fs";
import { descriptorInfo, descriptorLinks, readSmall, readStatus, statFields, statusField } from "../kernel/procfs.ts";

export interface Unkept {
  /** Stable, kebab-case. */
  code: string;
  message: string;
  remedy: string;
}

const POLICY_FIELD = 38;
const NAMESPACES = ["ipc", "mnt", "net", "pid", "user", "uts", "cgroup"] as const;

function count(text: string, pattern: RegExp): number {
  return [...text.matchAll(pattern)].length;
}

function orNothing(read: () => string): string {
  try {
    return read();
  } catch {
    // The process has gone, or the kernel was built without this file.
    return "";
  }
}

/** @param init host pid of the application's init, which has the namespaces that the application was given */
export function unkeptOf(pid: number, init: number): Unkept[] {
  const found: Unkept[] = [];
  const timers = count(
    orNothing(() => readSmall(`/proc/${pid}/timers`)),
    /^ID:/gm,
  );
  if (timers > 0)
    found.push({
      code: "not-kept-posix-timers",
      message: `It has ${timers} timers made with timer_create, which a clone would not have`,
      remedy: "Tell it to use timerfd or setitimer.",
    });
  const status = orNothing(() => readStatus(pid));
  if (statusField(status, "Seccomp") !== "0" && status !== "")
    found.push({
      code: "not-kept-seccomp",
      message: "It has a seccomp filter, which a clone would run without",
      remedy: "Turn its sandbox off, or accept that a clone has none.",
    });
  if (status !== "" && Number(statFields(pid)[POLICY_FIELD]) !== 0)
    found.push({
      code: "not-kept-scheduling",
      message: "It has a scheduling policy of its own, which a clone would not have",
      remedy: "Run it with the usual policy.",
    });
  const other = NAMESPACES.filter((name) => namespaceOf(pid, name) !== namespaceOf(init, name));
  if (status !== "" && other.length > 0)
    found.push({
      code: "not-kept-namespaces",
      message: `It has made itself other namespaces (${other.join(", ")}), which a clone would not have`,
      remedy: "Turn its sandbox off.",
    });
  const locks = orNothing(() =>
    descriptorLinks(pid)
      .map(({ fd }) => descriptorInfo(pid, fd))
      .join("\n"),
  );
  if (count(locks, /^lock:/gm) > 0)
    found.push({
      code: "not-kept-file-locks",
      message: "It holds file locks, which a clone would not hold",
      remedy: "None is needed where nothing else in the application takes the same locks.",
    });
  return found;
}

function namespaceOf(pid: number, name: string): string {
  return orNothing(() => readlinkSync(`/proc/${pid}/ns/${name}`));
}
