/** Netlink: messages built and parsed in TypeScript, requests answered synchronously. */
import { checked, SystemCallError } from "./errors.ts";
import { AF_NETLINK, bind, closeSocket, receive, SO, SOCK_RAW, SOL_SOCKET, send, setOption, socket } from "./socket.ts";

export const NETLINK_ROUTE = 0;
export const NETLINK_SOCK_DIAG = 4;
export const NETLINK_NETFILTER = 12;

export const NLM_F = { request: 1, ack: 4, dump: 0x300, replace: 0x100, exclusive: 0x200, create: 0x400 } as const;

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
export const NLMSG_HEADER_BYTES = 16;
const ANSWER_BYTES = 1 << 17;

/** One attribute: 4-byte header, payload, padding to 4. */
export function attribute(type: number, payload: Buffer): Buffer {
  const out = Buffer.alloc((4 + payload.length + 3) & ~3);
  out.writeUInt16LE(4 + payload.length, 0);
  out.writeUInt16LE(type, 2);
  payload.copy(out, 4);
  return out;
}

const NLA_F_NESTED = 0x8000;

export function nested(type: number, ...attributes: Buffer[]): Buffer {
  return attribute(type | NLA_F_NESTED, Buffer.concat(attributes));
}

export function uint32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32LE(value >>> 0);
  return out;
}

/** Attributes of a message's body from `offset`, by type; views into `body`. */
export function attributes(body: Buffer, offset: number): Map<number, Buffer> {
  const out = new Map<number, Buffer>();
  for (let at = offset; at + 4 <= body.length; ) {
    const length = body.readUInt16LE(at);
    if (length < 4 || at + length > body.length) break;
    out.set(body.readUInt16LE(at + 2) & 0x3fff, body.subarray(at + 4, at + length));
    at += (length + 3) & ~3;
  }
  return out;
}

export interface NetlinkMessage {
  type: number;
  /** What follows the 16-byte header. */
  body: Buffer;
}

/** A netlink socket, bound in the network namespace of the moment it is made. */
export class Netlink {
  readonly fd: number;
  #sequence = 0;
  #buffer = Buffer.alloc(ANSWER_BYTES);

  constructor(protocol: number) {
    this.fd = socket(AF_NETLINK, SOCK_RAW, protocol);
    const address = Buffer.alloc(12);
    address.writeUInt16LE(AF_NETLINK, 0);
    checked(bind(this.fd, address), "bind", "netlink");
  }

  /** Sends without waiting for an answer. */
  post(type: number, flags: number, ...body: Buffer[]): number {
    const content = Buffer.concat(body);
    const message = Buffer.alloc(NLMSG_HEADER_BYTES + content.length);
    message.writeUInt32LE(message.length, 0);
    message.writeUInt16LE(type, 4);
    message.writeUInt16LE(flags | NLM_F.request, 6);
    message.writeUInt32LE(++this.#sequence, 8);
    content.copy(message, NLMSG_HEADER_BYTES);
    return send(this.fd, message, 0);
  }

  /** Sends, and waits for the acknowledgement or the end of the dump. Throws the kernel's error. */
  request(what: string, type: number, flags: number, ...body: Buffer[]): NetlinkMessage[] {
    checked(this.post(type, flags & NLM_F.dump ? flags : flags | NLM_F.ack, ...body), "netlink", what);
    const answers: NetlinkMessage[] = [];
    for (;;) {
      const length = checked(receive(this.fd, this.#buffer, 0), "netlink", what);
      for (let at = 0; at + NLMSG_HEADER_BYTES <= length; ) {
        const size = this.#buffer.readUInt32LE(at);
        const kind = this.#buffer.readUInt16LE(at + 4);
        if (this.#buffer.readUInt32LE(at + 8) === this.#sequence) {
          const body = this.#buffer.subarray(at + NLMSG_HEADER_BYTES, at + size);
          if (kind === NLMSG_ERROR) {
            const errno = body.readInt32LE(0);
            if (errno < 0) throw new SystemCallError("netlink", errno, what);
            return answers;
          }
          if (kind === NLMSG_DONE) return answers;
          answers.push({ type: kind, body: Buffer.from(body) });
        }
        at += (size + 3) & ~3;
      }
    }
  }

  /** Enlarges the socket's receive buffer beyond the system's limit. */
  setReceiveBuffer(bytes: number): void {
    checked(setOption(this.fd, SOL_SOCKET, SO.receiveBufferForce, bytes), "setsockopt", "SO_RCVBUFFORCE");
  }

  close(): void {
    closeSocket(this.fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
