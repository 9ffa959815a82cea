/**
 * The messages in a unix socket's queue as the kernel's memory tells of them. A look shows an empty one only once (`peeked` of struct
 * sk_buff, net/core/datagram.c): so where empty ones are, from whom they came and what is in flight with them is read from there.
 */
import { KernelFields } from "../../kernel/kernel-fields.ts";
import { type Address, KernelMemory } from "../../kernel/kernel-memory.ts";
import type { UnixCredentials, UnixMessage } from "./state.ts";

const FIELDS = new KernelFields(
  "socket.sk",
  "sock.sk_receive_queue",
  "sk_buff",
  "sk_buff.len",
  "sk_buff.sk",
  "sk_buff.cb",
  "unix_skb_parms.pid",
  "unix_skb_parms.uid",
  "unix_skb_parms.gid",
  "unix_skb_parms.fp",
  "scm_fp_list.count",
  "scm_fp_list.fp",
  "unix_sock.addr",
  "unix_address.len",
  "unix_address.name",
);
/** Of its own it is bounded by max_dgram_qlen or the sender's buffer: a queue longer than that has lost its way. */
const MOST_MESSAGES = 1 << 20;

/** An empty message, or the length of another. */
export type Seen = number | EmptyMessage;

export interface EmptyMessage {
  from: Buffer;
  /** pid as this program sees it. */
  credentials: UnixCredentials;
  /** Where the kernel has the descriptions in flight with it. */
  files: Address[];
}

/**
 * First come first; undefined where the kernel's memory cannot be read.
 * @param fd of this process: a socket of datagrams or packets
 */
export function seenAt(fd: number): Seen[] | undefined {
  const memory = KernelMemory.tryOpen();
  if (memory === undefined || !FIELDS.areKnown) return undefined;
  const socket = memory.pointer(memory.privateOf(memory.file(fd)) + FIELDS.offset("socket.sk"));
  const queue = socket + FIELDS.offset("sock.sk_receive_queue");
  const seen: Seen[] = [];
  for (let next = memory.pointer(queue); next !== queue; ) {
    if (seen.length >= MOST_MESSAGES) throw new RangeError("A queue of messages without an end");
    const head = memory.read(next, FIELDS.at("sk_buff"));
    seen.push(head.readUInt32LE(FIELDS.at("sk_buff.len")) || empty(memory, head));
    // struct sk_buff begins with {next, prev}.
    next = head.readBigUInt64LE(0);
  }
  return seen;
}

function empty(memory: KernelMemory, head: Buffer): EmptyMessage {
  const at = FIELDS.at("sk_buff.cb");
  const pid = head.readBigUInt64LE(at + FIELDS.at("unix_skb_parms.pid"));
  return {
    from: nameOf(memory, head.readBigUInt64LE(FIELDS.at("sk_buff.sk"))),
    credentials: {
      pid: pid === 0n ? 0 : memory.pidNumber(pid),
      uid: head.readUInt32LE(at + FIELDS.at("unix_skb_parms.uid")),
      gid: head.readUInt32LE(at + FIELDS.at("unix_skb_parms.gid")),
    },
    files: filesOf(memory, head.readBigUInt64LE(at + FIELDS.at("unix_skb_parms.fp"))),
  };
}

/** Of a `struct scm_fp_list`, in their order. */
function filesOf(memory: KernelMemory, list: Address): Address[] {
  if (list === 0n) return [];
  const count = memory.read(list + FIELDS.offset("scm_fp_list.count"), 2).readInt16LE();
  const files = memory.read(list + FIELDS.offset("scm_fp_list.fp"), 8 * count);
  return Array.from({ length: count }, (_, i) => files.readBigUInt64LE(8 * i));
}

/** As recvmsg(2) would tell it. */
function nameOf(memory: KernelMemory, sender: Address): Buffer {
  const name = sender === 0n ? 0n : memory.pointer(sender + FIELDS.offset("unix_sock.addr"));
  if (name === 0n) return Buffer.alloc(0);
  const length = memory.read(name + FIELDS.offset("unix_address.len"), 4).readUInt32LE();
  return memory.read(name + FIELDS.offset("unix_address.name"), length);
}

/**
 * All messages, in their order; undefined when the two looks do not fit together. What is only in the second came after the first.
 * @param shown in which empty ones may be missing
 * @param make of an empty one
 */
export function withEmpty(
  seen: readonly Seen[],
  shown: readonly UnixMessage[],
  make: (message: EmptyMessage) => UnixMessage,
): UnixMessage[] | undefined {
  const others = shown.filter(({ content }) => content.length > 0);
  const all: UnixMessage[] = [];
  for (const one of seen) {
    const next = typeof one === "number" ? others.shift() : make(one);
    if (next === undefined || (typeof one === "number" && next.content.length !== one)) return undefined;
    all.push(next);
  }
  return [...all, ...others];
}
