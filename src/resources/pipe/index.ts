/** Pipes: both ends, size, and the bytes in them, which are looked at without being taken (tee). */
import { call, closeDescriptor, setStatusFlags, statusFlags } from "../../kernel/calls.ts";
import { type CreateContext, type Description, type DescriptorKind, type DumpContext, O } from "../kind.ts";
import { Remembered } from "../remembered.ts";

export interface PipeState {
  /** `pipe:[INODE]`: both ends of a pipe have the same. */
  pipe: string;
  flags: number;
  sizeBytes: number;
  /** Only with a reading end. */
  content: Buffer;
  /** Lengths of the packets in it, when it was made with O_DIRECT. */
  packets: number[];
}

const FIONREAD = 0x541b;
const F_SETPIPE_SZ = 1031;
const F_GETPIPE_SZ = 1032;
/** Of an end opened by a path. */
const SPLICE_F_NONBLOCK = 2;
const O_DIRECT = 0o40000;
const NOTHING = { content: Buffer.alloc(0), packets: [] };
const count = Buffer.alloc(4);

function makePipe(): [number, number] {
  const ends = Buffer.alloc(8);
  call("pipe2", ends, O.closeOnExec);
  return [ends.readInt32LE(0), ends.readInt32LE(4)];
}

/** The bytes in a pipe; they stay there. */
export function peekPipe(fd: number, sizeBytes: number): { content: Buffer; packets: number[] } {
  call("ioctl", fd, FIONREAD, count);
  const length = count.readInt32LE();
  if (length === 0) return NOTHING;
  const [reader, writer] = makePipe();
  try {
    call("fcntl", writer, F_SETPIPE_SZ, sizeBytes);
    const copied = call("tee", fd, writer, length, SPLICE_F_NONBLOCK);
    const content = Buffer.alloc(copied);
    const packets: number[] = [];
    for (let at = 0; at < copied; ) {
      const n = call("read", reader, content.subarray(at), copied - at);
      packets.push(n);
      at += n;
    }
    return { content, packets };
  } finally {
    closeDescriptor(reader);
    closeDescriptor(writer);
  }
}

/** All ends of each pipe that is being restored, by what both ends call it: looked for once, not for each of thousands of pipes. */
function allEnds(context: CreateContext): Map<string, PipeState[]> {
  const known = context.shared.get("pipe ends") as Map<string, PipeState[]> | undefined;
  if (known) return known;
  const states = [...context.states.values()].flatMap(({ kind, state }) =>
    kind === "pipe" ? [state as PipeState] : [],
  );
  const ends = Map.groupBy(states, ({ pipe }) => pipe);
  context.shared.set("pipe ends", ends);
  return ends;
}

/** Only a writing end has the flag; without one left, several reads for its content tell. */
function isPacketized({ packets }: PipeState, ends: PipeState[]): boolean {
  return packets.length > 1 || ends.some((end) => (end.flags & O_DIRECT) !== 0);
}

function fillPipe(writer: number, { content, packets }: PipeState, packetized: boolean): void {
  if (!packetized) {
    call("write", writer, content, content.length);
    return;
  }
  setStatusFlags(writer, O_DIRECT);
  let at = 0;
  for (const length of packets) {
    call("write", writer, content.subarray(at, at + length), length);
    at += length;
  }
  setStatusFlags(writer, 0);
}

/** Descriptors of a new pipe; those not taken for a description of the application's close at life. */
interface Ends {
  reader: number;
  writer: number;
  taken: Set<number>;
}

function endsOf(state: PipeState, context: CreateContext): Ends {
  const key = `pipe ${state.pipe}`;
  const known = context.shared.get(key) as Ends | undefined;
  if (known) return known;
  const [reader, writer] = makePipe();
  call("fcntl", writer, F_SETPIPE_SZ, state.sizeBytes);
  const all = allEnds(context).get(state.pipe) ?? [];
  const full = all.find(({ content }) => content.length > 0);
  if (full) fillPipe(writer, full, isPacketized(full, all));
  const ends = { reader, writer, taken: new Set<number>() };
  context.shared.set(key, ends);
  context.atLife(() => {
    for (const end of [reader, writer]) if (!ends.taken.has(end)) closeDescriptor(end);
  });
  return ends;
}

const remembered = new Remembered<PipeState>();

function read(description: Description, context: DumpContext): PipeState {
  const fd = context.take(description);
  const sizeBytes = call("fcntl", fd, F_GETPIPE_SZ);
  const reads = (description.flags & O.accessMode) !== O.writeOnly;
  return {
    pipe: description.link,
    flags: statusFlags(fd),
    sizeBytes,
    ...(reads ? peekPipe(fd, sizeBytes) : NOTHING),
  };
}

/**
 * @kept both ends, size, flags, content, packets.
 */
export const pipe: DescriptorKind<PipeState> = {
  kind: "pipe",
  version: 1,
  after: [],
  matches: (link) => link.startsWith("pipe:["),
  dump: (descriptions, context) =>
    descriptions.map((description) => remembered.state(description, context, () => read(description, context))),
  create(state, context) {
    const { reader, writer, taken } = endsOf(state, context);
    const mode = state.flags & O.accessMode;
    const end = mode === O.writeOnly ? writer : reader;
    const isFirst = mode !== O.readWrite && !taken.has(end);
    if (isFirst) taken.add(end);
    // Opened anew: an end that exists twice has two descriptions.
    const fd = isFirst ? end : call("open", Buffer.from(`/proc/self/fd/${end}\0`), mode | O.closeOnExec | O.nonBlock);
    setStatusFlags(fd, state.flags);
    return fd;
  },
};
