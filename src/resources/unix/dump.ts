/** Looks at unix sockets in the stop: names, peers, who waits, and what is in their queues, which stays there. */

import { readlinkSync, statSync } from "node:fs";
import { call, statusFlags } from "../../kernel/calls.ts";
import { OperatingError } from "../../kernel/failure.ts";
import { KernelFields } from "../../kernel/kernel-fields.ts";
import { KernelMemory } from "../../kernel/kernel-memory.ts";
import { MSG_CTRUNC, MSG_PEEK, MSG_TRUNC, receiveMessage } from "../../kernel/message.ts";
import { SOL_SOCKET } from "../../kernel/socket.ts";
import { readFilter } from "../../kernel/socket-filter.ts";
import type { Description, DumpContext } from "../kind.ts";
import { refuseFilter } from "../refusal.ts";
import { readOptions } from "../socket-options.ts";
import { diagnoseUnix, LISTENING, type UnixDiagnosis } from "./diag.ts";
import { seenAt, withEmpty } from "./empty.ts";
import {
  KEPT_OPTIONS,
  NEWER_OPTIONS,
  SO,
  SOCK_DGRAM,
  SOCK_STREAM,
  type UnixMessage,
  type UnixName,
  type UnixState,
} from "./state.ts";
import { readUnaccepted, type Unheard } from "./unaccepted.ts";

const FIELDS = new KernelFields("socket.sk", "sock.sk_max_ack_backlog");
const RECEIVE_SHUTDOWN = 1;
/** What is known of a socket without looking closely is looked at again after so long: options change without a trace. */
const FRESH_MS = 1000;

interface Known {
  at: number;
  diagnosis: UnixDiagnosis;
  state: UnixState;
}

const known = new Map<string, Known>();
let scratch = Buffer.alloc(1 << 18);
const length = Buffer.alloc(4);
const integer = Buffer.alloc(4);

export function inodeOf(link: string): number {
  return Number(link.slice("socket:[".length, -1));
}

function option(fd: number, name: number, bytes: number): Buffer {
  const value = Buffer.alloc(bytes);
  length.writeUInt32LE(bytes);
  call("getsockopt", fd, SOL_SOCKET, name, value, length);
  return value;
}

function setPeekOffset(fd: number, offset: number): void {
  integer.writeInt32LE(offset);
  call("setsockopt", fd, SOL_SOCKET, SO.peekOffset, integer, 4);
}

/** The messages that wait, without taking them: each look with an offset set goes on behind the one before (SO_PEEK_OFF). */
function peekQueue(fd: number, { type, shutdown }: UnixDiagnosis, context: DumpContext): UnixMessage[] {
  const messages: UnixMessage[] = [];
  const seen = type === SOCK_STREAM ? undefined : seenAt(fd);
  // Behind the last one a socket that receives nothing more shows an empty one without end.
  const ends = () =>
    type === SOCK_STREAM || ((shutdown & RECEIVE_SHUTDOWN) !== 0 && messages.length >= (seen?.length ?? 0));
  const before = option(fd, SO.peekOffset, 4).readInt32LE();
  setPeekOffset(fd, 0);
  try {
    for (;;) {
      const { result, flags, from, fds, credentials } = receiveMessage(fd, scratch, MSG_PEEK | MSG_TRUNC);
      const descriptors = fds.map((own) => context.adopt(own).id);
      if (result < 0 || (result === 0 && ends())) break;
      if ((flags & MSG_CTRUNC) !== 0)
        throw new Error("Descriptors in flight on a unix socket are more than can be looked at");
      if ((flags & MSG_TRUNC) !== 0) {
        scratch = Buffer.alloc(2 * result);
        messages.length = 0;
        setPeekOffset(fd, 0);
        continue;
      }
      const content = Buffer.from(scratch.subarray(0, result));
      const sender = credentials && { ...credentials, pid: context.virtualPid(credentials.pid) };
      messages.push({ content, descriptors, from, credentials: sender });
    }
  } finally {
    setPeekOffset(fd, before);
  }
  if (!seen) return messages;
  const asked = option(fd, SO.passCredentials, 4).readInt32LE() !== 0;
  return withEmpty(seen, messages, ({ from, credentials }) => ({
    content: Buffer.alloc(0),
    descriptors: [],
    from,
    credentials: asked ? { ...credentials, pid: context.virtualPid(credentials.pid) } : undefined,
  }));
}

const NO_NAME: UnixName = { address: Buffer.alloc(0), directory: "", file: undefined, key: "" };

function nameOf(fd: number, { pid }: Description, diagnosis: UnixDiagnosis): UnixName {
  const address = Buffer.alloc(112);
  length.writeUInt32LE(address.length);
  call("getsockname", fd, address, length);
  const used = Buffer.from(address.subarray(0, length.readUInt32LE()));
  if (used.length <= 2) return NO_NAME;
  if (used[2] === 0) return { ...NO_NAME, address: used, key: used.toString("latin1") };
  const path = used.toString("latin1", 2).replace(/\0.*$/s, "");
  const directory = readlinkSync(`/proc/${pid}/cwd`);
  const key = `${path} ${diagnosis.file}`;
  try {
    const host = path.startsWith("/") ? `/proc/${pid}/root${path}` : `/proc/${pid}/cwd/${path}`;
    const { mode, uid, gid, ino } = statSync(Buffer.from(host, "latin1"));
    // Overlays may number 64-bit; the kernel keeps 32 bits here.
    const file =
      Number(BigInt(ino) & 0xffffffffn) === diagnosis.file?.[0] ? { mode: mode & 0o7777, uid, gid } : undefined;
    return { address: used, directory, file, key };
  } catch {
    return { address: used, directory, file: undefined, key };
  }
}

