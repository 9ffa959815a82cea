/** One closed TCP connection as the kernel's memory has it (struct tcp_sock, struct tcp_timewait_sock), as a record and a queue. */
import { KernelFields } from "../../kernel/kernel-fields.ts";
import { type Address, isNothingThere, KernelMemory } from "../../kernel/kernel-memory.ts";
import { packetMemory } from "../../kernel/packet-memory.ts";
import { FLAG, markWhole, STATE, writeRecord } from "./record.ts";
import { assemble, readSendQueue } from "./send-queue.ts";
import { SocketFinder } from "./socket-finder.ts";

/** States of a connection that is closed here and not over. */
export const CLOSING: readonly number[] = [
  STATE.finWait1,
  STATE.finWait2,
  STATE.lastAck,
  STATE.closing,
  STATE.timeWait,
];

/** What sock_diag tells of a connection. */
export interface Found {
  family: number;
  /** sockaddr */
  local: Buffer;
  remote: Buffer;
  cookie: bigint;
  negotiated: number;
  sendScale: number;
  receiveScale: number;
}

const FIELDS = new KernelFields(
  "sock_common.skc_state",
  "sock_common.skc_cookie",
  "sock_common.skc_tw_rcv_nxt",
  "sock_common.skc_tw_snd_nxt",
  "sock.tcp_rtx_queue",
  "sock.sk_write_queue",
  "tcp_sock",
  "tcp_sock.snd_una",
  "tcp_sock.write_seq",
  "tcp_sock.rcv_nxt",
  "tcp_sock.snd_wl1",
  "tcp_sock.snd_wnd",
  "tcp_sock.max_window",
  "tcp_sock.rcv_wnd",
  "tcp_sock.rcv_wup",
  "tcp_sock.tsoffset",
  "tcp_sock.segs_in",
  "tcp_sock.segs_out",
  "tcp_sock.rx_opt",
  "tcp_options_received.mss_clamp",
  "tcp_timewait_sock",
  "tcp_timewait_sock.tw_rcv_wnd",
  "tcp_timewait_sock.tw_ts_offset",
  "inet_timewait_sock.tw_substate",
  "sk_buff.cb",
  "tcp_skb_cb.seq",
);
type Field = Parameters<typeof FIELDS.at>[0];
const TRIES = 16;
/** TIME_WAIT has forgotten it, and sends no data. */
const SOME_SEGMENT = 536;
const SOME_WINDOW = 65535;

export interface Reading {
  /** What changes with whatever happens to the connection. */
  stamp: string;
  /** As TcpSocketState.content. */
  content: Buffer;
}

/** Looked up once: a standby does so before it is needed. Throws when this kernel's memory cannot be read. */
export function prepareReading(): void {
  packetMemory();
  FIELDS.require();
}

export class OrphanReader {
  readonly #packets = packetMemory();
  readonly #memory = KernelMemory.open();
  readonly #finder = new SocketFinder();

  constructor() {
    FIELDS.require();
  }

