/** The application's view of the file system: a layer over the node's own, with devices, /proc and shared memory of its own. */

import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { SystemCallError } from "../kernel/errors.ts";
import { OperatingError } from "../kernel/failure.ts";
import { isMemoryOnly } from "../kernel/file-systems.ts";
import { AT_EMPTY_PATH, O_CLOEXEC } from "../kernel/files.ts";
import { mountPoints } from "../kernel/procfs.ts";
import type { Remote } from "../kernel/remote.ts";
import { diskPaths, isMounted } from "./disk.ts";

const MS_NOSUID = 2;
const MS_NODEV = 4;
const MS_NOEXEC = 8;
const MS_REC = 0x4000;
const MS_BIND = 0x1000;
const MS_PRIVATE = 1 << 18;
/** Memory mapped for a moment shows by its time of access alone, see resources/nameless/contents.ts. */
const MS_STRICTATIME = 1 << 24;
const MNT_DETACH = 2;
const S_IFCHR = 0o020000;
const AT_FDCWD = -100;
const OPEN_TREE_CLONE = 1;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
const MOVE_MOUNT_T_SYMLINKS = 0x10;
const MOUNT_ATTR_STRICTATIME = 0x20;
const MOUNT_ATTR_ATIMES = 0x70;
const MOUNT_ATTR_BYTES = 32;
const EEXIST = -17;

/** name, major, minor */
const DEVICES: Array<[string, number, number]> = [
  ["null", 1, 3],
  ["zero", 1, 5],
  ["full", 1, 7],
  ["random", 1, 8],
  ["urandom", 1, 9],
  ["tty", 5, 0],
];

const LINKS: Array<[string, string]> = [
  ["/proc/self/fd", "fd"],
  ["/proc/self/fd/0", "stdin"],
  ["/proc/self/fd/1", "stdout"],
  ["/proc/self/fd/2", "stderr"],
  ["pts/ptmx", "ptmx"],
];

/** Directories of the layer: on the node's disk, or on one of the application's own. */
export function layerPaths(filesDirectory: string): { upper: string; work: string; root: string } {
  const { mounted } = diskPaths(filesDirectory);
  const own = existsSync(mounted) ? mounted : filesDirectory;
  return { upper: `${own}/upper`, work: `${own}/work`, root: `${filesDirectory}/root` };
}

/** A directory of the node's that the application sees at a path of its own. */
export interface Mount {
  path: string;
  directory: string;
}

export interface RootOptions {
  name: string;
  filesDirectory: string;
  /** Their directories are there. */
  mounts?: readonly Mount[];
}

/** Makes the new root in the init's mount namespace and moves there. */
export function prepareRoot(remote: Remote, options: RootOptions): void {
  const { upper, work, root } = layerPaths(options.filesDirectory);
  for (const directory of [upper, work, root]) mkdirSync(directory, { recursive: true });
  const mount = (source: string, target: string, type: string, flags: number, data = "") => {
    remote.reset();
    const at = [source, target, type, data].map((text) => remote.putString(text));
    remote.call("mount", at[0]!, at[1]!, at[2]!, flags, data ? at[3]! : 0);
  };
  const make = (call: "mknod" | "mkdir" | "symlink", text: string[], ...rest: number[]) => {
    remote.reset();
    remote.call(call, ...text.map((t) => remote.putString(t)), ...rest);
  };
  // Else the modes below would lose what this process's own mask takes away: /dev/null is everybody's to write to.
  remote.call("umask", 0);
  mount("none", "/", "", MS_REC | MS_PRIVATE);
  // Mappings of what is only in memory show by their time of access alone: files/look.ts.
  const strict = isMemoryOnly(upper) ? MS_STRICTATIME : 0;
  // On a disk of its own, numbers of inodes are shown as they are there, of directories too; the node's own files have larger ones.
  const numbers = isMounted(dirname(upper)) ? ",xino=on" : "";
  mount("overlay", root, "overlay", strict, `lowerdir=/,upperdir=${upper},workdir=${work}${numbers}`);
  mount("proc", `${root}/proc`, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC);
  mount("/sys", `${root}/sys`, "", MS_BIND | MS_REC);
  mount("dev", `${root}/dev`, "tmpfs", MS_NOSUID, "mode=755,size=1m");
  for (const [name, major, minor] of DEVICES)
    make("mknod", [`${root}/dev/${name}`], S_IFCHR | 0o666, (major << 8) | minor);
  for (const directory of ["shm", "pts"]) make("mkdir", [`${root}/dev/${directory}`], 0o755);
  for (const [to, name] of LINKS) make("symlink", [to, `${root}/dev/${name}`]);
  mount("shm", `${root}/dev/shm`, "tmpfs", MS_NOSUID | MS_NODEV | MS_STRICTATIME, "mode=1777");
  mount("devpts", `${root}/dev/pts`, "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620");
  // Taken while the node's own root is still there, and put where the application's root leads.
  const taken = (options.mounts ?? []).map(({ directory, path }) => {
    remote.reset();
    const fd = remote.call("open_tree", AT_FDCWD, remote.putString(directory), OPEN_TREE_CLONE | O_CLOEXEC);
    if (isMemoryOnly(directory)) keepAccessTimes(remote, fd);
    return { path, fd };
  });
  remote.reset();
  remote.call("chdir", remote.putString(root));
  const here = remote.putString(".");
  remote.call("pivot_root", here, here);
  remote.call("umount2", here, MNT_DETACH);
  remote.call("chdir", remote.putString("/"));
  remote.call("umask", 0o022);
  for (const { path, fd } of taken) attachMount(remote, path, fd);
  checkMounts(remote.tid, options.mounts ?? []);
  remote.reset();
  const host = remote.putString(options.name);
  remote.call("sethostname", host, options.name.length);
}

/** Of every access, on this mount alone. */
function keepAccessTimes(remote: Remote, fd: number): void {
  remote.reset();
  const attributes = Buffer.alloc(MOUNT_ATTR_BYTES);
  attributes.writeBigUInt64LE(BigInt(MOUNT_ATTR_STRICTATIME), 0);
  attributes.writeBigUInt64LE(BigInt(MOUNT_ATTR_ATIMES), 8);
  const [empty, at] = [remote.putString(""), remote.put(attributes)];
  remote.call("mount_setattr", fd, empty, AT_EMPTY_PATH, at, MOUNT_ATTR_BYTES);
}

/** Makes the directories on the way where there are none. Links on the way lead where they lead the application. */
function attachMount(remote: Remote, path: string, fd: number): void {
  const names = path.split("/").slice(1);
  for (let i = 1; i <= names.length; i++) {
    remote.reset();
    const made = remote.tryCall("mkdir", remote.putString(`/${names.slice(0, i).join("/")}`), 0o755);
    if (made < 0 && made !== EEXIST) throw new SystemCallError("mkdir", made, path);
  }
  remote.reset();
  const [empty, to] = [remote.putString(""), remote.putString(path)];
  remote.call("move_mount", fd, empty, AT_FDCWD, to, MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS);
  remote.call("close", fd);
}

/** What is changed there goes by its path: that must be the one that was asked for. */
function checkMounts(init: number, mounts: readonly Mount[]): void {
  const points = new Set(mountPoints(readFileSync(`/proc/${init}/mountinfo`, "utf8")));
  const other = mounts.find(({ path }) => !points.has(path));
  if (other)
    throw new OperatingError("volume-through-link", `The volume's path "${other.path}" leads through a symbolic link`, {
      remedy: "Give the path that the link leads to.",
      details: { path: other.path },
    });
}
