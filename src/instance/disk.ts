/** The application's own disk on this node, where its specification asks for one. */
import { checkRoom, diskPlan, makeDisk, mountedDisk } from "../stage/disk.ts";
import type { InodeNumbers } from "../stage/inode-numbers.ts";
import type { InstanceConfig } from "./control.ts";
import { filesDirectoryOf } from "./shell.ts";

/** For the application's start: a new one, or that of a program that is started anew, with its files. */
export function diskToStart(config: InstanceConfig): InodeNumbers | undefined {
  const plan = diskPlan(config.application);
  if (!plan) return undefined;
  const files = filesDirectoryOf(config);
  return mountedDisk(files) ?? makeDisk(files, plan, false);
}

/** Of the application that runs here. */
export function diskThere(config: InstanceConfig): InodeNumbers | undefined {
  return diskPlan(config.application) && mountedDisk(filesDirectoryOf(config));
}

/** For a clone, which begins with nothing. @param makeRoom gives up what is kept of earlier clones, where there is no room for both */
export async function diskForClone(
  config: InstanceConfig,
  makeRoom: () => Promise<void>,
): Promise<InodeNumbers | undefined> {
  const plan = diskPlan(config.application);
  if (!plan) return undefined;
  const files = filesDirectoryOf(config);
  try {
    checkRoom(files, plan.bytes);
  } catch {
    await makeRoom();
  }
  return makeDisk(files, plan, true);
}
