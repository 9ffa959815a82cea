/**
 * SQLite databases with a rollback journal that an application has open. SQLite writes to none whose inode number is another than
 * when it was opened (os_unix.c: fileHasMoved), and after a switch it is another: docs/decisions/0025-inode-numbers.md.
 */
import { readdirSync, readlinkSync, statSync } from "node:fs";
import { closeDescriptor, openPath } from "../kernel/calls.ts";
import { SystemCallError } from "../kernel/errors.ts";
import { O_NOATIME, O_NONBLOCK, O_RDONLY, readAt } from "../kernel/files.ts";

const MAGIC = "SQLite format 3\0";
/** In the header (sqlite.org/fileformat2.html): who writes uses a rollback journal (1) or a write-ahead log (2). */
const WRITE_VERSION_AT = 18;
const ROLLBACK = 1;
const HEADER_BYTES = 20;

export function usesRollbackJournal(header: Buffer): boolean {
  return header.toString("latin1", 0, MAGIC.length) === MAGIC && header[WRITE_VERSION_AT] === ROLLBACK;
}

/** Their paths, as the application sees them. */
export function rollbackDatabases(pids: Iterable<number>): string[] {
  const found = new Set<string>();
  for (const pid of pids)
    for (const path of openFiles(pid)) if (usesRollbackJournal(headerOf(path))) found.add(readlinkSync(path));
  return [...found].sort();
}

/** Links in /proc to the regular files that a process has open; none of one that has ended. */
function openFiles(pid: number): string[] {
  try {
    const paths = readdirSync(`/proc/${pid}/fd`).map((fd) => `/proc/${pid}/fd/${fd}`);
    return paths.filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile());
  } catch (error) {
    if (["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) return [];
    throw error;
  }
}

function headerOf(path: string): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  try {
    const fd = openPath(path, O_RDONLY | O_NONBLOCK | O_NOATIME);
    try {
      readAt(fd, header, 0);
    } finally {
      closeDescriptor(fd);
    }
  } catch (error) {
    // Closed, or its process ended, meanwhile.
    if (!(error instanceof SystemCallError) || !["ENOENT", "ESRCH", "ENXIO"].includes(error.code)) throw error;
  }
  return header;
}
