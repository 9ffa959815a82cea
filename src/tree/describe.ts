/** What each kind of resource says of itself in the dependency tree. A kind without a line here shows its plain fields. */
import type { EpollState } from "../resources/epoll/index.ts";
import type { EventfdState } from "../resources/eventfd/index.ts";
import type { FifoState } from "../resources/fifo/index.ts";
import type { FileState } from "../resources/file/index.ts";
import type { InotifyState } from "../resources/inotify/index.ts";
import { O } from "../resources/kind.ts";
import type { MqueueState } from "../resources/mqueue/index.ts";
import type { NamelessState } from "../resources/nameless/index.ts";
import type { PipeState } from "../resources/pipe/index.ts";
import type { PtyState } from "../resources/pty/index.ts";
import type { TcpSocketState } from "../resources/tcp/index.ts";
import { STATE, TcpRecord } from "../resources/tcp/record.ts";
import type { UdpState } from "../resources/udp/index.ts";
import type { UnixState } from "../resources/unix/state.ts";

export type Details = Record<string, string | number | boolean>;

export interface Told {
  label: string;
  details?: Details;
  /** Things that others may use as well: they become nodes of their own. */
  uses?: Array<{ id: string; kind: string; label: string; edge: string }>;
  /** Of a socket: "address:port". */
  endpoint?: { protocol: string; local: string; remote?: string };
  /** Of a socket whose peer has a number: both numbers. */
  pair?: { own: number; peer: number };
  /** Descriptor numbers of the same process that it watches. */
  watches?: number[];
}

const ACCESS = ["read", "write", "read and write"] as const;

function access(flags: number): string {
  return ACCESS[flags & (O.accessMode as 0 | 1 | 2)] ?? "none";
}

const tcpStates = new Map<number, string>(
  Object.entries(STATE).map(([name, value]) => [value, name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)]),
);

/** "10.77.0.10:6379", "[fd00::1]:6379" from a socket address of the kernel. */
export function endpointText(address: Buffer): string | undefined {
  if (address.length < 16) return undefined;
  const port = address.readUInt16BE(2);
  if (address.length === 16) return `${[...address.subarray(4, 8)].join(".")}:${port}`;
  const words = Array.from({ length: 8 }, (_, i) => address.readUInt16BE(8 + 2 * i).toString(16));
  if (words.slice(0, 5).every((word) => word === "0") && words[5] === "ffff")
    return `${[...address.subarray(20, 24)].join(".")}:${port}`;
  return `${new URL(`http://[${words.join(":")}]/`).hostname}:${port}`;
}

function tellTcp({ content }: TcpSocketState): Told {
  const record = new TcpRecord(content);
  const state = tcpStates.get(record.state) ?? String(record.state);
  const local = endpointText(record.local) ?? "unbound";
  if (record.state === STATE.listen)
    return { label: `${local} listening`, details: { state, local }, endpoint: { protocol: "tcp", local } };
  const remote = endpointText(record.remote);
  if (remote === undefined || record.state === STATE.closed)
    return { label: `${local} ${state}`, details: { state, local } };
  return {
    label: `${local} → ${remote} ${state}`,
    details: {
      state,
      local,
      remote,
      receivedBytes: (record.receiveEnd - record.receiveStart) >>> 0,
      sentBytes: (record.sendEnd - record.sendStart) >>> 0,
    },
    endpoint: { protocol: "tcp", local, remote },
  };
}

function tellPipe({ pipe, flags, sizeBytes, content }: PipeState): Told {
  const writes = (flags & O.accessMode) === O.writeOnly;
  return {
    label: `${pipe} ${writes ? "write" : "read"} end`,
    details: { pipe, end: writes ? "write" : "read", sizeBytes, ...(writes ? {} : { contentBytes: content.length }) },
    uses: [{ id: `pipe/${pipe}`, kind: "pipe-buffer", label: pipe, edge: writes ? "writes" : "reads" }],
  };
}

