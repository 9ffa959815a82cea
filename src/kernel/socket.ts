/** Sockets as the kernel has them: numbers, raw calls, socket addresses. Calls return −errno unless they say that they throw. */
import { isIPv4, type Socket } from "node:net";
import { type Argument, addon } from "./addon.ts";
import { checked } from "./errors.ts";
import { NR } from "./numbers.ts";

export const AF_INET = 2;
export const AF_INET6 = 10;
export const AF_NETLINK = 16;
export const AF_PACKET = 17;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;
export const MSG_DONTWAIT = 0x40;
export const MSG_NOSIGNAL = 0x4000;

export const SOL_SOCKET = 1;
export const SOL_IP = 0;
export const SOL_TCP = 6;
export const SOL_IPV6 = 41;
export const SOL_PACKET = 263;
export const SOL_NETLINK = 270;

/** SOL_SOCKET options (include/uapi/asm-generic/socket.h). */
export const SO = {
  reuseAddress: 2,
  error: 4,
  sendBuffer: 7,
  receiveBuffer: 8,
  keepAlive: 9,
  oobInline: 10,
  priority: 12,
  linger: 13,
  reusePort: 15,
  receiveLowWater: 18,
  receiveTimeout: 20,
  sendTimeout: 21,
  attachFilter: 26,
  sendBufferForce: 32,
  receiveBufferForce: 33,
  mark: 36,
  domain: 39,
  bindToIfindex: 62,
  bufferLock: 72,
} as const;

/** SOL_TCP options (include/uapi/linux/tcp.h). */
export const TCP = {
  noDelay: 1,
  maxSegment: 2,
  cork: 3,
  keepIdle: 4,
  keepInterval: 5,
  keepCount: 6,
  synCount: 7,
  linger2: 8,
  deferAccept: 9,
  windowClamp: 10,
  quickAck: 12,
  congestion: 13,
  userTimeout: 18,
  repair: 19,
  repairQueue: 20,
  queueSequence: 21,
  repairOptions: 22,
  fastOpen: 23,
  timestamp: 24,
  notSentLowWater: 25,
  repairWindow: 29,
} as const;

/** The descriptor of one of Node's sockets; undefined when it is closed. */
export function descriptorOf(socket: Socket): number | undefined {
  const fd = (socket as unknown as { _handle?: { fd?: number } | null })._handle?.fd;
  return fd === undefined || fd < 0 ? undefined : fd;
}

export function socket(family: number, type: number, protocol = 0): number {
  return checked(
    addon.syscall(NR.socket, family, type | SOCK_CLOEXEC, protocol),
    "socket",
    `${family}, ${type}, ${protocol}`,
  );
}

export function closeSocket(fd: number): void {
  if (fd >= 0) addon.syscall(NR.close, fd);
}

/** The owner that the kernel compares for SO_REUSEPORT and shows in /proc/net. */
export function setSocketOwner(fd: number, uid: number, gid: number): void {
  checked(addon.syscall(NR.fchown, fd, uid, gid), "fchown", `${uid}, ${gid}`);
}

export function bind(fd: number, address: Buffer): number {
  return addon.syscall(NR.bind, fd, address, address.length);
}

export function connect(fd: number, address: Buffer): number {
  return addon.syscall(NR.connect, fd, address, address.length);
}

export function listen(fd: number, backlog: number): number {
  return addon.syscall(NR.listen, fd, backlog);
}

/** A descriptor, or −errno; waits unless the listening socket is non-blocking. */
export function accept(fd: number): number {
  return addon.syscall(NR.accept4, fd, null, null, SOCK_CLOEXEC);
}

/** Address and port that a socket has, as `socketAddress` makes them. */
export function boundAddress(fd: number): Buffer {
  const address = Buffer.alloc(28);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(address.length);
  checked(addon.syscall(NR.getsockname, fd, address, length), "getsockname", fd);
  return address.subarray(0, length.readUInt32LE());
}

export function shutdown(fd: number, how: number): number {
  return addon.syscall(NR.shutdown, fd, how);
}

