/**
 * Makes the kernel learn the link addresses of peers (or of the gateway to them) before anything is sent to them: packets that
 * wait for an unknown link address beyond 200 KB are dropped, and a restored connection sends all it has at once.
 */
import { AF_INET, AF_INET6, closeSocket, MSG_DONTWAIT, SOCK_DGRAM, send, socket } from "../../kernel/socket.ts";
import { address4, isMapped } from "./inject.ts";
import { STATE } from "./record.ts";
import type { TcpState } from "./state.ts";

const DISCARD_PORT = 9;

/**
 * In the application's network namespace while its port is `collecting`: neighbour discovery passes, the empty datagrams that
 * provoke it do not.
 */
export function resolvePeers(states: Iterable<TcpState>): void {
  const targets = new Map<string, Buffer>();
  for (const { record } of states) {
    if (record.state === STATE.listen || record.state === STATE.closed) continue;
    const v4 = record.family === AF_INET || isMapped(record.remote);
    const address = v4 ? address4(record.remote) : record.remote.subarray(8, 24);
    const target = Buffer.alloc(v4 ? 16 : 28);
    target.writeUInt16LE(v4 ? AF_INET : AF_INET6, 0);
    target.writeUInt16BE(DISCARD_PORT, 2);
    address.copy(target, v4 ? 4 : 8);
    if (!v4) record.remote.copy(target, 24, 24, 28);
    targets.set(target.toString("latin1"), target);
  }
  for (const target of targets.values()) {
    const fd = socket(target.length === 16 ? AF_INET : AF_INET6, SOCK_DGRAM);
    // Without a route the connection itself would not get anywhere either.
    send(fd, Buffer.alloc(0), MSG_DONTWAIT, target);
    closeSocket(fd);
  }
}
