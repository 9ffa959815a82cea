/** Pipes: both ends, size, and the bytes in them. */
import { call, closeDescriptor, setStatusFlags, statusFlags } from "../../kernel/calls.ts";
import { type CreateContext, type Description, type DescriptorKind, type DumpContext, O } from "../kind.ts";
import { Remembered } from "../remembered.ts";
import {
  F_GETPIPE_SZ,
  F_SETPIPE_SZ,
  fillPipe,
  isPacketized,
  makePipe,
  NOTHING,
  type PipeContent,
  packetPipes,
  peekPipe,
} from "./content.ts";

/** Content only with a reading end. */
export interface PipeState extends PipeContent {
  /** `pipe:[INODE]`: both ends of a pipe have the same. */
  pipe: string;
  flags: number;
  sizeBytes: number;
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
  const flags = all.map((end) => end.flags);
  if (full) fillPipe(writer, full, isPacketized(full.packets, flags));
  const ends = { reader, writer, taken: new Set<number>() };
  context.shared.set(key, ends);
  context.atLife(() => {
    for (const end of [reader, writer]) if (!ends.taken.has(end)) closeDescriptor(end);
  });
  return ends;
}

const remembered = new Remembered<PipeState>();

function read(description: Description, context: DumpContext, hasPackets: (link: string) => boolean): PipeState {
  const fd = context.take(description);
  const sizeBytes = call("fcntl", fd, F_GETPIPE_SZ);
  const reads = (description.flags & O.accessMode) !== O.writeOnly;
  return {
    pipe: description.link,
    flags: statusFlags(fd),
    sizeBytes,
    ...(reads ? peekPipe(fd, sizeBytes, () => hasPackets(description.link)) : NOTHING),
  };
}

/**
 * @kept both ends, size, flags, content, packets.
 * @unkept the size of a pipe that holds more than that, spliced from a network: it is larger then; where the kernel's memory cannot be
 *   read, plain bytes that are read together with a packet behind them: they belong to it then.
 */
export const pipe: DescriptorKind<PipeState> = {
  kind: "pipe",
  version: 1,
  after: [],
  matches: (link) => link.startsWith("pipe:["),
  dump(descriptions, context) {
    const hasPackets = packetPipes(descriptions);
    return descriptions.map((description) =>
      remembered.state(description, context, () => read(description, context, hasPackets)),
    );
  },
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