function tellUdp({ local, remote, queue }: UdpState): Told {
  const own = endpointText(local) ?? "unbound";
  const other = endpointText(remote);
  return {
    label: other === undefined ? own : `${own} → ${other}`,
    details: { local: own, ...(other === undefined ? {} : { remote: other }), queued: queue.length },
    endpoint: { protocol: "udp", local: own, ...(other === undefined ? {} : { remote: other }) },
  };
}

const unixTypes: Record<number, string> = { 1: "stream", 2: "datagram", 5: "seqpacket" };

/** A name in the file system, or "@name" of an abstract one; empty when it has none. */
function unixName(address: Buffer): string {
  const bytes = address.subarray(2);
  return bytes[0] === 0 ? `@${bytes.toString("latin1", 1)}` : bytes.toString("utf8").replace(/\0.*$/s, "");
}

function tellUnix({ inode, type, name, listening, peer, queue }: UnixState): Told {
  const kind = unixTypes[type] ?? String(type);
  const named = unixName(name.address);
  const words = [kind, named, listening ? "listening" : peer > 0 ? "connected" : ""];
  return {
    label: words.filter(Boolean).join(" "),
    details: { type: kind, name: named, listening, queued: queue.length },
    pair: { own: inode, peer },
  };
}

const tell: Record<string, (state: never) => Told> = {
  file: ({ path, flags, position }: FileState) => ({
    label: path,
    details: { path, access: access(flags), position },
    uses: [{ id: `file/${path}`, kind: "file", label: path, edge: access(flags) }],
  }),
  pipe: tellPipe,
  tcp: tellTcp,
  udp: tellUdp,
  unix: tellUnix,
  fifo: ({ path, flags, sizeBytes }: FifoState) => ({
    label: path,
    details: { path, access: access(flags), sizeBytes },
    uses: [{ id: `file/${path}`, kind: "file", label: path, edge: access(flags) }],
  }),
  nameless: ({ path, id, size, flags, position }: NamelessState) => ({
    label: path,
    details: { path, size, access: access(flags), position },
    uses: [{ id: `shared/${id}`, kind: "shared-memory", label: path, edge: access(flags) }],
  }),
  mqueue: (state: MqueueState) =>
    state.type === "queue"
      ? {
          label: `/${state.name}`,
          details: { messages: state.messages.length, most: state.maxMessages, unlinked: state.unlinked },
        }
      : { label: state.path, details: { access: access(state.flags), notifies: state.notify?.virtualPid ?? 0 } },
  pty: ({ index, terminal }: PtyState) => ({
    label: `${terminal ? "master" : "slave"} of /dev/pts/${index}`,
    details: { index, side: terminal ? "master" : "slave" },
    uses: [{ id: `terminal/${index}`, kind: "terminal", label: `/dev/pts/${index}`, edge: "side" }],
  }),
  inotify: ({ watches }: InotifyState) => ({
    label: `watches ${watches.length} files`,
    details: { watches: watches.length },
  }),
  epoll: ({ targets }: EpollState) => ({
    label: `watches ${targets.length} descriptors`,
    details: { watches: targets.length },
    watches: targets.map(({ fd }) => fd),
  }),
  eventfd: ({ count, semaphore }: EventfdState) => ({
    label: `count ${BigInt(`0x${count}`)}${semaphore ? ", semaphore" : ""}`,
    details: { count: String(BigInt(`0x${count}`)), semaphore },
  }),
};

const LONGEST = 200;

function plainFields(state: unknown): Details {
  if (typeof state !== "object" || state === null) return {};
  const plain = Object.entries(state).filter(([, value]) => ["string", "number", "boolean"].includes(typeof value));
  return Object.fromEntries(
    plain.map(([key, value]) => [key, typeof value === "string" ? value.slice(0, LONGEST) : value]),
  );
}

/** Never fails: what cannot be understood is shown by its plain fields. */
export function describeResource(kind: string, state: unknown): Told {
  try {
    const told = tell[kind]?.(state as never);
    if (told) return told;
  } catch {
    // A state of a shape that this text does not know yet.
  }
  return { label: "", details: plainFields(state) };
}
