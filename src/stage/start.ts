/** Starts a program on a stage: the application's first process, traced from its first instruction. */

import { closeDescriptor, openInRoot, openPath, tryCall } from "../kernel/calls.ts";
import { SystemCallError } from "../kernel/errors.ts";
import { OperatingError } from "../kernel/failure.ts";
import { O_PATH, O_RDWR } from "../kernel/files.ts";
import { SIGNAL } from "../kernel/numbers.ts";
import { Remote } from "../kernel/remote.ts";
import { NO_SIGNALS, setSignalMask, trapAgain, waitFor } from "../kernel/trace.ts";
import { INSTANCE_HANDLE, type Stage } from "./stage.ts";

export interface Program {
  command: string[];
  environment: Record<string, string>;
  workingDirectory: string;
  /** In the application's view; what it writes to standard output and error. */
  logPath: string;
}

const O_LOG = 0o2101; // write, create, append
const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Where the program is in the application's view. Errors: `program-not-found`. */
export function findProgram(rootFd: number, program: Program): string {
  const [name] = program.command;
  if (!name) throw new OperatingError("program-not-found", "No program is given", { remedy: "Name it after --." });
  const path = program.environment.PATH ?? DEFAULT_PATH;
  const candidates = name.includes("/")
    ? [name.startsWith("/") ? name : `${program.workingDirectory}/${name}`]
    : path.split(":").map((directory) => `${directory}/${name}`);
  for (const candidate of candidates) {
    try {
      closeDescriptor(openInRoot(rootFd, candidate, O_PATH));
      return candidate;
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
    }
  }
  throw new OperatingError("program-not-found", `Program "${name}" is not found`, {
    remedy: name.includes("/") ? "Check the path." : `Give its whole path, or a PATH that has it (now "${path}").`,
  });
}

/** Returns the host pid of the new process, stopped before its first instruction. */
export function startProgram(stage: Stage, program: Program): number {
  const path = findProgram(stage.rootFd, program);
  const child = stage.visit((remote) => remote.callForChild("fork"));
  waitFor(child);
  const memoryFd = openPath(`/proc/${child}/mem`, O_RDWR);
  try {
    const remote = new Remote(child, stage.gadget, memoryFd).begin();
    remote.mapScratch();
    remote.call("setsid");
    const directory = remote.putString("/var/log/understudy");
    remote.tryCall("mkdir", directory, 0o755);
    const input = remote.call("open", remote.putString("/dev/null"), 0, 0);
    if (input !== 0) remote.call("dup2", input, 0);
    const log = remote.call("open", remote.putString(program.logPath), O_LOG, 0o640);
    remote.call("dup2", log, 1);
    remote.call("dup2", log, 2);
    for (const fd of new Set([input, log, 3, INSTANCE_HANDLE])) if (fd > 2) remote.tryCall("close", fd);
    inDirectory(remote, program);
    execute(remote, path, program);
    setSignalMask(child, NO_SIGNALS);
    trapAgain(child);
    return child;
  } catch (error) {
    tryCall("kill", child, SIGNAL.kill);
    throw error;
  } finally {
    closeDescriptor(memoryFd);
  }
}

function inDirectory(remote: Remote, program: Program): void {
  const result = remote.tryCall("chdir", remote.putString(program.workingDirectory));
  if (result < 0)
    throw new OperatingError("working-directory", `Working directory "${program.workingDirectory}" cannot be entered`, {
      cause: new SystemCallError("chdir", result),
    });
}

function pointers(remote: Remote, texts: string[]): number {
  const words = Buffer.alloc(8 * (texts.length + 1));
  texts.forEach((text, i) => words.writeBigUInt64LE(BigInt(remote.putString(text)), 8 * i));
  return remote.put(words);
}

function execute(remote: Remote, path: string, program: Program): void {
  const argv = pointers(remote, program.command);
  const environment = { PATH: DEFAULT_PATH, ...program.environment };
  const envp = pointers(
    remote,
    Object.entries(environment).map(([key, value]) => `${key}=${value}`),
  );
  const result = remote.tryCall("execve", remote.putString(path), argv, envp);
  if (result < 0)
    throw new OperatingError("program-not-executable", `Program "${path}" cannot be executed`, {
      cause: new SystemCallError("execve", result),
      remedy: "Check that it is an executable for this machine.",
    });
}
