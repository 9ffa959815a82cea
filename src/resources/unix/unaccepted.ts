/**
 * What was sent to a listening unix socket on connections that nobody has accepted yet. Only accept(2) leads to their other
 * ends, and would take them away: so they are looked at in the kernel's memory (struct unix_sock), all senders being stopped.
 */
import { KernelFields } from "../../kernel/kernel-fields.ts";
import type { Address } from "../../kernel/kernel-memory.ts";
import { packetMemory } from "../../kernel/packet-memory.ts";

/** One message of one that waits. */
export interface Unheard {
  content: Buffer;
  uid: number;
  gid: number;
}

const FIELDS = new KernelFields(
  "sock.sk_receive_queue",
  "sk_buff.sk",
  "sk_buff.cb",
  "unix_skb_parms.uid",
  "unix_skb_parms.gid",
  "unix_skb_parms.fp",
);

/**
 * What each of those who wait has sent, first come first; undefined for one that has sent descriptors, too.
 * @param fd a duplicate, in this process, of the listening socket
 */
export function readUnaccepted(fd: number): Array<Unheard[] | undefined> {
  const packets = packetMemory();
  const queueOf = (socket: Address) => [...packets.queue(socket + FIELDS.offset("sock.sk_receive_queue"))];
  const parameters = FIELDS.at("sk_buff.cb");
  return queueOf(packets.socket(fd)).map(({ head }) => {
    const messages = queueOf(head.readBigUInt64LE(FIELDS.at("sk_buff.sk")));
    const passed = parameters + FIELDS.at("unix_skb_parms.fp");
    if (messages.some(({ head: message }) => message.readBigUInt64LE(passed) !== 0n)) return undefined;
    return messages.map(({ head: message, bytes }) => ({
      content: bytes,
      uid: message.readUInt32LE(parameters + FIELDS.at("unix_skb_parms.uid")),
      gid: message.readUInt32LE(parameters + FIELDS.at("unix_skb_parms.gid")),
    }));
  });
}
