/**
 * Connections that a listening socket holds and its application has not accepted. No system call can make one; but the kernel
 * lets a traffic program vouch for the last packet of a handshake (`bpf_sk_assign_tcp_reqsk`, kernel 6.9, made for SYN
 * cookies). So that packet is made here, sent over loopback with a mark, and vouched for with the numbers of the old
 * handshake: the connection then waits in the accept queue as it did before.
 */
import {
  attachTraffic,
  createArrayMap,
  detachTraffic,
  type Instruction,
  loadTrafficProgram,
  TCX,
  writeMap,
} from "../../kernel/bpf.ts";
import { kernelFunctionId } from "../../kernel/btf.ts";
import { closeDescriptor } from "../../kernel/calls.ts";
import { interfaceIndex } from "../../kernel/link.ts";
import { AF_INET } from "../../kernel/socket.ts";
import { inject, isMapped, SEGMENT } from "./inject.ts";

/** A handshake as both ends' first packets told it. */
export interface Handshake {
  family: number;
  /** sockaddr of the client, and of the application. */
  client: Buffer;
  server: Buffer;
  clientSequence: number;
  serverSequence: number;
  mss: number;
  /** −1 when window scaling was not agreed on. */
  clientScale: number;
  serverScale: number;
  selectiveAcknowledgement: boolean;
  /** Timestamp clocks of both, when agreed on. */
  clientTimestamp?: number;
  serverTimestamp?: number;
}

const LIMIT = 1024;
const MARK = 0x75510000;
const MARK_MASK = 0xffff0000;
const VALUE_BYTES = 72;
const TUPLE_AT = 8;
const ATTRIBUTES_AT = 48;
const ATTRIBUTES_BYTES = 20;
const HELPER = { mapLookup: 1, release: 86, lookupTcp: 99, toTcpSocket: 137 } as const;
const PSEUDO_MAP_FD = 1;
const PSEUDO_KERNEL_FUNCTION = 2;
const SKB_MARK = 8;
const TCX_NEXT = -1;
const TCX_DROP = 2;

let functionId: number | undefined;

/** Looked up once, some 50 ms: a standby does so before it is needed. Throws when this kernel has none. */
export function vouchingFunction(): number {
  functionId ??= kernelFunctionId("bpf_sk_assign_tcp_reqsk");
  return functionId;
}

/** r6 = packet, r7 = what is known of its handshake, r8 = the listening socket. */
function program(mapFd: number, functionId: number): Instruction[] {
  const before: Instruction[] = [
    [0xbf, 6, 1, 0, 0],
    [0x61, 1, 6, SKB_MARK, 0],
    [0xbc, 2, 1, 0, 0],
    [0x54, 2, 0, 0, MARK_MASK],
    [0x56, 2, 0, 0, MARK], // → pass
    [0x54, 1, 0, 0, 0xffff],
    [0x63, 10, 1, -4, 0],
    [0xbf, 2, 10, 0, 0],
    [0x07, 2, 0, 0, -4],
    [0x18, 1, PSEUDO_MAP_FD, 0, mapFd],
    [0, 0, 0, 0, 0],
    [0x85, 0, 0, 0, HELPER.mapLookup],
    [0x15, 0, 0, 0, 0], // → drop
    [0xbf, 7, 0, 0, 0],
    [0xbf, 1, 6, 0, 0],
    [0xbf, 2, 7, 0, 0],
    [0x07, 2, 0, 0, TUPLE_AT],
    [0xb7, 3, 0, 0, 12],
    [0x61, 5, 7, 0, 0],
    [0x15, 5, 0, 1, AF_INET],
    [0xb7, 3, 0, 0, 36],
    [0xb7, 4, 0, 0, -1],
    [0xb7, 5, 0, 0, 0],
    [0x85, 0, 0, 0, HELPER.lookupTcp],
    [0x15, 0, 0, 0, 0], // → drop
    [0xbf, 8, 0, 0, 0],
    [0xbf, 1, 0, 0, 0],
    [0x85, 0, 0, 0, HELPER.toTcpSocket],
    [0xb7, 9, 0, 0, 1],
    [0x15, 0, 0, 7, 0],
    [0xbf, 1, 6, 0, 0],
    [0xbf, 2, 0, 0, 0],
    [0xbf, 3, 7, 0, 0],
    [0x07, 3, 0, 0, ATTRIBUTES_AT],
    [0xb7, 4, 0, 0, ATTRIBUTES_BYTES],
    [0x85, 0, PSEUDO_KERNEL_FUNCTION, 0, functionId],
    [0xbf, 9, 0, 0, 0],
    [0xbf, 1, 8, 0, 0],
    [0x85, 0, 0, 0, HELPER.release],
    [0x55, 9, 0, 0, 0], // → drop
  ];
  const pass: Instruction[] = [
    [0xb7, 0, 0, 0, TCX_NEXT],
    [0x95, 0, 0, 0, 0],
  ];
  const drop: Instruction[] = [
    [0xb7, 0, 0, 0, TCX_DROP],
    [0x95, 0, 0, 0, 0],
  ];
  const passAt = before.length;
  const dropAt = passAt + pass.length;
  // Jumps with offset 0 are those to the two ends.
  const resolved = before.map(([code, to, from, offset, constant], i): Instruction => {
    const jumps = (code & 7) === 5 || (code & 7) === 6;
    if (!jumps || code === 0x85 || offset !== 0) return [code, to, from, offset, constant];
    return [code, to, from, (code === 0x56 ? passAt : dropAt) - i - 1, constant];
  });
  return [...resolved, ...pass, ...drop];
}

