/** Files without a name: memfd (memfd_create(2), with seals) and what was deleted while open; their content goes along. */
import { call, closeDescriptor, openInRoot, openPath, tryCall } from "../../kernel/calls.ts";
import { checked } from "../../kernel/errors.ts";
import { OperatingError } from "../../kernel/failure.ts";
import { nextData, nextHole, readAt, Status, writeAt } from "../../kernel/files.ts";
import { type CreateContext, type Description, type DescriptorKind, type DumpContext, O } from "../kind.ts";

export interface NamelessState {
  /** As /proc has it, without " (deleted)". */
  path: string;
  /** Of the object: several descriptions may be open on one. As shared mappings name it. */
  id: string;
  mode: number;
  uid: number;
  gid: number;
  size: number;
  /** F_SEAL_*; −1 when it is not a memfd. */
  seals: number;
  flags: number;
  position: number;
  /** Data without holes; undefined: all of it is with the memory that is mapped of it. Only with one of several descriptions. */
  content: Array<[offset: number, bytes: Buffer]> | undefined;
}

const DELETED = " (deleted)";
const MEMFD = "/memfd:";
const F_GETFL = 3;
const F_SETFL = 4;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
const F_SEAL_WRITE = 8;
const F_SEAL_FUTURE_WRITE = 16;
const F_SEAL_EXEC = 32;
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const SEEK_CUR = 1;
const SEEK_SET = 0;
/** With O_DIRECTORY in it. */
const O_TMPFILE = 0o20200000;
const O_LARGEFILE = 0o100000;
const TYPE = 0o170000;
const DIRECTORY = 0o040000;
const REGULAR = 0o100000;
const CHUNK_BYTES = 1 << 20;
/** Larger ones are not carried in a state; mapped ones are, page by page, by the memory that maps them. */
const MOST_BYTES = 256 << 20;
const MOST_MAPPED_BYTES = 16 << 20;
/** A time of change so near may stay the same at the next change, on kernels whose times are coarse. */
const COARSE_MS = 20;

interface Known {
  changed: string;
  content: NamelessState["content"];
  state: NamelessState;
}

const known = new Map<string, Known>();
const status = new Status();

function readContent(fd: number, size: number): Array<[number, Buffer]> {
  const parts: Array<[number, Buffer]> = [];
  for (let at = nextData(fd, 0, size); at < size; at = nextData(fd, at, size)) {
    const end = Math.min(nextHole(fd, at, size), at + CHUNK_BYTES);
    const bytes = Buffer.alloc(end - at);
    const n = readAt(fd, bytes, at);
    parts.push([at, bytes.subarray(0, n)]);
    at = end;
  }
  return parts;
}

/** A descriptor that can be read, whatever the application's own may. */
function readable({ pid, fd }: Description): number {
  return openPath(`/proc/${pid}/fd/${fd}`, O.readOnly | O.nonBlock);
}

function contentOf(description: Description, size: number, context: DumpContext): NamelessState["content"] {
  if (context.isMapped(description.link) && size > MOST_MAPPED_BYTES) return undefined;
  if (size > MOST_BYTES)
    throw new OperatingError(
      "unprotectable-deleted-file",
      `The application has "${description.link}" open, a file of ${size} bytes without a name`,
      { remedy: "Give the file a name, or keep it below 256 MiB.", details: { path: description.link, size } },
    );
  const fd = readable(description);
  try {
    return readContent(fd, size);
  } finally {
    closeDescriptor(fd);
  }
}

function dumpOne(description: Description, first: boolean, own: number, context: DumpContext): NamelessState {
  const { link } = description;
  const flags = call("fcntl", own, F_GETFL, 0) & ~O_LARGEFILE;
  const { mode, uid, gid, size, inode, ownMajor, ownMinor, changedSeconds, changedNs } = status;
  const before = known.get(description.id);
  const changed = `${inode} ${changedSeconds}.${changedNs} ${size} ${first}`;
  const old = Date.now() - (changedSeconds * 1000 + changedNs / 1e6) > COARSE_MS;
  const fresh = !before || before.changed !== changed || !old || context.isMapped(link);
  const regular = (mode & TYPE) === REGULAR && (flags & O.path) === 0;
  const content = !fresh ? before.content : first && regular ? contentOf(description, size, context) : [];
  const hex = (n: number) => n.toString(16).padStart(2, "0");
  const state: NamelessState = {
    path: link.slice(0, -DELETED.length),
    id: `${hex(ownMajor)}:${hex(ownMinor)}:${inode}`,
    mode,
    uid,
    gid,
    size: regular ? size : 0,
    seals: link.startsWith(MEMFD) ? tryCall("fcntl", own, F_GET_SEALS, 0) : -1,
    flags,
    position: Math.max(0, tryCall("lseek", own, 0, SEEK_CUR)),
    content,
  };
  const same = !fresh && before.state.flags === state.flags && before.state.position === state.position;
  const kept = same && before.state.seals === state.seals && before.state.mode === mode ? before.state : state;
  known.set(description.id, { changed, content, state: kept });
  return kept;
}

