/** Regular files, directories and harmless devices, by path, flags and position. Content travels with the file log. */
import { call, openInRoot, statusFlags, tryCall } from "../../kernel/calls.ts";
import { OperatingError } from "../../kernel/failure.ts";
import { type Description, type DescriptorKind, type DumpContext, O } from "../kind.ts";
import { Remembered } from "../remembered.ts";
import { type DirectoryPosition, directoryPosition, seekDirectory } from "./directory.ts";

export interface FileState {
  path: string;
  flags: number;
  position: number;
  /** Instead of the position of a directory that is being read. */
  directory?: DirectoryPosition;
}

const ONLY_AT_CREATION = O.create | O.exclusive | O.truncate;
const SEEK_SET = 0;
const SEEK_CUR = 1;
const remembered = new Remembered<FileState>();

function read(description: Description, context: DumpContext): FileState {
  const { link: path } = description;
  refuseUnlessPortable(path);
  // Both by calls on a duplicate: several times cheaper than to read them from /proc.
  const fd = context.take(description);
  const flags = statusFlags(fd);
  const position = Math.max(0, tryCall("lseek", fd, 0, SEEK_CUR));
  const directory = position > 0 ? directoryPosition(fd) : undefined;
  return directory === undefined ? { path, flags, position } : { path, flags, position: 0, directory };
}

/**
 * @kept path, flags, position, directories, `/dev/null`, `zero`, `full`, `random`, `urandom`; the content travels with the
 *   file log.
 * @unkept other devices (refused); files of other file systems than the root and `/dev/shm`, which are the node's; attributes
 *   that chattr(1) sets (FS_IOC_SETFLAGS); where in the middle of a directory that it reads a program is, unless all disks order its names
 *   alike.
 */
export const file: DescriptorKind<FileState> = {
  kind: "file",
  version: 1,
  after: [],
  matches: (link) => link.startsWith("/"),
  dump: (descriptions, context) =>
    descriptions.map((description) => remembered.state(description, context, () => read(description, context))),
  create(state, context) {
    const fd = openInRoot(context.rootFd, state.path, state.flags & ~ONLY_AT_CREATION);
    if (state.position > 0) call("lseek", fd, state.position, SEEK_SET);
    if (state.directory !== undefined) seekDirectory(fd, state.directory);
    return fd;
  },
};

function refuseUnlessPortable(path: string): void {
  if (path.endsWith(" (deleted)"))
    throw new OperatingError(
      "unprotectable-deleted-file",
      `The application has "${path}" open, a file without a name`,
      {
        details: { path },
      },
    );
}
