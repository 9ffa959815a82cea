/** Files without a name: memfd (memfd_create(2), with seals) and what was deleted while open; their content goes along. */
import {
  call,
  closeDescriptor,
  openInRoot,
  openPath,
  setStatusFlags,
  statusFlags,
  tryCall,
} from "../../kernel/calls.ts";
import { checked } from "../../kernel/errors.ts";
import { AT_EMPTY_PATH, AT_REMOVEDIR, O_NOATIME, O_NOFOLLOW, Status } from "../../kernel/files.ts";
import { type CreateContext, type Description, type DescriptorKind, type DumpContext, O } from "../kind.ts";
import { foundAs } from "./find.ts";
import { DELETED, DIRECTORY, inodeOf, MEMFD, type NamelessState, REGULAR, TYPE } from "./state.ts";

export type { NamelessState } from "./state.ts";

const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
const F_SEAL_WRITE = 8;
const F_SEAL_FUTURE_WRITE = 16;
const F_SEAL_EXEC = 32;
const SEEK_CUR = 1;
const SEEK_SET = 0;
/** With O_DIRECTORY in it. */
const O_TMPFILE = 0o20200000;

const status = new Status();

/** A descriptor that can be read, whatever the application's own may. */
function readable({ pid, fd }: Description): number {
  return openPath(`/proc/${pid}/fd/${fd}`, O.readOnly | O.nonBlock | O_NOATIME);
}

function dumpOne(description: Description, context: DumpContext): NamelessState {
  const { link } = description;
  const own = context.take(description);
  checked(status.read(own, ""), "statx", link);
  const { mode, uid, gid, size } = status;
  const flags = statusFlags(own);
  const regular = (mode & TYPE) === REGULAR;
  const path = link.slice(0, -DELETED.length);
  const found = foundAs(status, path);
  // Memory mapped through such a descriptor leaves no trace at all.
  const stamp = (flags & O_NOATIME) !== 0 ? undefined : found.stamp;
  if (regular) context.contents?.settle({ ...found, stamp, open: () => readable(description) });
  return {
    path,
    id: found.id,
    mode,
    uid,
    gid,
    size: regular ? size : 0,
    seals: path.startsWith(MEMFD) ? tryCall("fcntl", own, F_GET_SEALS, 0) : -1,
    flags,
    position: Math.max(0, tryCall("lseek", own, 0, SEEK_CUR)),
  };
}

/** One object for all its descriptions; closed when the application lives. */
function objectOf(state: NamelessState, context: CreateContext): number {
  const key = `nameless ${state.id}`;
  const made = context.shared.get(key) as number | undefined;
  if (made !== undefined) return made;
  const held = context.object(state.id);
  const fd = held && !held.unnamed ? held.fd : named(state, context, held?.fd);
  context.shared.set(key, fd);
  if (fd !== held?.fd) context.atLife(() => closeDescriptor(fd));
  if (!isRegular(state)) return fd;
  call("ftruncate", fd, state.size);
  call("fchmod", fd, state.mode & 0o7777);
  tryCall("fchownat", fd, Buffer.from("\0"), state.uid, state.gid, AT_EMPTY_PATH);
  // Seals come last: they forbid what was just done.
  if (state.seals > 0 && call("fcntl", fd, F_GET_SEALS, 0) !== state.seals) seal(fd, state.seals & ~F_SEAL_EXEC);
  return fd;
}

function seal(fd: number, seals: number): void {
  if (tryCall("fcntl", fd, F_ADD_SEALS, seals) >= 0) return;
  // A mapping that could write stands in the way; the mapping itself is read-only all the same.
  call("fcntl", fd, F_ADD_SEALS, (seals & ~F_SEAL_WRITE) | F_SEAL_FUTURE_WRITE);
}

/**
 * A descriptor that shows the name which the file had. Where that is another file's now, it gets one beside it for the moment.
 * @param unnamed the file as it was filled; a directory is made here
 */
function named(state: NamelessState, context: CreateContext, unnamed: number | undefined): number {
  const { path } = state;
  const isDirectory = (state.mode & TYPE) === DIRECTORY;
  const { remote } = context.inside();
  for (let n = 0; ; n++) {
    const name = n === 0 ? path : `${path}.~${n}`;
    const made = makeName(name, context, { isDirectory, unnamed, inode: inodeOf(state.id) });
    if (made === EEXIST && n < 1000) continue;
    // The directory that it was in is gone as well.
    if (made === ENOENT && path.lastIndexOf("/") > 0)
      return named({ ...state, path: path.slice(path.lastIndexOf("/")) }, context, unnamed);
    checked(made, isDirectory ? "mkdirat" : "linkat", name);
    const fd = openInRoot(context.rootFd, name, isDirectory ? O.readOnly : O.readWrite);
    context.whenCreated(() => {
      remote.reset();
      remote.tryCall("unlinkat", AT_FDCWD, remote.putString(name), isDirectory ? AT_REMOVEDIR : 0);
      remote.reset();
    });
    return fd;
  }
}

/** 0 or −errno. */
function makeName(
  name: string,
  context: CreateContext,
  { isDirectory, unnamed, inode }: { isDirectory: boolean; unnamed: number | undefined; inode: number },
): number {
  const { remote, give } = context.inside();
  remote.reset();
  const at = remote.putString(name);
  try {
    if (isDirectory) return context.numbered(name, inode, () => remote.tryCall("mkdirat", AT_FDCWD, at, 0o700));
    if (unnamed === undefined)
      return context.numbered(name, inode, () => remote.tryCall("mknodat", AT_FDCWD, at, REGULAR | 0o600, 0));
    const theirs = give(unnamed);
    const from = remote.putString(`/proc/self/fd/${theirs}`);
    const result = remote.tryCall("linkat", AT_FDCWD, from, AT_FDCWD, at, AT_SYMLINK_FOLLOW);
    remote.call("close", theirs);
    return result;
  } finally {
    remote.reset();
  }
}

function isRegular({ mode }: NamelessState): boolean {
  return (mode & TYPE) === REGULAR;
}

const AT_FDCWD = -100;
const AT_SYMLINK_FOLLOW = 0x400;
const EEXIST = -17;
const ENOENT = -2;

/**
 * @kept content, size, holes, seals, mode, owner, all openings, links in /proc; of memfd and of files and directories
 *   deleted while open, of any size; memfd of huge pages, too.
 */
export const nameless: DescriptorKind<NamelessState> = {
  kind: "nameless",
  version: 2,
  after: [],
  matches: () => false,
  matchesFile: (link, mode) =>
    link.endsWith(DELETED) &&
    !link.startsWith("/dev/pts/") &&
    ((mode & TYPE) === REGULAR || (mode & TYPE) === DIRECTORY),
  dump: (descriptions, context) => descriptions.map((description) => dumpOne(description, context)),
  create(state, context) {
    const object = objectOf(state, context);
    // The way to it here ends in a link; of the flag itself nothing is left but that it was given.
    const forOpen = O.create | O.exclusive | O.truncate | O_NOFOLLOW | (isRegular(state) ? O_TMPFILE : 0);
    const access = state.flags & ~forOpen;
    const fd = openPath(`/proc/self/fd/${object}`, access);
    if ((state.flags & O.path) !== 0) return fd;
    setStatusFlags(fd, state.flags);
    if (state.position > 0 && isRegular(state)) call("lseek", fd, state.position, SEEK_SET);
    return fd;
  },
};
