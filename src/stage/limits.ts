/**
 * Limits on the application's own cgroup (Documentation/admin-guide/cgroup-v2.rst), whoever has set them: files of its directory
 * that are not as the kernel makes them. They go with the application to every node.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** By the file's name; it holds a setting, not a figure, and can be set on any node alike. */
const DEFAULTS: ReadonlyMap<string, string> = new Map([
  ["cgroup.max.depth", "max"],
  ["cgroup.max.descendants", "max"],
  ["cpu.idle", "0"],
  ["cpu.max", "max 100000"],
  ["cpu.max.burst", "0"],
  ["cpu.weight", "100"],
  ["memory.high", "max"],
  ["memory.low", "0"],
  ["memory.max", "max"],
  ["memory.min", "0"],
  ["memory.oom.group", "0"],
  ["memory.swap.high", "max"],
  ["memory.swap.max", "max"],
  ["pids.max", "max"],
]);
/** One for each size of huge pages. */
const HUGE = /^hugetlb\.[^.]+(\.rsvd)?\.max$/;
const LOOK_EVERY_MS = 1000;

/** Values by file names, only those that somebody has set. */
export type Limits = Record<string, string>;

function defaultOf(file: string): string | undefined {
  return DEFAULTS.get(file) ?? (HUGE.test(file) ? "max" : undefined);
}

export function readLimits(cgroup: string): Limits {
  const limits: Limits = {};
  for (const file of readdirSync(cgroup).sort()) {
    const untouched = defaultOf(file);
    if (untouched === undefined) continue;
    const value = readFileSync(join(cgroup, file), "latin1").trim();
    if (value !== untouched) limits[file] = value;
  }
  return limits;
}

/** As far as the node has the controllers for it. */
export function setLimits(cgroup: string, limits: Limits): void {
  const there = new Set(readdirSync(cgroup));
  for (const [file, value] of Object.entries(limits)) if (there.has(file)) writeFileSync(join(cgroup, file), value);
}

/** Follows them at no cost in a stop: they are the operator's, and the application does not see them. */
export class LimitsWatch {
  readonly #cgroup: string;
  #lookedMs = Number.NEGATIVE_INFINITY;
  now: Limits = {};

  constructor(cgroup: string) {
    this.#cgroup = cgroup;
  }

  /** Unless `exact`, what was seen less than a second ago counts as seen now. */
  look(nowMs: number, exact = false): void {
    if (!exact && nowMs - this.#lookedMs < LOOK_EVERY_MS) return;
    this.#lookedMs = nowMs;
    this.now = readLimits(this.#cgroup);
  }
}
