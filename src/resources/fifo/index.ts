/** Named pipes: each opening by its path, and the bytes in between, which wait in the pipe and not in the file. */
import {
  call,
  closeDescriptor,
  openInRoot,
  openPath,
  setStatusFlags,
  statusFlags,
  tryCall,
} from "../../kernel/calls.ts";
import { Status } from "../../kernel/files.ts";
import { type CreateContext, type DescriptorKind, O } from "../kind.ts";
import { inodeOf } from "../nameless/state.ts";
import { F_GETPIPE_SZ, F_SETPIPE_SZ, fillPipe, isPacketized, NOTHING, packetPipes, peekPipe } from "../pipe/content.ts";

export interface FifoState {
  path: string;
  /** Its name is gone. */
  deleted: boolean;
  /** Of the file: several descriptions may be open on one. */
  id: string;
  mode: number;
  flags: number;
  sizeBytes: number;
  /** Only with a reading end. */
  content: Buffer;
  /** As PipeContent. */
  packets?: number[];
  plain?: number[];
}

const TYPE = 0o170000;
const FIFO = 0o010000;
const DELETED = " (deleted)";
const AT_FDCWD = -100;
const status = new Status();

/**
 * @kept every opening by its path, also when its name is gone, and the bytes that wait, as packets where they are.
 * @unkept where the kernel's memory cannot be read, plain bytes that are read together with a packet behind them: they belong to it then.
 */
export const fifo: DescriptorKind<FifoState> = {
  kind: "fifo",
  version: 1,
  after: [],
  matches: () => false,
  matchesFile: (link, mode) => link.startsWith("/") && (mode & TYPE) === FIFO,
  dump(descriptions, context) {
    const hasPackets = packetPipes(descriptions);
    return descriptions.map((description) => {
      const { link } = description;
      const fd = context.take(description);
      const status = statOf(fd);
      const flags = statusFlags(fd);
      const opened = (flags & O.path) === 0;
      const sizeBytes = opened ? call("fcntl", fd, F_GETPIPE_SZ) : 0;
      const reads = opened && (flags & O.accessMode) !== O.writeOnly;
      const deleted = link.endsWith(DELETED);
      const path = deleted ? link.slice(0, -DELETED.length) : link;
      return {
        path,
        deleted,
        ...status,
        flags,
        sizeBytes,
        ...(reads ? peekPipe(fd, sizeBytes, () => hasPackets(link)) : NOTHING),
      };
    });
  },
  create(state, context) {
    const keeper = keeperOf(state, context);
    const fd = openPath(`/proc/self/fd/${keeper}`, (state.flags & (O.accessMode | O.path)) | O.nonBlock);
    if ((state.flags & O.path) === 0) setStatusFlags(fd, state.flags);
    return fd;
  },
};

function statOf(fd: number): { id: string; mode: number } {
  status.read(fd, "");
  return { id: `${status.ownMajor}:${status.ownMinor}:${status.inode}`, mode: status.mode & 0o7777 };
}

/** Open both ways until the application lives: it keeps the pipe, with its content, and never waits for another end. */
function keeperOf(state: FifoState, context: CreateContext): number {
  const key = `fifo ${state.id}`;
  const made = context.shared.get(key) as number | undefined;
  if (made !== undefined) return made;
  const { remote } = context.inside();
  remote.reset();
  const path = state.deleted ? `${state.path}.~deleted` : state.path;
  const at = remote.putString(path);
  // The file may be there already, replicated.
  const make = () => remote.tryCall("mknodat", AT_FDCWD, at, FIFO | state.mode, 0);
  const there = state.deleted ? context.numbered(path, inodeOf(state.id), make) : make();
  const keeper = openInRoot(context.rootFd, path, O.readWrite | O.nonBlock);
  if (there === 0 || state.deleted) call("fchmod", keeper, state.mode);
  if (state.deleted) remote.call("unlinkat", AT_FDCWD, at, 0);
  remote.reset();
  const all = [...context.states.values()].flatMap((r) => (r.kind === "fifo" ? [r.state as FifoState] : []));
  const same = all.filter(({ id }) => id === state.id);
  const size = Math.max(...same.map(({ sizeBytes }) => sizeBytes));
  if (size > 0) tryCall("fcntl", keeper, F_SETPIPE_SZ, size);
  const { content, packets = [content.length], plain } = same.find((other) => other.content.length > 0) ?? state;
  const flags = same.map((other) => other.flags);
  if (content.length > 0) fillPipe(keeper, { content, packets, ...(plain && { plain }) }, isPacketized(packets, flags));
  context.shared.set(key, keeper);
  context.atLife(() => closeDescriptor(keeper));
  return keeper;
}
