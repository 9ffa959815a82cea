/** POSIX message queues (mq_overview(7)): open ones, those that only have a name, and those that have lost it. */
import { statfsSync } from "node:fs";
import { call, closeDescriptor, cString, openPath, statusFlags, tryCall } from "../../kernel/calls.ts";
import { OperatingError } from "../../kernel/failure.ts";
import { Status } from "../../kernel/files.ts";
import { readStatus, virtualPid } from "../../kernel/procfs.ts";
import { type DescriptorKind, O } from "../kind.ts";
import { type Message, messagesOf, type Wish, wishOf } from "./content.ts";
import { inNamespaceOf, openQueues, type QueueLimits, readLimits, unfollow, writeLimits } from "./namespace.ts";

/** A queue, whoever has it open. */
export interface QueueState {
  type: "queue";
  id: number;
  /** Without the slash. */
  name: string;
  unlinked: boolean;
  mode: number;
  uid: number;
  gid: number;
  maxMessages: number;
  messageBytes: number;
  messages: Message[];
  limits: QueueLimits;
}

/** A description of it. */
export interface OpenState {
  type: "open";
  id: number;
  path: string;
  flags: number;
  /** Who is told when a message comes into the empty queue: as the application sees it. With one of the descriptions. */
  notify: (Wish & { virtualPid: number }) | undefined;
}

export type MqueueState = QueueState | OpenState;

const MAGIC = 0x19800202;
const DELETED = " (deleted)";
const SIGEV_THREAD = 2;
const ATTRIBUTE_BYTES = 64;
const TEXT_BYTES = 128;
const RLIMIT_MSGQUEUE = 12;

const status = new Status();
/** Of the stop under way: queues without a name that somebody has open, by inode. */
const unlinked = new Map<number, QueueState>();

function queueState(fd: number, name: string, isUnlinked: boolean, limits: QueueLimits): QueueState {
  status.read(fd, "");
  const { inode: id, mode, uid, gid } = status;
  const attributes = Buffer.alloc(ATTRIBUTE_BYTES);
  call("mq_getsetattr", fd, null, attributes);
  const [maxMessages, messageBytes, count] = [8, 16, 24].map((at) => Number(attributes.readBigInt64LE(at)));
  const facts = { id, name, unlinked: isUnlinked, mode: mode & 0o7777, uid, gid, limits };
  const messages = messagesOf(fd, count!);
  return { type: "queue", ...facts, maxMessages: maxMessages!, messageBytes: messageBytes!, messages };
}

/** The pid, as this program sees it, of who is to be told; 0: nobody. */
function notifiedBy(fd: number): number {
  const text = Buffer.alloc(TEXT_BYTES);
  const n = call("pread64", fd, text, text.length, 0);
  return Number(/NOTIFY_PID:(\d+)/.exec(text.toString("latin1", 0, n))?.[1] ?? 0);
}

function notifyOf(fd: number, link: string): OpenState["notify"] {
  const pid = notifiedBy(fd);
  if (pid === 0) return undefined;
  const wish = wishOf(fd);
  if (wish.how === SIGEV_THREAD)
    throw new OperatingError(
      "unprotectable-message-queue",
      `The application wants a thread to be told of messages in the queue "${link}" (SIGEV_THREAD), which cannot be copied`,
      { remedy: "Let it be told by a signal.", details: { link } },
    );
  return { ...wish, virtualPid: virtualPid(readStatus(pid)) };
}

/** Queues made for this restore, by id, and those whose notification is registered. */
interface Made {
  fds: Map<number, number>;
  registered: Set<number>;
}

let made: Made = { fds: new Map(), registered: new Set() };

/**
 * The limit of what one user's queues take together counts for who makes them: this process, for all applications of the node. What an
 * application could make, its clone must be able to. It stays as it is where that is not allowed (CAP_SYS_RESOURCE).
 */
function liftLimit(): void {
  const unlimited = Buffer.alloc(16, 0xff);
  tryCall("prlimit64", 0, RLIMIT_MSGQUEUE, unlimited, null);
}

