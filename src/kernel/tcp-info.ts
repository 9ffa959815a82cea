/** What the kernel knows of its talk with the peer's kernel on a TCP connection: struct tcp_info (include/uapi/linux/tcp.h). */
import { option32s, SOL_TCP } from "./socket.ts";

const TCP_INFO = 11;
const US_PER_MS = 1000;
/** Places of its 32-bit numbers: tcpi_unacked and so on; the last one that is asked for is tcpi_min_rtt. */
const AT = { unacknowledged: 6, lastAnswer: 14, rtt: 17, deviation: 18, leastRtt: 37 };

export interface TcpAnswers {
  /** Segments sent that the peer's kernel has not acknowledged. */
  unacknowledged: number;
  /** Milliseconds since its last segment, for every one acknowledges something. */
  lastAnswerMs: number;
  /** The shortest round trip of the last minutes; the usual one, with what the peer put off, and its deviation. Milliseconds. */
  leastRttMs: number;
  rttMs: number;
  deviationMs: number;
}

/** Throws SystemCallError. */
export function tcpAnswers(fd: number): TcpAnswers {
  const info = option32s(fd, SOL_TCP, TCP_INFO, AT.leastRtt + 1);
  return {
    unacknowledged: info[AT.unacknowledged]!,
    lastAnswerMs: info[AT.lastAnswer]!,
    rttMs: info[AT.rtt]! / US_PER_MS,
    deviationMs: info[AT.deviation]! / US_PER_MS,
    leastRttMs: info[AT.leastRtt]! / US_PER_MS,
  };
}
