/** What the kernel tells of all unix sockets of a network namespace at once (sock_diag(7), family AF_UNIX). */

import { closeDescriptor } from "../../kernel/calls.ts";
import { inNamespace, openNamespace } from "../../kernel/namespace.ts";
import { attributes, NETLINK_SOCK_DIAG, Netlink, NLM_F } from "../../kernel/netlink.ts";

const SOCK_DIAG_BY_FAMILY = 20;
const REQUEST_BYTES = 24;
const MESSAGE_BYTES = 16;
const AF_UNIX = 1;
const SHOW = { vfs: 2, peer: 4, waiting: 8, queues: 0x10 };
const ATTRIBUTE = { vfs: 1, peer: 2, waiting: 3, queues: 4, shutdown: 6 };
export const LISTENING = 10;

export interface UnixDiagnosis {
  inode: number;
  /** SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET. */
  type: number;
  /** TCP's numbers: 1 established, 7 closed, 10 listening. */
  state: number;
  /** Inode and device (as the kernel keeps it) of the file that it is bound to. */
  file: [inode: number, device: number] | undefined;
  /** Inode; 0: a peer that is closed or not accepted yet. */
  peer: number | undefined;
  /** Of a listening socket: the inodes of those who wait, in order. */
  waiting: number[];
  receiveQueue: number;
  /** Of a listening socket: its backlog. */
  sendQueue: number;
  /** 1: nothing is received any more, 2: nothing is sent. */
  shutdown: number;
}

function parse(body: Buffer): UnixDiagnosis {
  const found = attributes(body, MESSAGE_BYTES);
  const file = found.get(ATTRIBUTE.vfs);
  const waiting = found.get(ATTRIBUTE.waiting);
  const queues = found.get(ATTRIBUTE.queues);
  return {
    inode: body.readUInt32LE(4),
    type: body[1]!,
    state: body[2]!,
    file: file && [file.readUInt32LE(0), file.readUInt32LE(4)],
    peer: found.get(ATTRIBUTE.peer)?.readUInt32LE(0),
    waiting: waiting ? Array.from({ length: waiting.length / 4 }, (_, i) => waiting.readUInt32LE(4 * i)) : [],
    receiveQueue: queues?.readUInt32LE(0) ?? 0,
    sendQueue: queues?.readUInt32LE(4) ?? 0,
    shutdown: found.get(ATTRIBUTE.shutdown)?.[0] ?? 0,
  };
}

/** By inode, all of the network namespace that process `pid` is in. */
export function diagnoseUnix(pid: number): Map<number, UnixDiagnosis> {
  const namespace = openNamespace(`/proc/${pid}/ns/net`);
  try {
    return inNamespace(namespace, () => {
      using netlink = new Netlink(NETLINK_SOCK_DIAG);
      const request = Buffer.alloc(REQUEST_BYTES);
      request[0] = AF_UNIX;
      request.writeUInt32LE(0xffffffff, 4);
      request.writeUInt32LE(SHOW.vfs | SHOW.peer | SHOW.waiting | SHOW.queues, 12);
      const answers = netlink.request("unix sockets", SOCK_DIAG_BY_FAMILY, NLM_F.dump, request);
      return new Map(answers.map(({ body }) => parse(body)).map((diagnosis) => [diagnosis.inode, diagnosis]));
    });
  } finally {
    closeDescriptor(namespace);
  }
}
