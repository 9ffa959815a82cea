/** Looks at unix sockets in the stop: names, peers, who waits, and what is in their queues (queue.ts). */

import { readlinkSync, statSync } from "node:fs";
import { call, statusFlags } from "../../kernel/calls.ts";
import { OperatingError } from "../../kernel/failure.ts";
import { KernelFields } from "../../kernel/kernel-fields.ts";
import { KernelMemory } from "../../kernel/kernel-memory.ts";
import { SOL_SOCKET } from "../../kernel/socket.ts";
import { readFilter } from "../../kernel/socket-filter.ts";
import type { Description, DumpContext } from "../kind.ts";
import { refuseFilter } from "../refusal.ts";
import { readOptions } from "../socket-options.ts";
import { diagnoseUnix, LISTENING, type UnixDiagnosis } from "./diag.ts";
import { peekQueue } from "./queue.ts";
import { KEPT_OPTIONS, NEWER_OPTIONS, SO, SOCK_DGRAM, SOCK_STREAM, type UnixName, type UnixState } from "./state.ts";
import { readUnaccepted, type Unheard } from "./unaccepted.ts";

const FIELDS = new KernelFields("socket.sk", "sock.sk_max_ack_backlog");
/** What is known of a socket without looking closely is looked at again after so long: options change without a trace. */
const FRESH_MS = 1000;

interface Known {
  at: number;
  diagnosis: UnixDiagnosis;
  state: UnixState;
}

const known = new Map<string, Known>();
const length = Buffer.alloc(4);

export function inodeOf(link: string): number {
  return Number(link.slice("socket:[".length, -1));
}

function option(fd: number, name: number, bytes: number): Buffer {
  const value = Buffer.alloc(bytes);
  length.writeUInt32LE(bytes);
  call("getsockopt", fd, SOL_SOCKET, name, value, length);
  return value;
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

function look(
  description: Description,
  diagnosis: UnixDiagnosis,
  context: DumpContext,
  later: Array<() => void>,
): UnixState {
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
    ...(type === SOCK_DGRAM && queueLimit(fd, description)),
    queue: listening ? [] : peekQueue({ fd, description, diagnosis, context, later }),
  };
  return listening && diagnosis.waiting.length > 0 ? { ...state, unheard: unheardOf(fd, description) } : state;
}

/** They stay as they were when the socket was made: of datagrams, where nobody can listen, nothing changes them. */
const limits = new WeakMap<Description, Pick<UnixState, "queueLimit">>();

/** Of datagrams; it is told by the kernel's memory alone. */
function queueLimit(fd: number, description: Description): Pick<UnixState, "queueLimit"> {
  const before = limits.get(description);
  if (before !== undefined) return before;
  const memory = KernelMemory.tryOpen();
  if (memory === undefined || !FIELDS.areKnown) return {};
  const socket = memory.pointer(memory.privateOf(memory.file(fd)) + FIELDS.offset("socket.sk"));
  const limit = { queueLimit: memory.read(socket + FIELDS.offset("sock.sk_max_ack_backlog"), 4).readUInt32LE() };
  limits.set(description, limit);
  return limit;
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
  // Of datagrams the kernel counts but the first, of packets their bytes, and of empty ones there are none; who waits may have sent more.
  if (now.type !== SOCK_STREAM || now.receiveQueue > 0 || now.waiting.length > 0) return false;
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
  const later: Array<() => void> = [];
  const states = descriptions.map((description): UnixState => {
    const diagnosis = all.get(inodeOf(description.link));
    if (!diagnosis) throw outside(description, "was made outside the application");
    const before = known.get(description.link);
    if (isAsKnown(before, diagnosis, at)) return before.state;
    const state = look(description, diagnosis, context, later);
    known.set(description.link, { at, diagnosis, state });
    return state;
  });
  for (const action of later) action();
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
