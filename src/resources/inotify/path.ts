/** The name of a watched file, which the kernel tells by inode and file handle only. */

import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { closeDescriptor, openPath, tryCall } from "../../kernel/calls.ts";
import { O_PATH } from "../../kernel/files.ts";

export interface Watched {
  inode: number;
  /** As the kernel keeps it: major number above 20 bits of minor. */
  device: number;
  type: number;
  handle: Buffer;
}

interface Mount {
  point: string;
  upper: string;
  lower: string;
}

const O_PATH_DIRECTORY = 0o200000;
/** struct ovl_fh (fs/overlayfs/overlayfs.h): padding, version, magic, length, flags, type, uuid, then the real handle. */
const OVERLAY_MAGIC = 0xfb;
const OVERLAY = { length: 5, magic: 4, type: 7, handle: 24, padding: 3 };
/** So many names are looked at when the handle does not lead anywhere. */
const MOST_NAMES = 50_000;
const NO_SEARCH = new Set(["/proc", "/sys"]);

/** `MAJOR:MINOR`, as mountinfo has it. */
const deviceText = (device: number) => `${device >>> 20}:${device & 0xfffff}`;

/** Lines of proc_pid_mountinfo(5), in fields. */
function mountInfo(pid: number): string[][] {
  const lines = readFileSync(`/proc/${pid}/mountinfo`, "utf8").split("\n");
  return lines.filter(Boolean).map((line) => line.split(" "));
}

function mountsOf(pid: number, device: number): Mount[] {
  return mountInfo(pid)
    .filter((fields) => fields[2] === deviceText(device))
    .map((fields) => {
      const options = fields.at(-1)!.split(",");
      const option = (name: string) =>
        options.find((text) => text.startsWith(`${name}=`))?.slice(name.length + 1) ?? "";
      return { point: fields[4]!, upper: option("upperdir"), lower: option("lowerdir") };
    });
}

/** Every file system counts its inodes for itself. (What stat(2) says of the device is, on an overlay, that of a layer.) */
function isOnDevice(pid: number, path: string, device: number): boolean {
  const around = mountInfo(pid).filter(([, , , , point]) => point === path || below(path, point!) !== undefined);
  // Of several mounts on one point the last covers the others.
  const innermost = around.reduce((best, one) => (one[4]!.length >= best[4]!.length ? one : best));
  return innermost[2] === deviceText(device);
}

function isIt(pid: number, path: string, { inode, device }: Watched): boolean {
  try {
    return statSync(`/proc/${pid}/root${path}`).ino === inode && isOnDevice(pid, path, device);
  } catch {
    return false;
  }
}

/** Where a handle leads below a directory of its file system; the path as this program sees it. */
function openHandle(directory: string, type: number, handle: Buffer): string | undefined {
  const at = openPath(directory, O_PATH_DIRECTORY);
  try {
    const argument = Buffer.alloc(8 + handle.length);
    argument.writeUInt32LE(handle.length, 0);
    argument.writeInt32LE(type, 4);
    handle.copy(argument, 8);
    const fd = tryCall("open_by_handle_at", at, argument, O_PATH);
    if (fd < 0) return undefined;
    const path = readlinkSync(`/proc/self/fd/${fd}`);
    closeDescriptor(fd);
    return path;
  } finally {
    closeDescriptor(at);
  }
}

function below(path: string, directory: string): string | undefined {
  const base = directory.replace(/\/+$/, "");
  if (path === base) return "/";
  return path.startsWith(`${base}/`) ? path.slice(base.length) : undefined;
}

function candidates(watched: Watched, pid: number): string[] {
  const { type, handle } = watched;
  const found: string[] = [];
  const add = (path: string | undefined) => path !== undefined && found.push(path);
  for (const { point, upper, lower } of mountsOf(pid, watched.device)) {
    if (!upper) {
      const path = openHandle(`/proc/${pid}/root${point}`, type, handle);
      add(path);
      add(path && `${point.replace(/\/$/, "")}${path}`);
      continue;
    }
    if (handle[OVERLAY.magic] !== OVERLAY_MAGIC) continue;
    const real = handle.subarray(OVERLAY.handle, OVERLAY.padding + handle[OVERLAY.length]!);
    for (const directory of [upper, lower.split(":")[0]!]) {
      const path = openHandle(directory, handle[OVERLAY.type]!, real);
      if (path === undefined) continue;
      add(below(path, upper));
      add(below(path, lower));
      add(path);
    }
  }
  return found;
}

/** Name by name, those near the root first. */
function search(watched: Watched, pid: number): string | undefined {
  const directories = ["/"];
  let left = MOST_NAMES;
  for (const directory of directories) {
    let names: Array<{ name: string; isDirectory(): boolean }>;
    try {
      names = readdirSync(`/proc/${pid}/root${directory}`, { withFileTypes: true });
    } catch {
      continue;
    }
    for (const entry of names) {
      if (--left < 0) return undefined;
      const path = `${directory === "/" ? "" : directory}/${entry.name}`;
      if (NO_SEARCH.has(path)) continue;
      if (isIt(pid, path, watched)) return path;
      if (entry.isDirectory()) directories.push(path);
    }
  }
  return undefined;
}

/** @param last where it was when looked for before */
export function pathOfWatched(watched: Watched, pid: number, last: string | undefined): string | undefined {
  if (last !== undefined && isIt(pid, last, watched)) return last;
  return candidates(watched, pid).find((path) => isIt(pid, path, watched)) ?? search(watched, pid);
}
