/**
 * What the kernel has of a TCP socket that changes when anything happens to it, read without touching the socket: see
 * ../descriptor/open-files.ts, which fills it, and native/tcp.cc, which dumps by it.
 */

/** Byte offsets. Sequence numbers are the kernel's own; `unsettled` is other than 0 when the kernel was at work on the socket. */
export const STAMP = {
  bytesAcknowledged: 0,
  bytesReceived: 8,
  socketFlags: 16,
  state: 24,
  segmentsIn: 28,
  segmentsOut: 32,
  shutdown: 36,
  received: 40,
  copied: 44,
  written: 48,
  unacknowledged: 52,
  sent: 56,
  windowUpdate: 60,
  sendWindow: 64,
  mostWindow: 68,
  receiveWindow: 72,
  receiveWindowAt: 76,
  backlog: 80,
  backlogLimit: 84,
  error: 88,
  unsettled: 92,
} as const;
export const STAMP_BYTES = 96;

/** Where the kernel keeps it (include/linux/tcp.h, include/net/sock.h). */
export const STAMP_FIELDS = {
  bytesAcknowledged: "tcp_sock.bytes_acked",
  bytesReceived: "tcp_sock.bytes_received",
  socketFlags: "sock_common.skc_flags",
  state: "sock_common.skc_state",
  segmentsIn: "tcp_sock.segs_in",
  segmentsOut: "tcp_sock.segs_out",
  shutdown: "sock.sk_shutdown",
  received: "tcp_sock.rcv_nxt",
  copied: "tcp_sock.copied_seq",
  written: "tcp_sock.write_seq",
  unacknowledged: "tcp_sock.snd_una",
  sent: "tcp_sock.snd_nxt",
  windowUpdate: "tcp_sock.snd_wl1",
  sendWindow: "tcp_sock.snd_wnd",
  mostWindow: "tcp_sock.max_window",
  receiveWindow: "tcp_sock.rcv_wnd",
  receiveWindowAt: "tcp_sock.rcv_wup",
  backlog: "sock.sk_ack_backlog",
  backlogLimit: "sock.sk_max_ack_backlog",
  error: "sock.sk_err",
  /** A pointer to urgent data is up. */
  urgent: "tcp_sock.urg_data",
  /** The spin lock in it: held by who works on the socket. */
  lock: "sock.sk_lock",
} as const;

/** The stamps of one process's sockets. */
export interface Stamps {
  /** Of the stop under way; another buffer when there are more than before. */
  readonly bytes: Buffer;
  /** Where a socket's is, by its descriptor; undefined: nowhere. The same as long as the process's descriptors are. */
  at(fd: number): number | undefined;
  /** Grows with each look in which anything happened. */
  readonly now: number;
  /** The descriptors of files that anything happened to since `now` was that; undefined: all of them perhaps. */
  touchedSince(then: number): Iterable<number> | undefined;
}
