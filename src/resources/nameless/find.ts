/** Files without a name as they are found while nobody dumps their descriptors. */
import { readlinkSync } from "node:fs";
import { closeDescriptor, openPath } from "../../kernel/calls.ts";
import { O_NOATIME, O_NONBLOCK, O_RDONLY, Status } from "../../kernel/files.ts";
import { hugePageBytesOf } from "../../kernel/huge-pages.ts";
import { descriptorLinks } from "../../kernel/procfs.ts";
import type { Area } from "../memory/layout.ts";
import { type Found, stampOf } from "./contents.ts";
import { DELETED, isRegularMode, MEMFD, objectId, withoutDeleted } from "./state.ts";

const status = new Status();

/** @param place a link of /proc to it. Undefined: it is not there any more, or it is not a regular file */
function findAt(place: string, link: string): Found | undefined {
  const open = () => openPath(place, O_RDONLY | O_NONBLOCK | O_NOATIME);
  const fd = unlessGone(open);
  if (fd === undefined) return undefined;
  const failed = status.read(fd, "") < 0;
  closeDescriptor(fd);
  if (failed || !isRegularMode(status.mode)) return undefined;
  return { ...foundAs(status, withoutDeleted(link)), open };
}

/** What a file's status says of it. @param path without " (deleted)" */
export function foundAs(status: Status, path: string): Omit<Found, "open"> {
  const { size, ownMajor, ownMinor, exactInode, blocks, mode, uid, gid } = status;
  const isMemory = path.startsWith(MEMFD);
  const pageBytes = isMemory || path === HUGE ? hugePageBytesOf(status) : undefined;
  return {
    id: objectId(ownMajor, ownMinor, exactInode),
    path,
    // The times of memory of huge pages are those of the kernel's ticks.
    stamp: stampOf(status, isMemory && pageBytes === undefined),
    size,
    access: { mode: mode & 0o7777, uid, gid },
    ...(pageBytes === undefined ? {} : { huge: { pageBytes, blocks } }),
  };
}

/** Shared memory of huge pages that no descriptor was ever of. */
const HUGE = "/anon_hugepage";

/** What a running process does meanwhile (closes it, ends) is no error. */
export function unlessGone<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    const gone = ["ENOENT", "ESRCH", "ENXIO", "EACCES"];
    if (gone.includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
}

/** All that a process has open. */
export function namelessOf(pid: number): Found[] {
  const links = unlessGone(() => descriptorLinks(pid)) ?? [];
  return links
    .filter(({ link }) => link.endsWith(DELETED) && !link.startsWith("/dev/pts/"))
    .flatMap(({ fd, link }) => namelessAt({ pid, fd, link }) ?? []);
}

export function namelessAt({ pid, fd, link }: { pid: number; fd: number; link: string }): Found | undefined {
  return findAt(`/proc/${pid}/fd/${fd}`, link);
}

/** What a process executes. */
export function namelessProgram(pid: number): Found | undefined {
  const place = `/proc/${pid}/exe`;
  const link = unlessGone(() => readlinkSync(place));
  return link === undefined ? undefined : findAt(place, link);
}

/** What is behind an area of shared memory; undefined when it is a System V segment. */
export function namelessBehind(pid: number, { start, end, backing }: Area): Found | undefined {
  if (backing.type !== "shared" || backing.path.startsWith("/SYSV")) return undefined;
  return findAt(`/proc/${pid}/map_files/${start.toString(16)}-${end.toString(16)}`, backing.path);
}
