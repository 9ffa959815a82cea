/**
 * The datagrams that wait at a UDP socket. A look with an offset (SO_PEEK_OFF) shows them one after the other and takes none; but an
 * empty one is shown to one look only (`peeked` of struct sk_buff, net/core/datagram.c). So where empty ones are, and from whom they
 * came, is read from the kernel's memory.
 */
import { call } from "../../kernel/calls.ts";
import { KernelFields } from "../../kernel/kernel-fields.ts";
import { KernelMemory } from "../../kernel/kernel-memory.ts";
import { MSG_PEEK, MSG_TRUNC, receiveMessage } from "../../kernel/message.ts";
import { packetMemory } from "../../kernel/packet-memory.ts";
import { AF_INET, AF_INET6, SOL_SOCKET } from "../../kernel/socket.ts";
import { readOption } from "../socket-options.ts";

export interface Datagram {
  /** sockaddr of the sender. */
  from: Buffer;
  content: Buffer;
}

const FIELDS = new KernelFields(
  "sock.sk_receive_queue",
  "udp_sock.reader_queue",
  "sk_buff_head.qlen",
  "sk_buff.len",
  "sk_buff.protocol",
  "sk_buff.head",
  "sk_buff.network_header",
  "sk_buff.transport_header",
  "sk_buff.cb",
  "inet6_skb_parm.iif",
);

const QUEUES = ["udp_sock.reader_queue", "sock.sk_receive_queue"] as const;
const SO_PEEK_OFF = 42;
const MOST_BYTES = 65536;
/** struct pollfd {fd, events, revents} */
const question = Buffer.alloc(8);
const POLLIN = 1;
const POLLERR = 8;
/** Network protocols as in a packet's head (include/uapi/linux/if_ether.h). */
const ETHERTYPE_IP = 0x0800;
/** Where a source address is in struct iphdr and in struct ipv6hdr, and its length. */
const SOURCE = { [AF_INET]: [12, 4], [AF_INET6]: [8, 16] } as const;
/** Datagrams that come while it is looked, or are thrown away for a wrong checksum, make the two looks differ. */
const TRIES = 16;

const scratch = Buffer.alloc(MOST_BYTES);

/** @param domain AF_INET or AF_INET6, the socket's own */
export function waitingDatagrams(fd: number, domain: number): Datagram[] {
  question.writeInt32LE(fd, 0);
  question.writeInt32LE(POLLIN, 4);
  // A look would take away an error that waits for the application.
  if (call("poll", question, 1, 0) === 0 || (question.readInt16LE(6) & POLLERR) !== 0) return [];
  const memory = KernelMemory.tryOpen();
  if (memory === undefined) return peekAll(fd);
  for (let i = 0; i < TRIES; i++) {
    const merged = merge(lookAt(memory, fd, domain), peekAll(fd));
    if (merged !== undefined) return merged;
  }
  throw new Error("The datagrams that wait at a socket do not hold still");
}

/** How many there are; undefined where the kernel's memory does not tell. A clone lives by this: what is in them is not asked for. */
export function countWaiting(fd: number): number | undefined {
  const memory = KernelMemory.tryOpen();
  if (memory === undefined || !FIELDS.areKnown) return undefined;
  const socket = memory.socket(fd);
  const lengthOf = (queue: (typeof QUEUES)[number]) =>
    memory.read(socket + FIELDS.offset(queue) + FIELDS.offset("sk_buff_head.qlen"), 4).readUInt32LE();
  return QUEUES.reduce((sum, queue) => sum + lengthOf(queue), 0);
}

/** All but such empty ones as were looked at before. */
function peekAll(fd: number): Datagram[] {
  const found: Datagram[] = [];
  const before = readOption(fd, SOL_SOCKET, SO_PEEK_OFF);
  call("setsockopt", fd, SOL_SOCKET, SO_PEEK_OFF, Buffer.alloc(4), 4);
  try {
    for (;;) {
      const { result, from } = receiveMessage(fd, scratch, MSG_PEEK | MSG_TRUNC);
      if (result < 0) return found;
      found.push({ from, content: Buffer.from(scratch.subarray(0, Math.min(result, scratch.length))) });
    }
  } finally {
    call("setsockopt", fd, SOL_SOCKET, SO_PEEK_OFF, before, 4);
  }
}

/** One that waits: an empty datagram, or the length of another. */
type Seen = Datagram | number;

/** In the order in which they are received: what the reader has taken over, then what came since (udp(7), net/ipv4/udp.c). */
function lookAt(memory: KernelMemory, fd: number, domain: number): Seen[] {
  const packets = packetMemory();
  const socket = memory.socket(fd);
  const found: Seen[] = [];
  for (const queue of QUEUES)
    for (const head of packets.heads(socket + FIELDS.offset(queue))) {
      const length = head.readUInt32LE(FIELDS.at("sk_buff.len"));
      found.push(length === 0 ? { from: senderOf(memory, head, domain), content: Buffer.alloc(0) } : length);
    }
  return found;
}

/** As recvfrom(2) would tell it. */
function senderOf(memory: KernelMemory, packet: Buffer, domain: number): Buffer {
  const head = packet.readBigUInt64LE(FIELDS.at("sk_buff.head"));
  const at = (field: "sk_buff.network_header" | "sk_buff.transport_header") =>
    head + BigInt(packet.readUInt16LE(FIELDS.at(field)));
  const family = packet.readUInt16BE(FIELDS.at("sk_buff.protocol")) === ETHERTYPE_IP ? AF_INET : AF_INET6;
  const [from, length] = SOURCE[family];
  const address = memory.read(at("sk_buff.network_header") + BigInt(from), length);
  const port = memory.read(at("sk_buff.transport_header"), 2);
  const sockaddr = Buffer.alloc(domain === AF_INET ? 16 : 28);
  sockaddr.writeUInt16LE(domain);
  port.copy(sockaddr, 2);
  if (domain === AF_INET) address.copy(sockaddr, 4);
  else if (family === AF_INET) Buffer.concat([Buffer.from([0xff, 0xff]), address]).copy(sockaddr, 18);
  else {
    address.copy(sockaddr, 8);
    if (isLinkLocal(address)) packet.copy(sockaddr, 24, ...interfaceOf());
  }
  return sockaddr;
}

/** Bytes of a packet's head that tell the number of the interface by which it came. */
function interfaceOf(): [from: number, to: number] {
  const at = FIELDS.at("sk_buff.cb") + FIELDS.at("inet6_skb_parm.iif");
  return [at, at + 4];
}

/** fe80::/10 */
const isLinkLocal = (address: Buffer) => address.length === 16 && (address.readUInt16BE() & 0xffc0) === 0xfe80;

/**
 * Undefined when they do not fit together. What is only in the second look came after the first.
 * @param peeked a later look, in which empty ones may be missing
 */
function merge(seen: readonly Seen[], peeked: readonly Datagram[]): Datagram[] | undefined {
  const others = peeked.filter(({ content }) => content.length > 0);
  const merged: Datagram[] = [];
  for (const one of seen) {
    if (typeof one !== "number") merged.push(one);
    else {
      const next = others.shift();
      if (next?.content.length !== one) return undefined;
      merged.push(next);
    }
  }
  return [...merged, ...others];
}
