/**
 * What a program has that a clone would miss although nothing refuses it: found by looking from outside. A line goes when its
 * thing is kept.
 */
import { readlinkSync } from "node:fs";
import { descriptorInfo, descriptorLinks, readStatus } from "../kernel/procfs.ts";

export interface Unkept {
  /** Stable, kebab-case. */
  code: string;
  message: string;
  remedy: string;
}

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
  const status = orNothing(() => readStatus(pid));
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
