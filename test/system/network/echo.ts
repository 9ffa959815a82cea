/** An application in this process, so that a test can stop it between any two steps and move its memory by hand. */
import { tryCall } from "../../../src/kernel/calls.ts";
import {
  AF_INET,
  AF_INET6,
  bind,
  closeSocket,
  listen,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  receive,
  SO,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
  send,
  setOption,
  socket,
  socketAddress,
} from "../../../src/kernel/socket.ts";

const EAGAIN = -11;

/** In the namespace of the calling thread. */
export function listenOn(address: string, port: number): number {
  const fd = socket(address.includes(":") ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
  setOption(fd, SOL_SOCKET, SO.reuseAddress, 1);
  if (bind(fd, socketAddress(address, port)) < 0 || listen(fd, 64) < 0) throw new Error("listen failed");
  return fd;
}

export function accept(fd: number): number {
  return tryCall("accept4", fd, null, null, SOCK_NONBLOCK);
}

/** The "memory" of one connection: what it read and has not written yet. */
export class Echo {
  fd: number;
  pending = Buffer.alloc(0);
  ended = false;
  readonly #buffer = Buffer.alloc(1 << 16);

  constructor(fd: number) {
    this.fd = fd;
  }

  /** Reads and writes what is possible without waiting. */
  step(): boolean {
    let moved = false;
    for (let i = 0; i < 16; i++) {
      if (this.pending.length === 0) {
        const n = receive(this.fd, this.#buffer, MSG_DONTWAIT);
        if (n === 0) this.ended = true;
        if (n <= 0) return moved;
        this.pending = Buffer.from(this.#buffer.subarray(0, n));
        for (let at = 0; at < n; at++) this.pending[at]! ^= 0x5a;
      }
      const n = send(this.fd, this.pending, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n === EAGAIN) return moved;
      if (n < 0) throw new Error(`send: ${n}`);
      this.pending = this.pending.subarray(n);
      moved = true;
    }
    return moved;
  }

  close(): void {
    closeSocket(this.fd);
    this.fd = -1;
  }
}