  /**
   * In the application's network namespace. Undefined when it has ended meanwhile; throws when it never holds still.
   * @param before what was read of it last: the same is returned when nothing happened since
   */
  read(found: Found, before: Reading | undefined): Reading | undefined {
    for (let i = 0; i < TRIES; i++) {
      const address = this.#finder.find(found.family, found.local, found.remote);
      if (address === 0n) return undefined;
      if (before !== undefined && this.#stampAt(address) === before.stamp) return before;
      const reading = this.#attempt(address, found, clock());
      // Nothing was acknowledged, sent or ended meanwhile: no segment was given back while it was read.
      if (reading !== undefined && this.#stampAt(address) === reading.stamp) return reading;
    }
    throw new Error(
      `The connection to port ${found.remote.readUInt16BE(2)}, which is being closed, does not hold still`,
    );
  }

  #attempt(address: Address, found: Found, now: number): Reading | undefined {
    try {
      const head = this.#memory.read(address, FIELDS.at("tcp_timewait_sock"));
      if (head.readBigUInt64LE(FIELDS.at("sock_common.skc_cookie")) !== found.cookie) return undefined;
      const state = head.readUInt8(FIELDS.at("sock_common.skc_state"));
      return state === STATE.timeWait ? this.#readTimeWait(head, found, now) : this.#readFull(address, found, now);
    } catch (error) {
      // What is given back while it is read leads anywhere; the next look tells.
      if (error instanceof RangeError || isNothingThere(error)) return undefined;
      throw error;
    }
  }

  #readFull(address: Address, found: Found, now: number): Reading | undefined {
    const socket = this.#memory.read(address, FIELDS.at("tcp_sock"));
    const word = (name: Field) => socket.readUInt32LE(FIELDS.at(name));
    const state = socket.readUInt8(FIELDS.at("sock_common.skc_state"));
    if (!CLOSING.includes(state)) return undefined;
    const finReceived = state === STATE.lastAck || state === STATE.closing;
    // The FIN takes the last number of what was written.
    const sendEnd = (word("tcp_sock.write_seq") - 1) >>> 0;
    const acknowledged = state === STATE.finWait2 || ((word("tcp_sock.snd_una") - sendEnd) | 0) > 0;
    const sendStart = acknowledged ? sendEnd : word("tcp_sock.snd_una");
    const sent = acknowledged ? Buffer.alloc(0) : this.#readQueue(address, socket, sendStart, sendEnd);
    if (sent === undefined) return undefined;
    const { local, remote, family, negotiated, sendScale, receiveScale } = found;
    const record = writeRecord({
      state,
      family,
      local,
      remote,
      receiveEnd: (word("tcp_sock.rcv_nxt") - (finReceived ? 1 : 0)) >>> 0,
      sendStart,
      sendEnd,
      window: (["snd_wl1", "snd_wnd", "max_window", "rcv_wnd", "rcv_wup"] as const).map((name) =>
        word(`tcp_sock.${name}`),
      ),
      mss: socket.readUInt16LE(FIELDS.at("tcp_sock.rx_opt") + FIELDS.at("tcp_options_received.mss_clamp")),
      sendScale,
      receiveScale,
      negotiated,
      flags: FLAG.finSent | (finReceived ? FLAG.finReceived : 0),
      timestamp: (now + word("tcp_sock.tsoffset")) >>> 0,
    });
    return { stamp: this.#stampOf(socket), content: wholeOf(record, sent) };
  }

  #stampOf(socket: Buffer): string {
    const state = socket.readUInt8(FIELDS.at("sock_common.skc_state"));
    const cookie = socket.readBigUInt64LE(FIELDS.at("sock_common.skc_cookie"));
    if (state === STATE.timeWait) return `${state} ${cookie}`;
    const root = socket.readBigUInt64LE(FIELDS.at("sock.tcp_rtx_queue"));
    const counts = (["segs_in", "segs_out", "snd_una"] as const).map((name) =>
      socket.readUInt32LE(FIELDS.at(`tcp_sock.${name}`)),
    );
    return `${state} ${cookie} ${root} ${counts.join(" ")}`;
  }

  #stampAt(address: Address): string | undefined {
    const socket = this.#memory.tryRead(address, FIELDS.at("tcp_sock"));
    return socket && this.#stampOf(socket);
  }

  #readQueue(address: Address, socket: Buffer, start: number, end: number): Buffer | undefined {
    const root = socket.readBigUInt64LE(FIELDS.at("sock.tcp_rtx_queue"));
    const list = address + FIELDS.offset("sock.sk_write_queue");
    const sequenceAt = FIELDS.at("sk_buff.cb") + FIELDS.at("tcp_skb_cb.seq");
    return assemble(readSendQueue(this.#packets, root, list, sequenceAt), start, end);
  }

  /** What is left of a connection with nothing more to send: it waits for the peer's FIN, or for repetitions of it. */
  #readTimeWait(socket: Buffer, found: Found, now: number): Reading {
    const word = (name: Field) => socket.readUInt32LE(FIELDS.at(name));
    const { local, remote, family, negotiated } = found;
    const state = socket.readUInt8(FIELDS.at("inet_timewait_sock.tw_substate"));
    const finReceived = state === STATE.timeWait;
    const receiveEnd = (word("sock_common.skc_tw_rcv_nxt") - (finReceived ? 1 : 0)) >>> 0;
    const sendEnd = (word("sock_common.skc_tw_snd_nxt") - 1) >>> 0;
    const received = word("tcp_timewait_sock.tw_rcv_wnd");
    const record = writeRecord({
      state,
      family,
      local,
      remote,
      receiveEnd,
      sendStart: sendEnd,
      sendEnd,
      window: [receiveEnd, SOME_WINDOW, SOME_WINDOW, received, receiveEnd],
      mss: SOME_SEGMENT,
      sendScale: 0,
      receiveScale: 0,
      negotiated,
      flags: FLAG.finSent | (finReceived ? FLAG.finReceived : 0),
      timestamp: (now + word("tcp_timewait_sock.tw_ts_offset")) >>> 0,
    });
    return { stamp: this.#stampOf(socket), content: wholeOf(record, Buffer.alloc(0)) };
  }

  close(): void {
    this.#finder.close();
  }
}

/** TCP's clock of timestamps, milliseconds; each connection has an offset of its own to it. */
function clock(): number {
  return Number(BigInt.asUintN(32, process.hrtime.bigint() / 1_000_000n));
}

function wholeOf(record: Buffer, sent: Buffer): Buffer {
  markWhole(record, 0, sent.length);
  return Buffer.concat([record, sent]);
}
