/** Regular files, directories and harmless devices, by path, flags and position. Content travels with the file log. */
import { call, openInRoot, statusFlags, tryCall } from "../../kernel/calls.ts";
import { OperatingError } from "../../kernel/failure.ts";
import { type Description, type DescriptorKind, type DumpContext, O } from "../kind.ts";
import { Remembered } from "../remembered.ts";

export interface FileState {
  path: string;
  flags: number;
  position: number;
}

const ONLY_AT_CREATION = O.create | O.exclusive | O.truncate;
const SEEK_SET = 0;
const SEEK_CUR = 1;
/** Set by every open of a 64-bit program. */

const remembered = new Remembered<FileState>();

function read(description: Description, context: DumpContext): FileState {
  const { link: path } = description;
  refuseUnlessPortable(path);
  // Both by calls on a duplicate: several times cheaper than to read them from /proc.
  const fd = context.take(description);
  return { path, flags: statusFlags(fd), position: Math.max(0, tryCall("lseek", fd, 0, SEEK_CUR)) };
}

/**
 * @kept path, flags, position, directories, `/dev/null`, `zero`, `full`, `random`, `urandom`; the content travels with the
 *   file log.
 * @unkept other devices (refused); files of other file systems than the root and `/dev/shm`, which are the node's; attributes
 *   that chattr(1) sets (FS_IOC_SETFLAGS).
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
