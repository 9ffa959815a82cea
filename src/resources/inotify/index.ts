/** inotify: what is watched for what, under the same watch numbers. Events that wait cannot be looked at: they are lost. */
import { call, closeDescriptor, cString, openInRoot, setStatusFlags, tryCall } from "../../kernel/calls.ts";
import { OperatingError } from "../../kernel/failure.ts";
import { type DescriptorKind, flagsOf, O } from "../kind.ts";
import { pathOfWatched } from "./path.ts";

export interface InotifyWatch {
  watch: number;
  path: string;
  mask: number;
}

export interface InotifyState {
  flags: number;
  watches: InotifyWatch[];
}

const WATCH =
  /^inotify wd:([0-9a-f]+) ino:([0-9a-f]+) sdev:([0-9a-f]+) mask:([0-9a-f]+).*fhandle-type:([0-9a-f]+) f_handle:([0-9a-f]+)/gm;
/** IN_ALL_EVENTS, IN_EXCL_UNLINK, IN_ONESHOT. */
const KEPT = 0x84000fff;
/** Numbers are given in a row: one that is far from the last takes as many tries. */
const MOST_TRIES = 1 << 16;

/** Paths by what identifies a watched file; found once. */
const paths = new Map<string, string>();

function watchesIn(info: string, pid: number, fd: number): InotifyWatch[] {
  return [...info.matchAll(WATCH)]
    .map(([, watch, inode, device, mask, type, handle]) => {
      const key = `${pid} ${inode} ${device} ${handle}`;
      const target = {
        inode: Number.parseInt(inode!, 16),
        device: Number.parseInt(device!, 16),
        type: Number.parseInt(type!, 16),
        handle: Buffer.from(handle!, "hex"),
      };
      const path = pathOfWatched(target, pid, paths.get(key));
      if (path === undefined)
        throw new OperatingError(
          "unprotectable-inotify",
          `The application watches a file (inode ${target.inode}, descriptor ${fd}) whose name cannot be found`,
          { remedy: "Let it watch files that have names.", details: { fd, pid, inode: target.inode } },
        );
      paths.set(key, path);
      return { watch: Number.parseInt(watch!, 16), path, mask: (Number.parseInt(mask!, 16) & KEPT) >>> 0 };
    })
    .sort((a, b) => a.watch - b.watch);
}

/**
 * @kept what is watched for what, under the same watch numbers; flags.
 * @unkept events that wait: they cannot be looked at without being taken.
 */
export const inotify: DescriptorKind<InotifyState> = {
  kind: "inotify",
  version: 1,
  after: [],
  matches: (link) => link === "anon_inode:inotify",
  dump: (descriptions, context) =>
    descriptions.map((description) => {
      const info = context.info(description);
      const alive = description.pid === process.pid ? undefined : description.pid;
      return { flags: flagsOf(info), watches: watchesIn(info, alive ?? process.pid, description.fd) };
    }),
  create(state, context) {
    const fd = call("inotify_init1", O.closeOnExec);
    // What the clone's own files go through until it lives must not be told to the application.
    context.whenCreated(() => {
      for (const { watch, path, mask } of state.watches) {
        const target = openInRoot(context.rootFd, path, O.path);
        try {
          addWatch(fd, `/proc/self/fd/${target}`, mask, watch);
        } finally {
          closeDescriptor(target);
        }
      }
      setStatusFlags(fd, state.flags & ~O.accessMode);
    });
    return fd;
  },
};

function addWatch(fd: number, path: string, mask: number, wanted: number): void {
  for (let i = 0; i < MOST_TRIES; i++) {
    const watch = call("inotify_add_watch", fd, cString(path), mask);
    if (watch === wanted) break;
    call("inotify_rm_watch", fd, watch);
  }
  drain(fd);
}

const events = Buffer.alloc(4096);

/** Each watch taken away leaves an event (IN_IGNORED). */
function drain(fd: number): void {
  setStatusFlags(fd, O.nonBlock);
  while (tryCall("read", fd, events, events.length) > 0);
}