export function send(fd: number, data: Buffer, flags: number, to: Buffer | null = null): number {
  return addon.syscall(NR.sendto, fd, data, data.length, flags, to, to === null ? 0 : to.length);
}

export function receive(fd: number, into: Buffer, flags: number): number {
  return addon.syscall(NR.recvfrom, fd, into, into.length, flags, null, null);
}

/** setsockopt with any value: a number is passed as a C int. */
export function setOption(fd: number, level: number, option: number, value: number | Buffer): number {
  if (typeof value !== "number") return addon.syscall(NR.setsockopt, fd, level, option, value, value.length);
  integer.writeInt32LE(value | 0);
  return addon.syscall(NR.setsockopt, fd, level, option, integer, 4);
}

/** getsockopt of a C int; throws. */
export function getOption(fd: number, level: number, option: number): number {
  integerLength.writeInt32LE(4);
  const result: Argument = addon.syscall(NR.getsockopt, fd, level, option, integer, integerLength);
  checked(result, "getsockopt", `${level}, ${option}`);
  return integer.readInt32LE();
}

const integer = Buffer.alloc(4);
const integerLength = Buffer.alloc(4);

/** A sockaddr_in or sockaddr_in6. `scope` is the interface index of a link-local IPv6 address. */
export function socketAddress(address: string, port: number, scope = 0): Buffer {
  if (isIPv4(address)) {
    const out = Buffer.alloc(16);
    out.writeUInt16LE(AF_INET, 0);
    out.writeUInt16BE(port, 2);
    addressBytes(address).copy(out, 4);
    return out;
  }
  const out = Buffer.alloc(28);
  out.writeUInt16LE(AF_INET6, 0);
  out.writeUInt16BE(port, 2);
  addressBytes(address).copy(out, 8);
  out.writeUInt32LE(scope, 24);
  return out;
}

/** The 4 or 16 bytes of an IP address in network order. */
export function addressBytes(address: string): Buffer {
  if (isIPv4(address)) return Buffer.from(address.split(".").map(Number));
  const [head = "", tail] = address.split("%")[0]!.split("::");
  const words = (part: string): number[] =>
    part === ""
      ? []
      : part.split(":").flatMap((word) => {
          if (!word.includes(".")) return [Number.parseInt(word, 16)];
          const v4 = addressBytes(word);
          return [v4.readUInt16BE(0), v4.readUInt16BE(2)];
        });
  const first = words(head);
  const last = tail === undefined ? [] : words(tail);
  const out = Buffer.alloc(16);
  first.forEach((word, i) => {
    out.writeUInt16BE(word, i * 2);
  });
  last.forEach((word, i) => {
    out.writeUInt16BE(word, 16 - (last.length - i) * 2);
  });
  return out;
}

const SO_PEERCRED = 17;
const SO_PEERGROUPS = 59;
const MOST_GROUPS = 65536;

export interface PeerCredentials {
  pid: number;
  uid: number;
  /** Its own first, then the supplementary ones. */
  gids: number[];
}

/** Who is at the other end of a unix socket, as of its connect(2): unix(7); SO_PEERGROUPS since kernel 4.13. */
export function peerCredentials(fd: number): PeerCredentials {
  const [pid, uid, gid] = option32s(fd, SOL_SOCKET, SO_PEERCRED, 3);
  const groups = option32s(fd, SOL_SOCKET, SO_PEERGROUPS, MOST_GROUPS);
  return { pid: pid!, uid: uid!, gids: [gid!, ...groups] };
}

/** An option that is an array of 32-bit numbers, at most so many. Throws SystemCallError. */
export function option32s(fd: number, level: number, option: number, most: number): number[] {
  const out = Buffer.alloc(4 * most);
  const length = Buffer.alloc(4);
  length.writeInt32LE(out.length);
  checked(addon.syscall(NR.getsockopt, fd, level, option, out, length), "getsockopt", `${level}, ${option}`);
  return Array.from({ length: length.readInt32LE() / 4 }, (_, index) => out.readUInt32LE(4 * index));
}
