/**
 * Runs a command beside the application: with its files, network and host name, and with nothing else of it. It is no process of the
 * application: not in its process ids, its cgroup, its checkpoints. It has a cgroup of its own, which is emptied afterwards.
 */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { call, closeDescriptor, spawn } from "../kernel/calls.ts";
import type { Stage } from "../stage/stage.ts";
import { Patience } from "./patience.ts";

export interface ExecOptions {
  stage: Pick<Stage, "init">;
  command: readonly string[];
  environment: Record<string, string>;
  workingDirectory: string;
  /** cgroup2 directory that is made for it. */
  cgroup: string;
}

const O_NONBLOCK_CLOEXEC = 0o2004000;
const END_MS = 5000;
/**
 * Its exit status comes through a pipe: nobody here waits for it as for a child of the event loop, since the tracer's wait takes all.
 * It dies with this process (prctl(2), PR_SET_PDEATHSIG).
 */
const SCRIPT = `PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
echo 0 >"$1" || exit; shift
setpriv --pdeathsig KILL "$@" </dev/null >/dev/null 2>&1 3>&-
echo $? >&3`;

/** @returns why it has failed; undefined: it has passed */
export async function probeExec(options: ExecOptions, patience: Patience): Promise<string | undefined> {
  const { stage, command, environment, workingDirectory, cgroup } = options;
  await emptyCgroup(cgroup);
  mkdirSync(cgroup, { recursive: true });
  const ends = Buffer.alloc(8);
  call("pipe2", ends, O_NONBLOCK_CLOEXEC);
  const [reader, writer] = [ends.readInt32LE(0), ends.readInt32LE(4)];
  try {
    const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
    const inside = ["env", "-i", `--chdir=${workingDirectory}`, ...variables, ...command];
    const enter = ["nsenter", "--target", String(stage.init), "--mount", "--net", "--ipc", "--uts", "--", ...inside];
    const argv = ["setpriv", "--pdeathsig", "KILL", "sh", "-c", SCRIPT, "probe", `${cgroup}/cgroup.procs`, ...enter];
    spawn("/usr/bin/env", ["env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", ...argv], Int32Array.of(writer, 3));
    closeDescriptor(writer);
    const status = await patience.until(() => readStatus(reader));
    if (status === undefined) return `"${command[0]}" has not ended in time`;
    return status === "0" ? undefined : `"${command[0]}" has ended with ${status || "nothing said"}`;
  } finally {
    closeDescriptor(reader);
    await emptyCgroup(cgroup);
  }
}

/** What the script has said, "" when it ended without a word; undefined as long as it runs. */
function readStatus(reader: number): string | undefined {
  const bytes = Buffer.alloc(16);
  try {
    return bytes.toString("latin1", 0, call("read", reader, bytes, bytes.length)).trim();
  } catch (error) {
    if ((error as { errno?: number }).errno === -11) return undefined;
    throw error;
  }
}

/** Kills what is in it and removes it; what does not end (a file system that hangs) stays there, and the next probe tries again. */
async function emptyCgroup(cgroup: string): Promise<void> {
  if (!existsSync(cgroup)) return;
  writeFileSync(`${cgroup}/cgroup.kill`, "1");
  const isEmpty = () => /populated 0/.test(readFileSync(`${cgroup}/cgroup.events`, "latin1"));
  if (await new Patience(END_MS).until(() => isEmpty() || undefined)) rmdirSync(cgroup);
}
