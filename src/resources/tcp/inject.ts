/**
 * Segments given to the application's own kernel as if its peer had sent them, over a raw socket of its network namespace:
 * the only way to put a restored socket into a state that begins with the peer's FIN or RST.
 */
import { checksum } from "../../kernel/checksum.ts";
import { checked } from "../../kernel/errors.ts";
import {
  AF_INET,
  AF_INET6,
  closeSocket,
  SO,
  SOCK_RAW,
  SOL_SOCKET,
  send,
  setOption,
  socket,
} from "../../kernel/socket.ts";
import type { TcpRecord } from "./record.ts";

const IPPROTO_RAW = 255;
const IPPROTO_TCP = 6;
/** Offset of snd_wnd in struct tcp_repair_window. */
const SEND_WINDOW = 4;
export const SEGMENT = { fin: 1, syn: 2, reset: 4, push: 8, acknowledge: 16 } as const;

export interface Segment {
  family: number;
  /** sockaddr of the peer (source) and of the application (destination). */
  source: Buffer;
  destination: Buffer;
  sequence: number;
  acknowledgement: number;
  flags: number;
  window?: number;
  options?: Buffer;
  payload?: Buffer;
  /** SO_MARK of the packet. */
  mark?: number;
}

/** The peer's FIN, right behind what was received. */
export function injectFin(record: TcpRecord): void {
  inject(fromPeer(record, SEGMENT.fin | SEGMENT.acknowledge, record.receiveEnd));
}

/** The peer's FIN, which acknowledges the application's own: the connection is in TIME_WAIT by that, and answers repetitions. */
export function injectLastFin(record: TcpRecord): void {
  const segment = fromPeer(record, SEGMENT.fin | SEGMENT.acknowledge, record.receiveEnd);
  inject({ ...segment, acknowledgement: (record.sendEnd + 1) >>> 0 });
}

/** The peer's RST. */
export function injectReset(record: TcpRecord): void {
  const fin = record.flags & 1;
  inject(fromPeer(record, SEGMENT.reset | SEGMENT.acknowledge, record.receiveEnd + fin));
}

function fromPeer(record: TcpRecord, flags: number, sequence: number): Segment {
  return {
    family: record.family,
    source: record.remote,
    destination: record.local,
    sequence: sequence >>> 0,
    acknowledgement: record.sendStart,
    flags,
    // The window that the peer last told: another would let more leave than it can take.
    window: Math.min(0xffff, record.window.readUInt32LE(SEND_WINDOW) >>> record.sendScale),
  };
}

/** In the namespace of the calling thread. */
export function inject(segment: Segment): void {
  const v4 = segment.family === AF_INET || isMapped(segment.source);
  const fd = socket(v4 ? AF_INET : AF_INET6, SOCK_RAW, IPPROTO_RAW);
  try {
    if (segment.mark !== undefined) checked(setOption(fd, SOL_SOCKET, SO.mark, segment.mark), "setsockopt", "SO_MARK");
    const source = v4 ? address4(segment.source) : segment.source.subarray(8, 24);
    const destination = v4 ? address4(segment.destination) : segment.destination.subarray(8, 24);
    const tcp = tcpBytes(segment, source, destination);
    const packet = Buffer.concat([
      v4 ? header4(source, destination, tcp.length) : header6(source, destination, tcp.length),
      tcp,
    ]);
    checked(send(fd, packet, 0, target(v4, destination)), "sendto", "raw segment");
  } finally {
    closeSocket(fd);
  }
}

const MAPPED_PREFIX = Buffer.from("00000000000000000000ffff", "hex");

export function isMapped(address: Buffer): boolean {
  return address.length === 28 && address.subarray(8, 20).equals(MAPPED_PREFIX);
}

export function address4(address: Buffer): Buffer {
  return address.length === 28 ? address.subarray(20, 24) : address.subarray(4, 8);
}

function target(v4: boolean, destination: Buffer): Buffer {
  const out = Buffer.alloc(v4 ? 16 : 28);
  out.writeUInt16LE(v4 ? AF_INET : AF_INET6, 0);
  destination.copy(out, v4 ? 4 : 8);
  return out;
}

function header4(source: Buffer, destination: Buffer, length: number): Buffer {
  const out = Buffer.alloc(20);
  out.writeUInt8(0x45, 0);
  out.writeUInt16BE(20 + length, 2);
  out.writeUInt8(64, 8);
  out.writeUInt8(IPPROTO_TCP, 9);
  source.copy(out, 12);
  destination.copy(out, 16);
  return out;
}

function header6(source: Buffer, destination: Buffer, length: number): Buffer {
  const out = Buffer.alloc(40);
  out.writeUInt8(0x60, 0);
  out.writeUInt16BE(length, 4);
  out.writeUInt8(IPPROTO_TCP, 6);
  out.writeUInt8(64, 7);
  source.copy(out, 8);
  destination.copy(out, 24);
  return out;
}

function tcpBytes(segment: Segment, source: Buffer, destination: Buffer): Buffer {
  const options = segment.options ?? Buffer.alloc(0);
  const payload = segment.payload ?? Buffer.alloc(0);
  const header = Buffer.alloc(20);
  segment.source.copy(header, 0, 2, 4);
  segment.destination.copy(header, 2, 2, 4);
  header.writeUInt32BE(segment.sequence >>> 0, 4);
  header.writeUInt32BE(segment.acknowledgement >>> 0, 8);
  header.writeUInt8(((20 + options.length) / 4) << 4, 12);
  header.writeUInt8(segment.flags, 13);
  header.writeUInt16BE(segment.window ?? 0xffff, 14);
  const out = Buffer.concat([header, options, payload]);
  const pseudo = Buffer.alloc(4);
  pseudo.writeUInt16BE(IPPROTO_TCP, 0);
  pseudo.writeUInt16BE(out.length, 2);
  out.writeUInt16BE(checksum(Buffer.concat([source, destination, pseudo, out])), 16);
  return out;
}
