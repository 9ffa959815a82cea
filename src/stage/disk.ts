/**
 * A disk of the application's own: an image with ext4 in it, mounted by a loop device, in which its layer of files lies. All nodes
 * make the same one, so that every inode number of one is there on the others: docs/decisions/0036-disk.md.
 */
import { execFile, execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, statfsSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { call, closeDescriptor, cString, openPath, tryCall } from "../kernel/calls.ts";
import { OperatingError } from "../kernel/failure.ts";
import { O_CREAT, O_EXCL, O_RDWR } from "../kernel/files.ts";
import { attachLoop, isOnLoop } from "../kernel/loop.ts";
import { mountPoints } from "../kernel/procfs.ts";
import { InodeNumbers } from "./inode-numbers.ts";

const run = promisify(execFile);
const MNT_DETACH = 2;
const BLOCK_BYTES = 4096;
const INODE_BYTES = 256;
/** A file of this many bytes on the average fills blocks and inodes at the same time. */
const BYTES_PER_INODE = 16384;
/** Its own features, whatever a node's mke2fs.conf says. The journal is needed: without one ext4 gives no number again soon. */
const FEATURES =
  "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,metadata_csum,dir_nlink,extra_isize";
const MOST_JOURNAL_MIB = 64;
const LEAST_JOURNAL_MIB = 4;
const BALLAST = "ballast";
const MOST_BALLAST_BYTES = 256 << 20;
const BALLAST_SHARE = 1 / 50;

export interface DiskPlan {
  bytes: number;
  /** The same for all nodes, another for each application. */
  identity: string;
}

/** Where the image of a files directory is, and where it is mounted. */
export function diskPaths(filesDirectory: string): { image: string; mounted: string } {
  return { image: join(filesDirectory, "disk.img"), mounted: join(filesDirectory, "disk") };
}

/** What an application's record asks for; undefined: its layer lies on the node's own file system. */
export function diskPlan(application: { disk: number; name: string; createdAt: string }): DiskPlan | undefined {
  const { disk, name, createdAt } = application;
  return disk === 0 ? undefined : { bytes: disk, identity: `${name} ${createdAt}` };
}

export function isMounted(directory: string): boolean {
  return mountPoints(readFileSync("/proc/self/mountinfo", "utf8")).includes(directory);
}

/**
 * A new, empty one, mounted; what stands in its place goes. `standby`: files will come with their numbers.
 * @throws OperatingError `disk-no-room`, `disk-not-made`
 */
export function makeDisk(filesDirectory: string, plan: DiskPlan, standby: boolean): InodeNumbers {
  const { image, mounted } = diskPaths(filesDirectory);
  discardDisk(filesDirectory);
  mkdirSync(mounted, { recursive: true });
  checkRoom(filesDirectory, plan.bytes);
  try {
    takeRoom(image, plan.bytes);
    format(image, plan);
    mountImage(image, mounted);
    const numbers = InodeNumbers.open(mounted);
    numbers.furnish();
    if (standby) numbers.own();
    else settleDisk(mounted, numbers);
    return numbers;
  } catch (cause) {
    discardDisk(filesDirectory);
    throw new OperatingError("disk-not-made", `The application's disk cannot be made: ${(cause as Error).message}`, {
      remedy:
        "It takes loop devices, ext4, mkfs.ext4 (e2fsprogs), and a state directory whose file system has fallocate.",
      details: { image },
      cause,
    });
  }
}

/** The one that is there and mounted; undefined when there is none. */
export function mountedDisk(filesDirectory: string): InodeNumbers | undefined {
  const { mounted } = diskPaths(filesDirectory);
  return isMounted(mounted) ? InodeNumbers.open(mounted) : undefined;
}

/** The application runs on it from now on: numbers and room that a standby must be able to count on are kept from it. */
export function settleDisk(mounted: string, numbers: InodeNumbers): void {
  numbers.withholdOwn();
  numbers.free();
  const fd = tryCall("open", cString(join(mounted, BALLAST)), O_RDWR | O_CREAT | O_EXCL, 0o600);
  if (fd < 0) return;
  const { blocks, bsize } = statfsSync(mounted);
  // A full one has no room for it: a standby that fails for that is made anew.
  tryCall("fallocate", fd, 0, 0, Math.min(MOST_BALLAST_BYTES, Math.floor(blocks * bsize * BALLAST_SHARE)));
  closeDescriptor(fd);
}

/** Where there is one that nobody uses, as after a start of the node: so that its files can be read. No instance may be there. */
export function reachDisk(filesDirectory: string): void {
  const { image, mounted } = diskPaths(filesDirectory);
  if (!existsSync(image) || isMounted(mounted) || isOnLoop(image)) return;
  mkdirSync(mounted, { recursive: true });
  mountImage(image, mounted);
}

/** @throws OperatingError `disk-no-room` */
export function checkRoom(directory: string, bytes: number): void {
  let there = directory;
  while (!existsSync(there)) there = dirname(there);
  const { bavail, bsize } = statfsSync(there);
  if (bavail * bsize >= bytes) return;
  const [wanted, left] = [bytes, bavail * bsize].map((n) => `${(n / 2 ** 30).toFixed(1)} GiB`);
  throw new OperatingError("disk-no-room", `The application's disk takes ${wanted}, and "${there}" has ${left} left`, {
    remedy: "Make room on that node, or give the application a smaller disk.",
    details: { directory: there, bytes, free: bavail * bsize },
  });
}

/** All of it at once: an application that was promised room shall not find the node's disk full when it writes. */
function takeRoom(image: string, bytes: number): void {
  const fd = openPath(image, O_RDWR | O_CREAT | O_EXCL, 0o600);
  try {
    call("fallocate", fd, 0, 0, Math.floor(bytes / BLOCK_BYTES) * BLOCK_BYTES);
  } finally {
    closeDescriptor(fd);
  }
}

function format(image: string, { bytes, identity }: DiskPlan): void {
  const id = createHash("sha256").update(identity).digest("hex");
  const uuid = `${id.slice(0, 8)}-${id.slice(8, 12)}-4${id.slice(13, 16)}-8${id.slice(17, 20)}-${id.slice(20, 32)}`;
  const journal = Math.max(LEAST_JOURNAL_MIB, Math.min(MOST_JOURNAL_MIB, Math.floor(bytes / 2 ** 20 / 32)));
  const geometry = ["-b", BLOCK_BYTES, "-I", INODE_BYTES, "-N", Math.floor(bytes / BYTES_PER_INODE), "-m", 0];
  const more = `hash_seed=${uuid},lazy_itable_init=1,lazy_journal_init=1,nodiscard`;
  const options = ["-q", "-F", "-O", FEATURES, ...geometry, "-J", `size=${journal}`, "-U", uuid, "-E", more];
  execFileSync("mkfs.ext4", [...options.map(String), image], { stdio: ["ignore", "ignore", "pipe"] });
}

/** The tables of inodes are zeros already: nothing is to be made of them in the background. */
export function mountImage(image: string, directory: string, options = "noinit_itable"): void {
  const { name, fd } = attachLoop(image);
  try {
    call("mount", cString(`/dev/${name}`), cString(directory), cString("ext4"), 0, cString(options));
  } finally {
    closeDescriptor(fd);
  }
}

/** Takes it out of the view at once; it is gone when the last who uses it is. What is written comes to the image first. */
export async function unmountSoon(directory: string): Promise<void> {
  await run("umount", ["--lazy", directory]);
}

/** What is in it is of no use any more. */
export function discardDisk(filesDirectory: string): void {
  const { image, mounted } = diskPaths(filesDirectory);
  rmSync(image, { force: true });
  while (isMounted(mounted)) call("umount2", cString(mounted), MNT_DETACH);
}
