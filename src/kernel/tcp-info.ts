/** What the kernel knows of its talk with the peer's kernel on a TCP connection: struct tcp_info (include/uapi/linux/tcp.h). */
import { addon } from "./addon.ts";
import { checked } from "./errors.ts";
import { NR } from "./numbers.ts";
import { SOL_TCP } from "./socket.ts";

const TCP_INFO = 11;
const INFO_BYTES = 152;
const UNACKNOWLEDGED_AT = 24;
const LAST_ANSWER_AT = 56;
const RTT_AT = 68;
const DEVIATION_AT = 72;
const LEAST_RTT_AT = 148;
const US_PER_MS = 1000;

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
  length.writeUInt32LE(INFO_BYTES);
  checked(addon.syscall(NR.getsockopt, fd, SOL_TCP, TCP_INFO, info, length), "getsockopt", "TCP_INFO");
  return {
    unacknowledged: info.readUInt32LE(UNACKNOWLEDGED_AT),
    lastAnswerMs: info.readUInt32LE(LAST_ANSWER_AT),
    rttMs: info.readUInt32LE(RTT_AT) / US_PER_MS,
    deviationMs: info.readUInt32LE(DEVIATION_AT) / US_PER_MS,
    leastRttMs: info.readUInt32LE(LEAST_RTT_AT) / US_PER_MS,
  };
}

const info = Buffer.alloc(INFO_BYTES);
const length = Buffer.alloc(4);
