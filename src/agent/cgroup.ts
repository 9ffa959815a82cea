/** The node's cgroup2 directory and the groups in it: `instances`, and `apps/NAME` for each application. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { OperatingError } from "../kernel/failure.ts";

/** An emptied group still counts dying tasks for a moment. */
const EMPTY_WAIT_MS = 2_000;
const EMPTY_POLL_MS = 5;

/** Where cgroup2 is mounted, from /proc/self/mountinfo (proc_pid_mountinfo(5)); some machines have it beside cgroup v1. */
export function cgroupMount(): string {
  for (const line of readFileSync("/proc/self/mountinfo", "utf8").split("\n")) {
    const [left, right] = line.split(" - ");
    if (right?.startsWith("cgroup2 ")) return left!.split(" ")[4]!;
  }
  throw new OperatingError("cgroup2-missing", "No cgroup2 file system is mounted", {
    remedy: "Mount it: mount -t cgroup2 none /sys/fs/cgroup/unified",
  });
}

/** The absolute directory of the node's group. A configured path may be absolute or begin at the cgroup2 mount. */
export function nodeCgroup(configured: string | undefined): string {
  const mount = cgroupMount();
  if (configured === undefined) {
    const own = readFileSync("/proc/self/cgroup", "utf8").match(/^0::(.*)$/m)?.[1] ?? "/";
    return join(mount, own);
  }
  return configured === mount || configured.startsWith(`${mount}/`) ? configured : join(mount, configured);
}

export function makeCgroup(path: string): void {
  mkdirSync(path, { recursive: true });
}

/** True when a process lives in the group or below it. */
export function isPopulated(path: string): boolean {
  try {
    return /^populated 1$/m.test(readFileSync(join(path, "cgroup.events"), "utf8"));
  } catch {
    return false;
  }
}

/** Kills every process in the group and below it (cgroup.kill, Linux 5.14), then removes the groups; what has not ended by then stays. */
export async function killCgroup(path: string, limitMs = EMPTY_WAIT_MS): Promise<void> {
  if (!existsSync(path)) return;
  const deadline = performance.now() + limitMs;
  try {
    writeFileSync(join(path, "cgroup.kill"), "1");
  } catch {
    return;
  }
  while (isPopulated(path) && performance.now() < deadline) await sleep(EMPTY_POLL_MS);
  // rmdir says EBUSY for a little while after the last process has been reaped.
  while (!removeTree(path) && performance.now() < deadline) await sleep(EMPTY_POLL_MS);
}

function removeTree(path: string): boolean {
  try {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      if (entry.isDirectory() && !removeTree(join(path, entry.name))) return false;
    }
    rmdirSync(path);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT";
  }
}
