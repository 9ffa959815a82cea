/** Opens files by the paths that the application knows them by, if they are regular ones. */
import { fstatSync, type Stats } from "node:fs";
import { closeDescriptor, openInRoot } from "../kernel/calls.ts";
import { SystemCallError } from "../kernel/errors.ts";
import { O_NONBLOCK, O_RDONLY } from "../kernel/files.ts";

/**
 * What `look` finds in the file, which is open meanwhile. Undefined for what is not there or no regular file.
 * @param rootFd the application's root directory
 */
export function lookAtFile<T>(rootFd: number, path: string, look: (fd: number, status: Stats) => T): T | undefined {
  // To open a device may do something.
  if (!path.startsWith("/") || /^\/(dev|proc|sys)\//.test(path)) return undefined;
  let fd: number;
  try {
    // A FIFO must not wait.
    fd = openInRoot(rootFd, path, O_RDONLY | O_NONBLOCK);
  } catch (error) {
    if (error instanceof SystemCallError) return undefined;
    throw error;
  }
  try {
    const status = fstatSync(fd);
    return status.isFile() ? look(fd, status) : undefined;
  } finally {
    closeDescriptor(fd);
  }
}
