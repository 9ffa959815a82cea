/** sendmsg and recvmsg: one message with its address, its descriptors and its sender's credentials (unix(7)). */

import { addon } from "./addon.ts";
import { closeDescriptor } from "./calls.ts";
import { NR } from "./numbers.ts";
import { SOL_SOCKET } from "./socket.ts";

const HEADER_BYTES = 56;
const NAME_BYTES = 128;
const CONTROL_BYTES = 4096;
const CONTROL_HEADER_BYTES = 16;
const SCM_RIGHTS = 1;
const SCM_CREDENTIALS = 2;
const SCM_PIDFD = 4;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;

export const MSG_PEEK = 2;
/** What came along was too much, or this process could not have more descriptors. */
export const MSG_CTRUNC = 8;
export const MSG_TRUNC = 0x20;

export interface Credentials {
  pid: number;
  uid: number;
  gid: number;
}

export interface ReceivedMessage {
  /** Bytes, or −errno. */
  result: number;
  flags: number;
  /** The sender's address; empty when it has none. */
  from: Buffer;
  /** Descriptors that came along: the caller's to close. */
  fds: number[];
  credentials: Credentials | undefined;
}

const header = Buffer.alloc(HEADER_BYTES);
const vector = Buffer.alloc(16);
const name = Buffer.alloc(NAME_BYTES);
const control = Buffer.alloc(CONTROL_BYTES);

function pointHeader(
  content: Buffer,
  nameBytes: number,
  nameAt: Buffer,
  controlAt: Buffer,
  controlBytes: number,
): void {
  header.fill(0);
  vector.writeBigUInt64LE(BigInt(content.length ? addon.addressOf(content) : 0), 0);
  vector.writeBigUInt64LE(BigInt(content.length), 8);
  if (nameBytes) {
    header.writeBigUInt64LE(BigInt(addon.addressOf(nameAt)), 0);
    header.writeUInt32LE(nameBytes, 8);
  }
  header.writeBigUInt64LE(BigInt(addon.addressOf(vector)), 16);
  header.writeBigUInt64LE(1n, 24);
  if (controlBytes) {
    header.writeBigUInt64LE(BigInt(addon.addressOf(controlAt)), 32);
    header.writeBigUInt64LE(BigInt(controlBytes), 40);
  }
}

/** Receives one message without waiting. `flags`: MSG_PEEK and the like; descriptors come as close-on-exec. */
export function receiveMessage(fd: number, into: Buffer, flags: number): ReceivedMessage {
  pointHeader(into, NAME_BYTES, name, control, CONTROL_BYTES);
  const result = addon.syscall(NR.recvmsg, fd, header, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  const received: ReceivedMessage = { result, flags: 0, from: Buffer.alloc(0), fds: [], credentials: undefined };
  if (result < 0) return received;
  received.flags = header.readInt32LE(48);
  received.from = Buffer.from(name.subarray(0, header.readUInt32LE(8)));
  const bytes = Number(header.readBigUInt64LE(40));
  for (let at = 0; at + CONTROL_HEADER_BYTES <= bytes; ) {
    const length = Number(control.readBigUInt64LE(at));
    if (length < CONTROL_HEADER_BYTES) break;
    takeControl(received, control.subarray(at, at + length));
    at += (length + 7) & ~7;
  }
  return received;
}

function takeControl(received: ReceivedMessage, part: Buffer): void {
  if (part.readInt32LE(8) !== SOL_SOCKET) return;
  const type = part.readInt32LE(12);
  const data = part.subarray(CONTROL_HEADER_BYTES);
  if (type === SCM_RIGHTS) for (let i = 0; i + 4 <= data.length; i += 4) received.fds.push(data.readInt32LE(i));
  else if (type === SCM_PIDFD) closeDescriptor(data.readInt32LE(0));
  else if (type === SCM_CREDENTIALS)
    received.credentials = { pid: data.readInt32LE(0), uid: data.readUInt32LE(4), gid: data.readUInt32LE(8) };
}

function controlOf(type: number, data: Buffer): Buffer {
  const out = Buffer.alloc((CONTROL_HEADER_BYTES + data.length + 7) & ~7);
  out.writeBigUInt64LE(BigInt(CONTROL_HEADER_BYTES + data.length), 0);
  out.writeInt32LE(SOL_SOCKET, 8);
  out.writeInt32LE(type, 12);
  data.copy(out, CONTROL_HEADER_BYTES);
  return out;
}

export interface MessageToSend {
  content: Buffer;
  /** A raw socket address; undefined: to whom the socket is connected. */
  to?: Buffer | undefined;
  fds?: number[];
  credentials?: Credentials | undefined;
}

/** Sends one message without waiting; bytes sent or −errno. */
export function sendMessage(fd: number, { content, to, fds = [], credentials }: MessageToSend): number {
  const parts: Buffer[] = [];
  if (credentials) {
    const data = Buffer.alloc(12);
    data.writeInt32LE(credentials.pid, 0);
    data.writeUInt32LE(credentials.uid, 4);
    data.writeUInt32LE(credentials.gid, 8);
    parts.push(controlOf(SCM_CREDENTIALS, data));
  }
  if (fds.length) parts.push(controlOf(SCM_RIGHTS, Buffer.from(Int32Array.from(fds).buffer)));
  const controls = Buffer.concat(parts);
  pointHeader(content, to?.length ?? 0, to ?? name, controls, controls.length);
  return addon.syscall(NR.sendmsg, fd, header, MSG_DONTWAIT | MSG_NOSIGNAL);
}
