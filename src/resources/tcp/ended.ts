/**
 * A socket whose connection both sides have ended, or that was reset: what came before can be read, then the end or the error.
 * The kernel has forgotten all else of it, so any connection will do that goes the same way: one over loopback.
 */
import { checked } from "../../kernel/errors.ts";
import {
  AF_INET,
  accept,
  bind,
  boundAddress,
  closeSocket,
  connect,
  getOption,
  listen,
  MSG_NOSIGNAL,
  SO,
  SOCK_STREAM,
  SOL_SOCKET,
  send,
  setOption,
  shutdown,
  socket,
  socketAddress,
} from "../../kernel/socket.ts";

const SHUT_WR = 1;
const SECONDS = 5;

/** In the application's network namespace, with `lo` up. */
export function endOverLoopback(fd: number, received: Buffer, isReset: boolean): void {
  const family = getOption(fd, SOL_SOCKET, SO.domain);
  const listener = socket(family, SOCK_STREAM);
  try {
    must(bind(listener, socketAddress(family === AF_INET ? "127.0.0.1" : "::1", 0)), "bind");
    must(listen(listener, 1), "listen");
    const result = connect(fd, boundAddress(listener));
    const IN_PROGRESS = -115;
    if (result !== IN_PROGRESS) must(result, "connect");
    const peer = must(accept(listener), "accept");
    try {
      play(fd, peer, received, isReset);
    } finally {
      closeSocket(peer);
    }
  } finally {
    closeSocket(listener);
  }
}

/** The peer's part: all it has to say, then its end. */
function play(fd: number, peer: number, received: Buffer, isReset: boolean): void {
  const limit = Buffer.alloc(16);
  limit.writeBigInt64LE(BigInt(SECONDS), 0);
  must(setOption(peer, SOL_SOCKET, SO.sendTimeout, limit), "setsockopt(SO_SNDTIMEO)");
  for (let at = 0; at < received.length; )
    at += must(send(peer, received.subarray(at), MSG_NOSIGNAL), "send of what was received");
  if (isReset) {
    const atOnce = Buffer.alloc(8);
    atOnce.writeInt32LE(1, 0);
    must(setOption(peer, SOL_SOCKET, SO.linger, atOnce), "setsockopt(SO_LINGER)");
    return;
  }
  must(shutdown(peer, SHUT_WR), "shutdown");
  must(shutdown(fd, SHUT_WR), "shutdown");
}

function must(result: number, what: string): number {
  return checked(result, what);
}
