/**
 * Where in a directory a program is that reads it. Positions are the file system's own (hashes of names, say): 64 bits, more than a number
 * holds, and another disk orders its names otherwise. Only the end is the same everywhere, and where nearly all who keep one open are.
 */
import { readFileSync } from "node:fs";
import { closeDescriptor, openPath, tryCall } from "../../kernel/calls.ts";
import { MODE_TYPE, O_DIRECTORY, O_RDONLY, Status, TYPE_BITS } from "../../kernel/files.ts";

/** `end`, or its position in decimal digits. */
export type DirectoryPosition = "end" | (string & {});

const SEEK_SET = 0;
const entries = Buffer.alloc(32 * 1024);
const status = new Status();

/** @param fd of this process. Undefined: no directory, or at its beginning */
export function directoryPosition(fd: number): DirectoryPosition | undefined {
  if (status.read(fd, "") < 0 || (status.mode & MODE_TYPE) !== TYPE_BITS.directory) return undefined;
  const position = /^pos:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "latin1"))?.[1] ?? "0";
  if (position === "0") return undefined;
  return isEnd(fd, position) ? "end" : position;
}

/** By another opening of it: what is read there moves nobody. */
function isEnd(fd: number, position: string): boolean {
  const own = openPath(`/proc/self/fd/${fd}`, O_RDONLY | O_DIRECTORY);
  try {
    return (
      tryCall("lseek", own, BigInt(position), SEEK_SET) >= 0 && tryCall("getdents64", own, entries, entries.length) <= 0
    );
  } finally {
    closeDescriptor(own);
  }
}

/** Of one that was just opened. A position that this file system has not is its beginning: names may come twice, but none is missed. */
export function seekDirectory(fd: number, position: DirectoryPosition): void {
  if (position !== "end") tryCall("lseek", fd, BigInt(position), SEEK_SET);
  else while (tryCall("getdents64", fd, entries, entries.length) > 0);
}
