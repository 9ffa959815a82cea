/** What matters of a file system to those who follow changes in it. */
import { readFileSync, statfsSync } from "node:fs";
import { call, closeDescriptor, cString } from "./calls.ts";
import { Status } from "./files.ts";

/** linux/magic.h */
const EXT4_MAGIC = 0xef53;
const TMPFS_MAGIC = 0x01021994;
const AT_FDCWD = -100;
/** linux/mount.h */
const FSPICK_CLOEXEC = 1;
const FSPICK_EMPTY_PATH = 8;
const FSCONFIG_CMD_RECONFIGURE = 7;

/** Why the kernel's tracepoints do not tell all that is written there; undefined: they do. */
export function whyNotTraced(directory: string): string | undefined {
  if (statfsSync(directory).type !== EXT4_MAGIC) return `"${directory}" is not on ext4`;
  const status = new Status();
  status.read(AT_FDCWD, directory);
  const device = `${status.ownMajor}:${status.ownMinor}`;
  if (!isDax(readFileSync("/proc/self/mountinfo", "latin1"), device)) return undefined;
  return `"${directory}" is on a file system mounted with DAX: what is written there has no tracepoint`;
}

/** Whether all files of the device's file system are written without the page cache; single ones show it themselves. */
export function isDax(mountinfo: string, device: string): boolean {
  return mountinfo.split("\n").some((line) => {
    const [mount = "", superblock = ""] = line.split(" - ");
    const options = superblock.split(" ")[2]?.split(",") ?? [];
    return mount.split(" ")[2] === device && (options.includes("dax") || options.includes("dax=always"));
  });
}

/**
 * Whether writes through mappings leave no trace in a file's times there (mm/shmem.c has no page_mkwrite). With strict times of
 * access, the making of a mapping does.
 */
export function isMemoryOnly(directory: string): boolean {
  return statfsSync(directory).type === TMPFS_MAGIC;
}

/**
 * Empties the kernel's memory of names in one file system, as far as nobody uses them: what was removed and is only remembered goes for good.
 * A mount reconfigured with nothing to change does just that (fs/super.c, reconfigure_super).
 * @param rootFd of a mount's root
 */
export function forgetUnusedNames(rootFd: number): void {
  const context = call("fspick", rootFd, cString(""), FSPICK_CLOEXEC | FSPICK_EMPTY_PATH);
  try {
    call("fsconfig", context, FSCONFIG_CMD_RECONFIGURE, null, null, 0);
  } finally {
    closeDescriptor(context);
  }
}
