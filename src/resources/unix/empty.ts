/**
 * The messages in a unix socket's queue as the kernel's memory tells of them. A look shows an empty one only once (`peeked` of struct
 * sk_buff, net/core/datagram.c): so where empty ones are, and from whom they came, is read from there.
 */
import { KernelFields } from "../../kernel/kernel-fields.ts";
import { type Address, KernelMemory } from "../../kernel/kernel-memory.ts";
import { packetMemory } from "../../kernel/packet-memory.ts";
import type { UnixCredentials, UnixMessage } from "./state.ts";

const FIELDS = new KernelFields(
  "sock.sk_receive_queue",
  "sk_buff.len",
  "sk_buff.sk",
  "sk_buff.cb",
  "unix_skb_parms.pid",
  "unix_skb_parms.uid",
  "unix_skb_parms.gid",
  "unix_skb_parms.fp",
  "unix_sock.addr",
  "unix_address.len",
  "unix_address.name",
);

/** An empty message, or the length of another. */
export type Seen = number | EmptyMessage;

export interface EmptyMessage {
  from: Buffer;
  /** pid as this program sees it. */
  credentials: UnixCredentials;
  hasDescriptors: boolean;
}

/**
 * First come first; undefined where the kernel's memory cannot be read.
 * @param fd of this process: a socket of datagrams or packets
 */
export function seenAt(fd: number): Seen[] | undefined {
  const memory = KernelMemory.tryOpen();
  if (memory === undefined) return undefined;
  const packets = packetMemory();
  const queue = packets.socket(fd) + FIELDS.offset("sock.sk_receive_queue");
  return Array.from(packets.heads(queue), (head) => head.readUInt32LE(FIELDS.at("sk_buff.len")) || empty(memory, head));
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
    hasDescriptors: head.readBigUInt64LE(at + FIELDS.at("unix_skb_parms.fp")) !== 0n,
  };
}

/** As recvmsg(2) would tell it. */
function nameOf(memory: KernelMemory, sender: Address): Buffer {
  const name = sender === 0n ? 0n : memory.pointer(sender + FIELDS.offset("unix_sock.addr"));
  if (name === 0n) return Buffer.alloc(0);
  const length = memory.read(name + FIELDS.offset("unix_address.len"), 4).readUInt32LE();
  return memory.read(name + FIELDS.offset("unix_address.name"), length);
}

/**
 * All messages, in their order.
 * @param shown in which empty ones may be missing
 * @param make of an empty one
 */
export function withEmpty(
  seen: readonly Seen[],
  shown: readonly UnixMessage[],
  make: (message: EmptyMessage) => UnixMessage,
): UnixMessage[] {
  const others = shown.filter(({ content }) => content.length > 0);
  const passing = shown.filter(({ content, descriptors }) => content.length === 0 && descriptors.length > 0);
  const all = seen.map((one): UnixMessage | undefined => {
    if (typeof one !== "number") return one.hasDescriptors ? passing.shift() : make(one);
    const next = others.shift();
    return next?.content.length === one ? next : undefined;
  });
  if (all.includes(undefined)) throw new Error("What waits in a unix socket is not what its queue has");
  return all as UnixMessage[];
}