function peerCredentials(fd: number, context: DumpContext): UnixState["peerCredentials"] {
  const value = option(fd, SO.peerCredentials, 12);
  const pid = value.readInt32LE(0);
  const uid = value.readUInt32LE(4);
  if (uid === 0xffffffff) return undefined;
  return { pid: context.virtualPid(pid), uid, gid: value.readUInt32LE(8) };
}

function look(description: Description, diagnosis: UnixDiagnosis, context: DumpContext): UnixState {
  const { inode, type, peer, shutdown } = diagnosis;
  const listening = diagnosis.state === LISTENING;
  const fd = context.take(description);
  const filter = readFilter(fd);
  if (filter === "extended") throw refuseFilter(description);
  const newer = readOptions(
    fd,
    NEWER_OPTIONS.map((name) => [SOL_SOCKET, name]),
  );
  const state: UnixState = {
    inode,
    type,
    owner: context.virtualPid(description.pid),
    flags: statusFlags(fd),
    name: nameOf(fd, description, diagnosis),
    listening,
    backlog: listening ? diagnosis.sendQueue : 0,
    waiting: diagnosis.waiting,
    peer: peer ?? -1,
    peerCredentials: peerCredentials(fd, context),
    shutdown,
    options: [
      ...KEPT_OPTIONS.map(([name, bytes]): [number, Buffer] => [name, option(fd, name, bytes)]),
      ...newer.map(([, name, value]): [number, Buffer] => [name, value]),
    ],
    ...(filter.length > 0 && { filter }),
    ...queueLimit(fd, type),
    queue: listening ? [] : peekQueue(fd, diagnosis, context),
  };
  return listening && diagnosis.waiting.length > 0 ? { ...state, unheard: unheardOf(fd, description) } : state;
}

/** Of datagrams; it is told by the kernel's memory alone. */
function queueLimit(fd: number, type: number): Pick<UnixState, "queueLimit"> {
  const memory = type === SOCK_DGRAM ? KernelMemory.tryOpen() : undefined;
  if (memory === undefined) return {};
  const socket = memory.pointer(memory.privateOf(memory.file(fd)) + FIELDS.offset("socket.sk"));
  return { queueLimit: memory.read(socket + FIELDS.offset("sock.sk_max_ack_backlog"), 4).readUInt32LE() };
}

/** What nobody has heard yet. */
function unheardOf(fd: number, { fd: descriptor, pid }: Description): Unheard[][] {
  return readUnaccepted(fd).map((messages) => {
    if (messages !== undefined) return messages;
    throw new OperatingError(
      "unix-connection-waiting",
      `Descriptors are on their way to descriptor ${descriptor} on a unix connection that nobody has accepted yet`,
      { remedy: "The checkpoint is tried again.", details: { fd: descriptor, pid } },
    );
  });
}

function isAsKnown(before: Known | undefined, now: UnixDiagnosis, at: number): before is Known {
  if (!before || at - before.at > FRESH_MS || at < before.at) return false;
  // Of datagrams the kernel counts but the first; who waits may have sent more.
  if (now.type === SOCK_DGRAM || now.receiveQueue > 0 || now.waiting.length > 0) return false;
  const { diagnosis, state } = before;
  return (
    state.queue.length === 0 &&
    diagnosis.state === now.state &&
    diagnosis.peer === now.peer &&
    diagnosis.shutdown === now.shutdown &&
    diagnosis.sendQueue === now.sendQueue &&
    diagnosis.file?.[0] === now.file?.[0] &&
    diagnosis.waiting.join() === now.waiting.join()
  );
}

export function dumpUnix(descriptions: Description[], context: DumpContext): UnixState[] {
  if (descriptions.length === 0) return [];
  const owner = descriptions.find(({ pid }) => pid !== process.pid)?.pid;
  const all =
    (context.shared.get("unix") as Map<number, UnixDiagnosis> | undefined) ?? diagnoseUnix(owner ?? process.pid);
  context.shared.set("unix", all);
  const at = Date.now();
  const states = descriptions.map((description): UnixState => {
    const diagnosis = all.get(inodeOf(description.link));
    if (!diagnosis) throw outside(description, "was made outside the application");
    const before = known.get(description.link);
    if (isAsKnown(before, diagnosis, at)) return before.state;
    const state = look(description, diagnosis, context);
    known.set(description.link, { at, diagnosis, state });
    return state;
  });
  refuseWhatCannotBe(descriptions, states, context, all);
  return states;
}

function refuseWhatCannotBe(
  descriptions: Description[],
  states: UnixState[],
  context: DumpContext,
  all: Map<number, UnixDiagnosis>,
): void {
  const own = (context.shared.get("unix own") as Set<number> | undefined) ?? new Set();
  context.shared.set("unix own", own);
  for (const { inode } of states) own.add(inode);
  states.forEach(({ peer }, i) => {
    const description = descriptions[i]!;
    // Its peer may be on its way in a queue that is looked at later.
    if (peer <= 0 || own.has(peer)) return;
    context.atEnd(() => {
      if (!own.has(peer)) throw outside(description, "is connected to a process outside the application");
    });
  });
  for (const link of known.keys()) if (!all.has(inodeOf(link))) known.delete(link);
}

function outside({ fd, link, pid }: Description, why: string): OperatingError {
  return new OperatingError("unprotectable-unix-socket", `The unix socket ${link} (descriptor ${fd}) ${why}`, {
    remedy: "Start what it talks to under the same protection, or let it talk over TCP.",
    details: { fd, link, pid },
  });
}