/** The object itself, made anew once for all its descriptions; closed when the application lives. */
function objectOf(state: NamelessState, context: CreateContext): number {
  const key = `nameless ${state.id}`;
  const made = context.shared.get(key) as number | undefined;
  if (made !== undefined) return made;
  const mapped = context.sharedMemory(state.id);
  const fd = mapped ?? (state.path.startsWith(MEMFD) ? newMemfd(state) : newFile(state, context));
  context.shared.set(key, fd);
  if (mapped === undefined) context.atLife(() => closeDescriptor(fd));
  if ((state.mode & TYPE) !== REGULAR) return fd;
  const all = [...context.states.values()].flatMap((r) => (r.kind === "nameless" ? [r.state as NamelessState] : []));
  const same = all.filter(({ id }) => id === state.id);
  const full = same.find(({ content }) => content === undefined || content.length > 0);
  if (full && !full.content) call("ftruncate", fd, state.size);
  else {
    call("ftruncate", fd, 0);
    call("ftruncate", fd, state.size);
    for (const [at, bytes] of full?.content ?? []) writeAt(fd, bytes, at);
  }
  call("fchmod", fd, state.mode & 0o7777);
  tryCall("fchownat", fd, Buffer.from("\0"), state.uid, state.gid, AT_EMPTY_PATH);
  // Seals come last: they forbid what was just done.
  if (state.seals > 0 && call("fcntl", fd, F_GET_SEALS, 0) !== state.seals) seal(fd, state.seals & ~F_SEAL_EXEC);
  return fd;
}

const AT_EMPTY_PATH = 0x1000;

function seal(fd: number, seals: number): void {
  if (tryCall("fcntl", fd, F_ADD_SEALS, seals) >= 0) return;
  // A mapping that could write stands in the way; the mapping itself is read-only all the same.
  call("fcntl", fd, F_ADD_SEALS, (seals & ~F_SEAL_WRITE) | F_SEAL_FUTURE_WRITE);
}

function newMemfd({ path, seals }: NamelessState): number {
  // F_SEAL_SEAL alone: made without the right to seal.
  const sealing = seals === 1 ? 0 : MFD_ALLOW_SEALING;
  return call("memfd_create", Buffer.from(`${path.slice(MEMFD.length)}\0`), MFD_CLOEXEC | sealing);
}

/** Where the name is another file's now, the old one gets one beside it for the moment. */
function newFile(state: NamelessState, context: CreateContext): number {
  const { path, mode } = state;
  const { remote } = context.inside();
  for (let n = 0; ; n++) {
    const name = n === 0 ? path : `${path}.~${n}`;
    remote.reset();
    const at = remote.putString(name);
    const isDirectory = (mode & TYPE) === DIRECTORY;
    const made = isDirectory
      ? remote.tryCall("mkdirat", AT_FDCWD, at, 0o700)
      : remote.tryCall("mknodat", AT_FDCWD, at, REGULAR | 0o600, 0);
    if (made === EEXIST && n < 1000) continue;
    // The directory that it was in is gone as well.
    if (made === ENOENT && path.lastIndexOf("/") > 0)
      return newFile({ ...state, path: path.slice(path.lastIndexOf("/")) }, context);
    checked(made, isDirectory ? "mkdirat" : "mknodat", name);
    const fd = openInRoot(context.rootFd, name, isDirectory ? O.readOnly : O.readWrite);
    remote.reset();
    context.whenCreated(() => {
      remote.reset();
      remote.tryCall("unlinkat", AT_FDCWD, remote.putString(name), isDirectory ? AT_REMOVEDIR : 0);
      remote.reset();
    });
    return fd;
  }
}

function isRegular({ mode }: NamelessState): boolean {
  return (mode & TYPE) === REGULAR;
}

const AT_FDCWD = -100;
const AT_REMOVEDIR = 0x200;
const EEXIST = -17;
const ENOENT = -2;

export const nameless: DescriptorKind<NamelessState> = {
  kind: "nameless",
  version: 1,
  after: [],
  matches: () => false,
  matchesFile: (link, mode) =>
    link.endsWith(DELETED) &&
    !link.startsWith("/dev/pts/") &&
    ((mode & TYPE) === REGULAR || (mode & TYPE) === DIRECTORY),
  dump(descriptions, context) {
    const seen = new Set<string>();
    const states = descriptions.map((description) => {
      const own = context.take(description);
      status.read(own, "");
      const object = `${status.ownMajor}:${status.ownMinor}:${status.inode}`;
      const first = !seen.has(object);
      seen.add(object);
      return dumpOne(description, first, own, context);
    });
    const ids = new Set(descriptions.map(({ id }) => id));
    for (const id of known.keys()) if (!ids.has(id)) known.delete(id);
    return states;
  },
  create(state, context) {
    const object = objectOf(state, context);
    const forOpen = O.create | O.exclusive | O.truncate | (isRegular(state) ? O_TMPFILE : 0);
    const access = state.flags & ~forOpen;
    const fd = openPath(`/proc/self/fd/${object}`, access);
    if ((state.flags & O.path) !== 0) return fd;
    call("fcntl", fd, F_SETFL, state.flags);
    if (state.position > 0) call("lseek", fd, state.position, SEEK_SET);
    return fd;
  },
};
