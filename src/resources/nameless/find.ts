/** Files without a name as they are found while nobody dumps their descriptors. */
import { closeDescriptor, openPath } from "../../kernel/calls.ts";
import { O_NOATIME, O_NONBLOCK, O_RDONLY, Status } from "../../kernel/files.ts";
import { descriptorLinks } from "../../kernel/procfs.ts";
import type { Area } from "../memory/layout.ts";
import { type Found, stampOf } from "./contents.ts";
import { DELETED, MEMFD, objectId, REGULAR, TYPE } from "./state.ts";

const status = new Status();

/** @param place a link of /proc to it. Undefined: it is not there any more, or it is not a regular file */
function findAt(place: string, link: string): Found | undefined {
  const open = () => openPath(place, O_RDONLY | O_NONBLOCK | O_NOATIME);
  const fd = unlessGone(open);
  if (fd === undefined) return undefined;
  const failed = status.read(fd, "") < 0;
  closeDescriptor(fd);
  if (failed || (status.mode & TYPE) !== REGULAR) return undefined;
  const { size, ownMajor, ownMinor, inode } = status;
  const path = link.endsWith(DELETED) ? link.slice(0, -DELETED.length) : link;
  return { id: objectId(ownMajor, ownMinor, inode), path, stamp: stampOf(status, path.startsWith(MEMFD)), size, open };
}

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

/** What is behind an area of shared memory; undefined when it is a System V segment. */
export function namelessBehind(pid: number, { start, end, backing }: Area): Found | undefined {
  if (backing.type !== "shared" || backing.path.startsWith("/SYSV")) return undefined;
  return findAt(`/proc/${pid}/map_files/${start.toString(16)}-${end.toString(16)}`, backing.path);
}
