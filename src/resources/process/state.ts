/** A process and its threads as plain data; how they are read from outside. */
import { readFileSync, readlinkSync } from "node:fs";
import { closeDescriptor, openPath } from "../../kernel/calls.ts";
import { checked } from "../../kernel/errors.ts";
import { O_PATH, Status } from "../../kernel/files.ts";
import { type MemoryMarks, memoryMarks, readSmall, readStatus, statFields, statusField } from "../../kernel/procfs.ts";
import { DELETED, objectId } from "../nameless/state.ts";
import { controllingTerminal } from "../pty/controlling.ts";

/**
 * @kind process
 * @kept pids, parents, groups, sessions, ended ones not collected; user and groups, capabilities, securebits, no_new_privs;
 *   limits, umask, name, command line, environment, program (also one that was deleted or replaced since, or is a memfd's),
 *   working directory, personality, dumpable, out-of-memory
 *   adjustment; signal actions, pending signals; interval and POSIX timers with what is left of them; seccomp filters;
 *   limits of the cgroup; registrations for membarrier, PR_SET_MDWE, PR_SET_MEMORY_MERGE, what a core holds; that a signal
 *   has stopped it (job control), and whether its parent has collected that.
 * @unkept namespaces and mounts that it makes itself (refused); memory, descriptors or working directory shared with another process,
 *   or had by one thread alone (refused); its own root (chroot).
 */
export interface ProcessState {
  /** Pids as the application sees them. */
  pid: number;
  parent: number;
  group: number;
  session: number;
  /** Made by a fork of `parent`'s memory; its memory begins as a copy. */
  name: string;
  executable: string;
  /** As layouts name it, where no name leads to it any more. */
  executableId?: string;
  workingDirectory: string;
  root: string;
  umask: number;
  credentials: Credentials;
  /** [soft, hard] of resources 0 … 15; −1 is infinity. */
  limits: Array<[number, number]>;
  marks: MemoryMarks;
  auxv: Buffer;
  personality: number;
  nice: number;
  /** Number of its controlling terminal; −1: none. */
  terminal: number;
  oomScoreAdjustment: string;
}

export interface Credentials {
  /** real, effective, saved, file system */
  uids: number[];
  gids: number[];
  groups: number[];
  /** Hexadecimal masks. */
  inheritable: string;
  permitted: string;
  effective: string;
  bounding: string;
  ambient: string;
  noNewPrivileges: boolean;
}

const status = new Status();

function numbers(text: string): number[] {
  return text ? text.trim().split(/\s+/).map(Number) : [];
}

export function parseCredentials(status: string): Credentials {
  return {
    uids: numbers(statusField(status, "Uid")),
    gids: numbers(statusField(status, "Gid")),
    groups: numbers(statusField(status, "Groups")),
    inheritable: statusField(status, "CapInh"),
    permitted: statusField(status, "CapPrm"),
    effective: statusField(status, "CapEff"),
    bounding: statusField(status, "CapBnd"),
    ambient: statusField(status, "CapAmb"),
    noNewPrivileges: statusField(status, "NoNewPrivs") === "1",
  };
}

const LIMIT_LINE = /^Max .{22}(\S+)\s+(\S+)/gm;

/** From /proc, not by prlimit, which needs CAP_SYS_RESOURCE for a process of another user. In the order of RLIMIT_*. */
function readLimits(pid: number): Array<[number, number]> {
  const value = (text: string) => (text === "unlimited" ? -1 : Number(text));
  return [...readSmall(`/proc/${pid}/limits`).matchAll(LIMIT_LINE)].map((m) => [value(m[1]!), value(m[2]!)]);
}

function readExecutable(pid: number): Pick<ProcessState, "executable" | "executableId"> {
  const place = `/proc/${pid}/exe`;
  const executable = readlinkSync(place);
  if (!executable.endsWith(DELETED)) return { executable };
  const fd = openPath(place, O_PATH);
  try {
    checked(status.read(fd, ""), "statx", place);
    return { executable, executableId: objectId(status.ownMajor, status.ownMinor, status.exactInode) };
  } finally {
    closeDescriptor(fd);
  }
}

/** Reads a stopped process. `pid` is the one this program sees. */
export function readProcess(pid: number, parent: number): ProcessState {
  const status = readStatus(pid);
  const stat = statFields(pid);
  const inner = (field: string) => Number(statusField(status, field).split(/\s+/).at(-1));
  return {
    pid: inner("NSpid"),
    parent,
    group: inner("NSpgid"),
    session: inner("NSsid"),
    name: readFileSync(`/proc/${pid}/comm`, "latin1").slice(0, -1),
    ...readExecutable(pid),
    workingDirectory: readlinkSync(`/proc/${pid}/cwd`),
    root: readlinkSync(`/proc/${pid}/root`),
    umask: Number.parseInt(statusField(status, "Umask"), 8),
    credentials: parseCredentials(status),
    limits: readLimits(pid),
    marks: memoryMarks(pid),
    auxv: readFileSync(`/proc/${pid}/auxv`),
    personality: Number.parseInt(readFileSync(`/proc/${pid}/personality`, "latin1"), 16),
    nice: Number(stat[16]),
    terminal: controllingTerminal(pid) ?? -1,
    oomScoreAdjustment: readFileSync(`/proc/${pid}/oom_score_adj`, "latin1").trim(),
  };
}