/** With this thread in the clone's IPC namespace. */
function makeQueue(state: QueueState): number {
  const { name, mode, uid, gid, maxMessages, messageBytes } = state;
  const attributes = Buffer.alloc(ATTRIBUTE_BYTES);
  attributes.writeBigInt64LE(BigInt(maxMessages), 8);
  attributes.writeBigInt64LE(BigInt(messageBytes), 16);
  const limits = readLimits();
  // The limit may have been lowered since, or raised on the primary.
  writeLimits({ messages: Math.max(limits.messages, maxMessages), bytes: Math.max(limits.bytes, messageBytes) });
  const flags = O.readWrite | O.create | O.exclusive | O.nonBlock | O.closeOnExec;
  const fd = call("mq_open", cString(name), flags, 0o600, attributes);
  writeLimits(state.limits);
  for (const { bytes, priority } of state.messages) call("mq_timedsend", fd, bytes, bytes.length, priority, null);
  call("fchown", fd, uid, gid);
  call("fchmod", fd, mode);
  if (state.unlinked) call("mq_unlink", cString(name));
  return fd;
}

/**
 * @kept messages with their priorities, attributes, limits of the namespace, owner, mode, who is told by which signal; also of
 *   queues that nobody has open and of those that were unlinked.
 * @unkept notification by a thread (refused).
 */
export const mqueue: DescriptorKind<MqueueState> = {
  kind: "mqueue",
  version: 1,
  after: [],
  matches: () => false,
  matchesFile: (link, _mode, place) => link.lastIndexOf("/") === 0 && link !== "/" && statfsSync(place).type === MAGIC,
  dump(descriptions, context) {
    unlinked.clear();
    const seen = new Set<number>();
    return descriptions.map((description): OpenState => {
      const { link, pid } = description;
      const own = context.take(description);
      status.read(own, "");
      const id = status.inode;
      const isUnlinked = status.links === 0;
      const first = !seen.has(id);
      seen.add(id);
      const reader = openPath(`/proc/self/fd/${own}`, O.readOnly | O.nonBlock);
      try {
        const name = (link.endsWith(DELETED) ? link.slice(0, -DELETED.length) : link).slice(1);
        if (first && isUnlinked) unlinked.set(id, queueState(reader, name, true, inNamespaceOf(pid, readLimits)));
        const flags = statusFlags(own);
        return { type: "open", id, path: link, flags, notify: notifyOf(reader, link) };
      } finally {
        closeDescriptor(reader);
      }
    });
  },
  dumpOwnerless(pids) {
    const gone = [...unlinked.values()];
    unlinked.clear();
    const pid = pids[0];
    const named = pid === undefined ? new Map<string, number>() : openQueues(pid);
    try {
      const limits = named.size > 0 ? inNamespaceOf(pid!, readLimits) : { messages: 0, bytes: 0 };
      const there = [...named].map(([name, fd]) => queueState(fd, name, false, limits));
      return [...gone, ...there].map((state) => [`mqueue ${state.id}`, state]);
    } finally {
      for (const fd of named.values()) closeDescriptor(fd);
    }
  },
  forget: unfollow,
  createAll(states, context) {
    made = { fds: new Map(), registered: new Set() };
    const queues = states.filter((state) => state.type === "queue");
    // Those without a name first: it may be another's now.
    const order = queues.toSorted((a, b) => Number(b.unlinked) - Number(a.unlinked));
    if (order.length > 0) {
      liftLimit();
      inNamespaceOf(context.inside().pid, () => {
        for (const state of order) made.fds.set(state.id, makeQueue(state));
      });
    }
    return states.map((state) => {
      const fd = made.fds.get(state.id);
      if (fd === undefined)
        throw new OperatingError("checkpoint-inconsistent", `The checkpoint has no message queue ${state.id}`);
      const again = O.create | O.exclusive | O.truncate;
      return state.type === "queue" ? fd : openPath(`/proc/self/fd/${fd}`, state.flags & ~again);
    });
  },
  create: (state, context) => mqueue.createAll!([state], context)[0]!,
  connectsEach: true,
  connect(state, fd, context) {
    if (state.type !== "open" || state.notify?.virtualPid !== context.virtualPid) return [];
    if (made.registered.has(state.id)) return [];
    made.registered.add(state.id);
    const event = Buffer.alloc(64);
    event.writeBigUInt64LE(BigInt(state.notify.value), 0);
    event.writeInt32LE(state.notify.signal, 8);
    event.writeInt32LE(state.notify.how, 12);
    return [["mq_notify", fd, context.put(event)]];
  },
};
