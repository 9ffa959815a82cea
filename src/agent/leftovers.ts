/** What of an application may be left on this node when its instance is gone, and how all of it goes away. */
import { execFile } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { putAside } from "../files/kept.ts";
import { readPidFile, startTicks } from "../instance/pid-file.ts";
import { isPopulated, killCgroup } from "./cgroup.ts";
import type { FilesFate } from "./desired.ts";
import { type Layout, suffixes } from "./layout.ts";

const run = promisify(execFile);

/** The application's init on this node, if it lives. */
export function initAlive(runDirectory: string, application: string): boolean {
  const file = readPidFile(runDirectory, application);
  return file !== undefined && file.initPid > 0 && startTicks(file.initPid) === file.initStartTicks;
}

/** Names of all applications of which something is on this node. */
export function localNames(layout: Layout, runDirectory: string): Set<string> {
  const names = new Set<string>();
  for (const entry of entries(runDirectory)) {
    if (entry.name === "agent.sock") continue;
    const suffix = suffixes.run.find((end) => entry.name.endsWith(end));
    if (suffix !== undefined) names.add(entry.name.slice(0, -suffix.length));
  }
  for (const entry of entries(layout.applicationsDirectory)) if (entry.isDirectory()) names.add(entry.name);
  for (const entry of entries(join(layout.applicationCgroup("x"), "..")))
    if (entry.isDirectory()) names.add(entry.name);
  return names;
}

/** Names of applications of whose earlier clones files are kept. */
export function keptNames(layout: Layout): Set<string> {
  return new Set(entries(join(layout.keptDirectory("x"), "..")).map(({ name }) => name));
}

/** Processes of the application, alive on this node without regard to the instance. */
export function hasProcesses(layout: Layout, application: string): boolean {
  return isPopulated(layout.applicationCgroup(application));
}

/** Nothing but the files of an application that has ended, which are the user's now. */
export function onlyFilesLeft(layout: Layout, runDirectory: string, application: string): boolean {
  const state = entries(layout.stateDirectory(application)).map(({ name }) => name);
  const runs = suffixes.run.some((suffix) => existsSync(join(runDirectory, `${application}${suffix}`)));
  return !runs && !existsSync(layout.applicationCgroup(application)) && state.length === 1 && state[0] === "files";
}

/**
 * Kills the application's processes here, removes its interface, run files and state; its files as they shall. The instance must be
 * dead before: it would take the application's end for the application's own wish. Idempotent.
 */
export async function removeLeftovers(
  layout: Layout,
  runDirectory: string,
  application: string,
  files: FilesFate,
): Promise<void> {
  const pidFile = readPidFile(runDirectory, application);
  await killCgroup(layout.applicationCgroup(application));
  await killCgroup(layout.probeCgroup(application));
  if (pidFile && startTicks(pidFile.initPid) === pidFile.initStartTicks && pidFile.initPid > 1) {
    try {
      process.kill(pidFile.initPid, "SIGKILL");
    } catch {
      // Gone in the meantime.
    }
  }
  if (pidFile?.veth) await run("ip", ["link", "delete", pidFile.veth]).catch(() => {});
  for (const suffix of suffixes.run) rmSync(join(runDirectory, `${application}${suffix}`), { force: true });
  const state = layout.stateDirectory(application);
  const kept = layout.keptDirectory(application);
  if (files !== "aside") {
    await unmountBelow(kept);
    await removeTree(kept);
  }
  if (!existsSync(state)) return;
  await unmountBelow(state);
  const own = layout.filesDirectory(application);
  if (files === "aside") await putAside(own, kept);
  const stays = files === "stay" && existsSync(own);
  for (const path of stays ? entries(state).map(({ name }) => join(state, name)) : [state])
    if (!stays || path !== own) await removeTree(path);
}

/** Names need not be UTF-8, which Node.js's own removal asks for. */
async function removeTree(path: string): Promise<void> {
  if (existsSync(path)) await run("rm", ["-rf", "--one-file-system", "--", path]);
}

async function unmountBelow(directory: string): Promise<void> {
  for (const mount of mountsBelow(directory)) await run("umount", ["--lazy", mount]).catch(() => {});
}

/** Mount points at or below the directory, deepest first: removing must never reach into a mounted file system. */
function mountsBelow(directory: string): string[] {
  const points = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => (line.split(" ")[4] ?? "").replace(/\\040/g, " "));
  return points.filter((point) => point === directory || point.startsWith(`${directory}/`)).reverse();
}

function entries(directory: string) {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch {
    return [];
  }
}
