/**
 * Makes a peer's kernel repeat at once what it sent into the gap. After its retransmission timer has fired in vain it waits
 * longer and longer; an ICMP "host unreachable" that quotes its first unacknowledged byte makes Linux take the last
 * doubling back, and repeat at once if that much time has gone (RFC 6069; `tcp_ld_RTO_revert`). Anything else ignores it.
 */
import { checksum } from "../../kernel/checksum.ts";
import { AF_INET, AF_INET6, closeSocket, SOCK_RAW, send, socket } from "../../kernel/socket.ts";
import { address4, header4, header6, isMapped, target } from "./inject.ts";
import { STATE } from "./record.ts";
import type { TcpState } from "./state.ts";

const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;
const UNREACHABLE = 3;
const HOST = 1;
const UNREACHABLE_V6 = 1;
const NO_ROUTE = 0;
const QUOTED_TCP_BYTES = 20;

/** In the application's network namespace, with the port open. What cannot be sent is not: it is only a help. */
export function nudgePeers(states: Iterable<TcpState>): number {
  const fds = { v4: -1, v6: -1 };
  let count = 0;
  try {
    for (const { record } of states) {
      if (record.state !== STATE.established && record.state !== STATE.closeWait && record.state !== STATE.finWait2)
        continue;
      const v4 = record.family === AF_INET || isMapped(record.remote);
      const tcp = Buffer.alloc(QUOTED_TCP_BYTES);
      tcp.writeUInt16BE(record.remotePort, 0);
      tcp.writeUInt16BE(record.localPort, 2);
      tcp.writeUInt32BE(record.receiveEnd, 4);
      tcp.writeUInt8(0x50, 12);
      let result: number;
      if (v4) {
        const [peer, own] = [address4(record.remote), address4(record.local)];
        const message = Buffer.concat([
          Buffer.from([UNREACHABLE, HOST, 0, 0, 0, 0, 0, 0]),
          header4(peer, own, tcp.length),
          tcp,
        ]);
        message.writeUInt16BE(checksum(message), 2);
        if (fds.v4 < 0) fds.v4 = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
        result = send(fds.v4, message, 0, target(true, peer));
      } else {
        const [peer, own] = [record.remote.subarray(8, 24), record.local.subarray(8, 24)];
        const head = Buffer.from([UNREACHABLE_V6, NO_ROUTE, 0, 0, 0, 0, 0, 0]);
        // The kernel fills in the checksum of a raw ICMPv6 socket.
        if (fds.v6 < 0) fds.v6 = socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
        result = send(fds.v6, Buffer.concat([head, header6(peer, own, tcp.length), tcp]), 0, target(false, peer));
      }
      if (result >= 0) count++;
    }
  } finally {
    closeSocket(fds.v4);
    closeSocket(fds.v6);
  }
  return count;
}
