/** Network interfaces: index by name, and frames sent or tapped on one. */
import { addon } from "./addon.ts";
import { tryCall } from "./calls.ts";
import { checked } from "./errors.ts";
import {
  AF_INET,
  AF_PACKET,
  bind,
  closeSocket,
  MSG_DONTWAIT,
  receive,
  SO,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOL_PACKET,
  SOL_SOCKET,
  send,
  setOption,
  socket,
} from "./socket.ts";

const SIOCGIFINDEX = 0x8933;
const PACKET_VNET_HEADER = 15;
const PACKET_IGNORE_OUTGOING = 23;
const ETH_P_ALL = 3;
const TAP_BYTES = 64 << 20;

/** Index of an interface of the calling thread's network namespace; undefined when there is none of that name. */
export function interfaceIndex(name: string): number | undefined {
  const fd = socket(AF_INET, SOCK_DGRAM);
  const request = Buffer.alloc(40);
  request.write(name.slice(0, 15), 0, "latin1");
  const result = tryCall("ioctl", fd, SIOCGIFINDEX, request);
  closeSocket(fd);
  return result < 0 ? undefined : request.readInt32LE(16);
}

/** Sets an interface of the calling thread's network namespace up; no error when it is already. */
export function bringUp(name: string): void {
  const SIOCGIFFLAGS = 0x8913;
  const SIOCSIFFLAGS = 0x8914;
  const IFF_UP = 1;
  const fd = socket(AF_INET, SOCK_DGRAM);
  const request = Buffer.alloc(40);
  request.write(name.slice(0, 15), 0, "latin1");
  try {
    checked(tryCall("ioctl", fd, SIOCGIFFLAGS, request), "ioctl(SIOCGIFFLAGS)", name);
    const flags = request.readInt16LE(16);
    if (flags & IFF_UP) return;
    request.writeInt16LE(flags | IFF_UP, 16);
    checked(tryCall("ioctl", fd, SIOCSIFFLAGS, request), "ioctl(SIOCSIFFLAGS)", name);
  } finally {
    closeSocket(fd);
  }
}

function linkAddress(index: number, protocol: number): Buffer {
  const address = Buffer.alloc(20);
  address.writeUInt16LE(AF_PACKET, 0);
  address.writeUInt16BE(protocol, 2);
  address.writeInt32LE(index, 4);
  return address;
}

/** Sends whole Ethernet frames on one interface. Belongs to the namespace it was made in, wherever it is used from. */
export class FrameSender {
  readonly fd: number;

  /** @param withHeader each frame is preceded by a virtio_net_hdr (offloads kept), as a `FrameTap` gives it */
  constructor(index: number, withHeader = false) {
    this.fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK);
    if (withHeader) checked(setOption(this.fd, SOL_PACKET, PACKET_VNET_HEADER, 1), "setsockopt", "PACKET_VNET_HDR");
    checked(bind(this.fd, linkAddress(index, 0)), "bind", `interface ${index}`);
  }

  send(frame: Buffer): void {
    checked(send(this.fd, frame, MSG_DONTWAIT), "send", `frame of ${frame.length} bytes`);
  }

  close(): void {
    closeSocket(this.fd);
  }
}

/** Sees the first packets of TCP connections on an interface, both ways. */
export class SynTap {
  readonly fd: number;
  readonly #buffer = Buffer.alloc(256);

  constructor(index: number) {
    this.fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK);
    attachFilter(this.fd, SYN_ONLY);
    checked(bind(this.fd, linkAddress(index, ETH_P_ALL)), "bind", "tap");
  }

  /** The next frame's beginning, valid until the next call; undefined when there is none. */
  next(): Buffer | undefined {
    const length = receive(this.fd, this.#buffer, MSG_DONTWAIT);
    return length < 0 ? undefined : this.#buffer.subarray(0, length);
  }

  close(): void {
    closeSocket(this.fd);
  }
}

/** Classic BPF: IPv4 and IPv6 TCP segments with SYN, 160 bytes of each. */
const SYN_ONLY = filter([
  [0x28, 0, 0, 12],
  [0x15, 0, 7, 0x0800],
  [0x30, 0, 0, 23],
  [0x15, 0, 11, 6],
  [0x28, 0, 0, 20],
  [0x45, 9, 0, 0x1fff],
  [0xb1, 0, 0, 14],
  [0x50, 0, 0, 27],
  [0x45, 5, 6, 2],
  [0x15, 0, 5, 0x86dd],
  [0x30, 0, 0, 20],
  [0x15, 0, 3, 6],
  [0x30, 0, 0, 67],
  [0x45, 0, 1, 2],
  [0x06, 0, 0, 160],
  [0x06, 0, 0, 0],
]);

/** Classic BPF: IPv4 and IPv6 frames wholly, nothing else. */
const INTERNET_ONLY = filter([
  [0x28, 0, 0, 12],
  [0x15, 1, 0, 0x0800],
  [0x15, 0, 1, 0x86dd],
  [0x06, 0, 0, 0xffffffff],
  [0x06, 0, 0, 0],
]);
const NOTHING = filter([[0x06, 0, 0, 0]]);

function filter(lines: [code: number, ifTrue: number, ifFalse: number, constant: number][]): Buffer {
  const out = Buffer.alloc(lines.length * 8);
  lines.forEach(([code, ifTrue, ifFalse, constant], i) => {
    out.writeUInt16LE(code, i * 8);
    out.writeUInt8(ifTrue, i * 8 + 2);
    out.writeUInt8(ifFalse, i * 8 + 3);
    out.writeUInt32LE(constant, i * 8 + 4);
  });
  return out;
}

function attachFilter(fd: number, program: Buffer): void {
  const attached = Buffer.alloc(16);
  attached.writeUInt16LE(program.length / 8, 0);
  attached.writeBigUInt64LE(BigInt(addon.addressOf(program)), 8);
  checked(setOption(fd, SOL_SOCKET, SO.attachFilter, attached), "setsockopt", "SO_ATTACH_FILTER");
}

/** Keeps the IP packets that arrive on an interface, in the kernel, until they are sent on. */
export class FrameTap {
  readonly #fd: number;
  readonly #index: number;

  /** Made in the interface's namespace; keeps nothing before `start`. */
  constructor(index: number) {
    this.#index = index;
    this.#fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK);
    checked(setOption(this.#fd, SOL_PACKET, PACKET_VNET_HEADER, 1), "setsockopt", "PACKET_VNET_HDR");
    checked(setOption(this.#fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1), "setsockopt", "PACKET_IGNORE_OUTGOING");
    checked(setOption(this.#fd, SOL_SOCKET, SO.receiveBufferForce, TAP_BYTES), "setsockopt", "SO_RCVBUFFORCE");
    attachFilter(this.#fd, INTERNET_ONLY);
  }

  start(): void {
    checked(bind(this.#fd, linkAddress(this.#index, ETH_P_ALL)), "bind", "tap");
  }

  /** Sends what was kept, in order; returns how many frames. May be called again. */
  sendOn(sender: FrameSender): number {
    return checked(addon.forwardFrames(this.#fd, sender.fd), "forwardFrames");
  }

  /** Keeps no more (at once; `close` would wait for a grace period of the kernel). */
  stop(): void {
    attachFilter(this.#fd, NOTHING);
  }

  close(): void {
    closeSocket(this.#fd);
  }
}