/** What the program reads for one handshake: family, the listening socket's address pair, what was agreed on. */
function value(handshake: Handshake): Buffer {
  const { client, server, clientTimestamp, serverTimestamp } = handshake;
  const v4 = handshake.family === AF_INET || isMapped(client);
  const out = Buffer.alloc(VALUE_BYTES);
  out.writeUInt32LE(v4 ? AF_INET : 10, 0);
  const addressBytes = v4 ? 4 : 16;
  const address = (from: Buffer) => (from.length === 28 ? from.subarray(v4 ? 20 : 8, 24) : from.subarray(4, 8));
  address(client).copy(out, TUPLE_AT);
  address(server).copy(out, TUPLE_AT + addressBytes);
  client.copy(out, TUPLE_AT + 2 * addressBytes, 2, 4);
  server.copy(out, TUPLE_AT + 2 * addressBytes + 2, 2, 4);
  const scaled = handshake.clientScale >= 0 && handshake.serverScale >= 0;
  const stamped = clientTimestamp !== undefined && serverTimestamp !== undefined;
  out.writeUInt32LE(clientTimestamp ?? 0, ATTRIBUTES_AT);
  out.writeUInt32LE(serverTimestamp ?? 0, ATTRIBUTES_AT + 4);
  out.writeUInt16LE(handshake.mss, ATTRIBUTES_AT + 8);
  out.writeUInt8(scaled ? handshake.serverScale : 0, ATTRIBUTES_AT + 10);
  out.writeUInt8(scaled ? handshake.clientScale : 0, ATTRIBUTES_AT + 11);
  out.writeUInt8(scaled ? 1 : 0, ATTRIBUTES_AT + 13);
  out.writeUInt8(handshake.selectiveAcknowledgement ? 1 : 0, ATTRIBUTES_AT + 14);
  out.writeUInt8(stamped ? 1 : 0, ATTRIBUTES_AT + 15);
  return out;
}

/**
 * Puts connections into the accept queues of the listening sockets they belong to. In the application's network namespace,
 * after its listening sockets were made. Returns how many were tried; throws when this kernel cannot.
 */
export function reviveUnaccepted(handshakes: readonly Handshake[]): number {
  if (handshakes.length === 0) return 0;
  const some = handshakes.slice(0, LIMIT);
  const mapFd = createArrayMap(VALUE_BYTES, some.length);
  const loopback = interfaceIndex("lo")!;
  const programFd = loadTrafficProgram("understudy_ack", program(mapFd, vouchingFunction()));
  try {
    attachTraffic(loopback, TCX.ingress, programFd);
    const key = Buffer.alloc(4);
    some.forEach((handshake, i) => {
      key.writeUInt32LE(i);
      writeMap(mapFd, key, value(handshake));
      inject({
        family: handshake.family,
        source: handshake.client,
        destination: handshake.server,
        sequence: handshake.clientSequence + 1,
        acknowledgement: handshake.serverSequence + 1,
        flags: SEGMENT.acknowledge,
        mark: MARK | i,
      });
    });
    return some.length;
  } finally {
    detachTraffic(loopback, TCX.ingress, programFd);
    closeDescriptor(programFd);
    closeDescriptor(mapFd);
  }
}

/**
 * Says to the clients of revived connections once more what may never have left the old node: the answer to their first
 * packet. One that waits for it goes on; one that has had it ignores it. In the application's network namespace, at life.
 */
export function repeatAnswers(handshakes: readonly Handshake[]): void {
  for (const handshake of handshakes.slice(0, LIMIT)) {
    inject({
      family: handshake.family,
      source: handshake.server,
      destination: handshake.client,
      sequence: handshake.serverSequence,
      acknowledgement: handshake.clientSequence + 1,
      flags: SEGMENT.syn | SEGMENT.acknowledge,
      options: answerOptions(handshake),
    });
  }
}

function answerOptions({ mss, selectiveAcknowledgement, serverScale, clientScale, ...stamps }: Handshake): Buffer {
  const { clientTimestamp, serverTimestamp } = stamps;
  const size = Buffer.from([2, 4, mss >> 8, mss & 0xff]);
  const selective = Buffer.from(selectiveAcknowledgement ? [1, 1, 4, 2] : []);
  const scale = Buffer.from(serverScale >= 0 && clientScale >= 0 ? [1, 3, 3, serverScale] : []);
  if (clientTimestamp === undefined || serverTimestamp === undefined) return Buffer.concat([size, selective, scale]);
  const stamped = Buffer.from([1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0]);
  stamped.writeUInt32BE(serverTimestamp >>> 0, 4);
  stamped.writeUInt32BE(clientTimestamp >>> 0, 8);
  return Buffer.concat([size, selective, stamped, scale]);
}
