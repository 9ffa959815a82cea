/**
 * What was sent to a listening unix socket on connections that nobody has accepted yet. Only accept(2) leads to their other
 * ends, and would take them away: so they are looked at in the kernel's memory (struct unix_sock), all senders being stopped.
 */
import { readKernelTypes } from "../../kernel/btf.ts";
import { type KernelMemory, kernelMemory } from "../../kernel/kernel-memory.ts";

/** One message of one that waits. */
export interface Unheard {
  content: Buffer;
  uid: number;
  gid: number;
}

const FIELDS = [
  "socket.sk",
  "sock.sk_receive_queue",
  "sk_buff.sk",
  "sk_buff.cb",
  "unix_skb_parms.uid",
  "unix_skb_parms.gid",
  "unix_skb_parms.fp",
];
/** A queue longer than that has lost its way. */
const MOST = 1 << 16;

let fields: ReadonlyMap<string, number> | undefined;

function at(name: string): number {
  fields ??= readKernelTypes([], FIELDS).fields;
  const offset = fields.get(name);
  if (offset === undefined) throw new Error(`This kernel's types do not tell of ${name}`);
  return offset;
}

/**
 * What each of those who wait has sent, first come first; undefined for one that has sent descriptors, too.
 * @param fd a duplicate, in this process, of the listening socket
 */
export function readUnaccepted(fd: number): Array<Unheard[] | undefined> {
  const memory = kernelMemory();
  const listener = memory.pointer(memory.privateOf(memory.fileOf(fd)) + BigInt(at("socket.sk")));
  return packetsOf(memory, listener).map(({ head }) => {
    const messages = packetsOf(memory, head.readBigUInt64LE(at("sk_buff.sk")));
    const parameters = at("sk_buff.cb");
    if (messages.some(({ head: message }) => message.readBigUInt64LE(parameters + at("unix_skb_parms.fp")) !== 0n))
      return undefined;
    return messages.map(({ head: message, bytes }) => ({
      content: bytes,
      uid: message.readUInt32LE(parameters + at("unix_skb_parms.uid")),
      gid: message.readUInt32LE(parameters + at("unix_skb_parms.gid")),
    }));
  });
}

/** The receive queue of a `struct sock`: a list that ends where it begins. */
function packetsOf(memory: KernelMemory, socket: bigint): ReturnType<KernelMemory["packet"]>[] {
  const list = socket + BigInt(at("sock.sk_receive_queue"));
  const found: ReturnType<KernelMemory["packet"]>[] = [];
  for (let next = memory.pointer(list); next !== list; next = found.at(-1)!.head.readBigUInt64LE(0)) {
    if (found.length >= MOST) throw new RangeError("A receive queue without an end");
    found.push(memory.packet(next));
  }
  return found;
}
