/** Pipes: both ends, size, and the bytes in them, which are looked at without being taken (tee). */
import { addon } from "../../kernel/addon.ts";
import { call, closeDescriptor } from "../../kernel/calls.ts";
import { checked } from "../../kernel/errors.ts";
import { NR } from "../../kernel/numbers.ts";
import { type CreateContext, type DescriptorKind, O } from "../kind.ts";

export interface PipeState {
  /** `pipe:[INODE]`: both ends of a pipe have the same. */
  pipe: string;
  flags: number;
  sizeBytes: number;
  /** Only with a reading end. */
  content: Buffer;
}

const FIONREAD = 0x541b;
const F_SETPIPE_SZ = 1031;
const F_GETPIPE_SZ = 1032;
const F_SETFL = 4;
const SPLICE_F_NONBLOCK = 2;
const count = Buffer.alloc(4);

function makePipe(): [number, number] {
  const ends = Buffer.alloc(8);
  call("pipe2", ends, O.closeOnExec);
  return [ends.readInt32LE(0), ends.readInt32LE(4)];
}

/** The bytes in a pipe; they stay there. */
function peek(fd: number, sizeBytes: number): Buffer {
  call("ioctl", fd, FIONREAD, count);
  const length = count.readInt32LE();
  if (length === 0) return Buffer.alloc(0);
  const [reader, writer] = makePipe();
  try {
    call("fcntl", writer, F_SETPIPE_SZ, sizeBytes);
    const copied = call("tee", fd, writer, length, SPLICE_F_NONBLOCK);
    const content = Buffer.alloc(copied);
    let at = 0;
    while (at < copied) at += checked(addon.syscall(NR.read, reader, content.subarray(at), copied - at), "read");
    return content;
  } finally {
    closeDescriptor(reader);
    closeDescriptor(writer);
  }
}

interface Ends {
  reader: number;
  writer: number;
}

function endsOf(state: PipeState, context: CreateContext): Ends {
  const key = `pipe ${state.pipe}`;
  const known = context.shared.get(key) as Ends | undefined;
  if (known) return known;
  const [reader, writer] = makePipe();
  call("fcntl", writer, F_SETPIPE_SZ, state.sizeBytes);
  const content = [...context.states.values()]
    .filter(({ kind }) => kind === "pipe")
    .map(({ state: other }) => other as PipeState)
    .find((other) => other.pipe === state.pipe && other.content.length > 0)?.content;
  if (content) call("write", writer, content, content.length);
  const ends = { reader, writer };
  context.shared.set(key, ends);
  context.atLife(() => {
    closeDescriptor(reader);
    closeDescriptor(writer);
  });
  return ends;
}

export const pipe: DescriptorKind<PipeState> = {
  kind: "pipe",
  version: 1,
  after: [],
  matches: (link) => link.startsWith("pipe:["),
  dump: (descriptions, context) =>
    descriptions.map((description) => {
      const fd = context.take(description);
      const sizeBytes = call("fcntl", fd, F_GETPIPE_SZ);
      const reads = (description.flags & O.accessMode) !== O.writeOnly;
      return {
        pipe: description.link,
        flags: description.flags,
        sizeBytes,
        content: reads ? peek(fd, sizeBytes) : Buffer.alloc(0),
      };
    }),
  create(state, context) {
    const { reader, writer } = endsOf(state, context);
    const end = (state.flags & O.accessMode) === O.writeOnly ? writer : reader;
    // Opened anew: an end that exists twice has two descriptions.
    const fd = call(
      "open",
      Buffer.from(`/proc/self/fd/${end}\0`),
      (state.flags & O.accessMode) | O.closeOnExec | O.nonBlock,
    );
    call("fcntl", fd, F_SETFL, state.flags);
    return fd;
  },
};
