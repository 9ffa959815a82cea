/** The record of one TCP socket: the layout that native/tcp.cc writes, and what it says. */

export const RECORD_BYTES = 512;
export const RECORD_MAGIC = 0x31504354;

export const STATE = {
  established: 1,
  synSent: 2,
  synReceived: 3,
  finWait1: 4,
  finWait2: 5,
  timeWait: 6,
  closed: 7,
  closeWait: 8,
  lastAck: 9,
  listen: 10,
  closing: 11,
} as const;

export const FLAG = { finReceived: 1, finSent: 2, readShut: 4, failed: 8 } as const;

const OPTIONS = 64;
const ADDRESS_BYTES = 28;
const AT = {
  magic: 0,
  state: 4,
  family: 8,
  local: 12,
  remote: 40,
  receiveStart: 68,
  receiveEnd: 72,
  sendStart: 76,
  sendEnd: 80,
  unsent: 84,
  window: 88,
  mss: 108,
  sendScale: 112,
  receiveScale: 113,
  negotiated: 114,
  flags: 115,
  timestamp: 116,
  backlog: 120,
  backlogLimit: 124,
  options: 128,
  linger: 384,
  receiveTimeout: 392,
  sendTimeout: 408,
  congestion: 424,
  receiveFrom: 488,
  receiveBytes: 492,
  sendFrom: 496,
  sendBytes: 500,
  owner: 504,
} as const;

/** struct tcp_repair_window */
export const WINDOW_BYTES = 20;

const AF_INET = 2;
const AF_INET6 = 10;

/** A record that stands for itself: all bytes of both queues come with it. */
export function markWhole(record: Buffer, receivedBytes: number, sentBytes: number): void {
  record.copyWithin(AT.receiveFrom, AT.receiveStart, AT.receiveStart + 4);
  record.writeUInt32LE(receivedBytes, AT.receiveBytes);
  record.copyWithin(AT.sendFrom, AT.sendStart, AT.sendStart + 4);
  record.writeUInt32LE(sentBytes, AT.sendBytes);
}

/** What of a socket goes on after its application has closed it. */
export interface OrphanFields {
  state: number;
  family: number;
  local: Buffer;
  remote: Buffer;
  receiveEnd: number;
  sendStart: number;
  sendEnd: number;
  /** snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup */
  window: readonly number[];
  mss: number;
  sendScale: number;
  receiveScale: number;
  negotiated: number;
  flags: number;
  timestamp: number;
}

/** A record as native/tcp.cc would have written it: nothing unread, options as a new socket has them. */
export function writeRecord(fields: OrphanFields): Buffer {
  const out = Buffer.alloc(RECORD_BYTES);
  out.writeUInt32LE(RECORD_MAGIC, AT.magic);
  out.writeUInt32LE(fields.state, AT.state);
  out.writeUInt32LE(fields.family, AT.family);
  fields.local.copy(out, AT.local);
  fields.remote.copy(out, AT.remote);
  out.writeUInt32LE(fields.receiveEnd, AT.receiveStart);
  out.writeUInt32LE(fields.receiveEnd, AT.receiveEnd);
  out.writeUInt32LE(fields.sendStart, AT.sendStart);
  out.writeUInt32LE(fields.sendEnd, AT.sendEnd);
  fields.window.forEach((word, i) => {
    out.writeUInt32LE(word, AT.window + 4 * i);
  });
  out.writeUInt32LE(fields.mss, AT.mss);
  out.writeUInt8(fields.sendScale, AT.sendScale);
  out.writeUInt8(fields.receiveScale, AT.receiveScale);
  out.writeUInt8(fields.negotiated, AT.negotiated);
  out.writeUInt8(fields.flags, AT.flags);
  out.writeUInt32LE(fields.timestamp, AT.timestamp);
  out.fill(0xff, AT.options, AT.linger);
  out.writeInt32LE(1, AT.options + 4 * REUSE_ADDRESS);
  return out;
}

/** A view of a record's bytes. Sequence numbers are absolute, modulo 2³². */
export class TcpRecord {
  readonly bytes: Buffer;

  constructor(bytes: Buffer) {
    if (bytes.length < RECORD_BYTES || bytes.readUInt32LE(AT.magic) !== RECORD_MAGIC)
      throw new Error("Not a TCP record");
    this.bytes = bytes.subarray(0, RECORD_BYTES);
  }

  #word(at: number): number {
    return this.bytes.readUInt32LE(at);
  }
  get state(): number {
    return this.#word(AT.state);
  }
  get family(): number {
    return this.#word(AT.family);
  }
  /** sockaddr_in or sockaddr_in6 as the kernel gave it. */
  get local(): Buffer {
    return this.#address(AT.local);
  }
  get remote(): Buffer {
    return this.#address(AT.remote);
  }
  #address(at: number): Buffer {
    const bytes = this.family === AF_INET ? 16 : this.family === AF_INET6 ? ADDRESS_BYTES : 0;
    return this.bytes.subarray(at, at + bytes);
  }
  get localPort(): number {
    return this.bytes.readUInt16BE(AT.local + 2);
  }
  get remotePort(): number {
    return this.bytes.readUInt16BE(AT.remote + 2);
  }
  /** Bytes received and not yet read by the application: [start, end). */
  get receiveStart(): number {
    return this.#word(AT.receiveStart);
  }
  get receiveEnd(): number {
    return this.#word(AT.receiveEnd);
  }
  /** Bytes written by the application and not yet acknowledged: [start, end). */
  get sendStart(): number {
    return this.#word(AT.sendStart);
  }
  get sendEnd(): number {
    return this.#word(AT.sendEnd);
  }
  get unsent(): number {
    return this.#word(AT.unsent);
  }
  get window(): Buffer {
    return this.bytes.subarray(AT.window, AT.window + WINDOW_BYTES);
  }
  get mss(): number {
    return this.#word(AT.mss);
  }
  get sendScale(): number {
    return this.bytes.readUInt8(AT.sendScale);
  }
  get receiveScale(): number {
    return this.bytes.readUInt8(AT.receiveScale);
  }
  /** TCPI_OPT_*: 1 timestamps, 2 selective acknowledgement, 4 window scale. */
  get negotiated(): number {
    return this.bytes.readUInt8(AT.negotiated);
  }
  get flags(): number {
    return this.bytes.readUInt8(AT.flags);
  }
  get timestamp(): number {
    return this.#word(AT.timestamp);
  }
  /** Connections that the listening socket's application has not accepted yet. */
  get backlog(): number {
    return this.#word(AT.backlog);
  }
  get backlogLimit(): number {
    return this.#word(AT.backlogLimit);
  }
  /** The value of option `index` of `OPTION_NAMES`; −1 when it does not apply. */
  option(index: number): number {
    return this.bytes.readInt32LE(AT.options + index * 4);
  }
  get linger(): Buffer {
    return this.bytes.subarray(AT.linger, AT.linger + 8);
  }
  get receiveTimeout(): Buffer {
    return this.bytes.subarray(AT.receiveTimeout, AT.receiveTimeout + 16);
  }
  get sendTimeout(): Buffer {
    return this.bytes.subarray(AT.sendTimeout, AT.sendTimeout + 16);
  }
  get congestion(): string {
    return this.bytes.toString("latin1", AT.congestion, AT.congestion + 16).replace(/\0.*$/s, "");
  }
  /** Where the bytes that come with this record belong, and how many. */
  get receiveFrom(): number {
    return this.#word(AT.receiveFrom);
  }
  get receiveBytes(): number {
    return this.#word(AT.receiveBytes);
  }
  get sendFrom(): number {
    return this.#word(AT.sendFrom);
  }
  get sendBytes(): number {
    return this.#word(AT.sendBytes);
  }
  /** The socket's owner as the kernel judges it for SO_REUSEPORT. */
  get owner(): { uid: number; gid: number } {
    return { uid: this.#word(AT.owner), gid: this.#word(AT.owner + 4) };
  }
}

/** [level, option] in the record's order; the same table stands in native/tcp.cc. */
export const OPTION_NAMES: readonly (readonly [level: number, option: number])[] = [
  [1, 2],
  [1, 15],
  [1, 9],
  [1, 10],
  [1, 12],
  [1, 7],
  [1, 8],
  [1, 72],
  [1, 18],
  [1, 36],
  [1, 62],
  [6, 1],
  [6, 3],
  [6, 4],
  [6, 5],
  [6, 6],
  [6, 7],
  [6, 8],
  [6, 9],
  [6, 18],
  [6, 25],
  [6, 23],
  [0, 1],
  [0, 2],
  [0, 15],
  [0, 19],
  [0, 24],
  [0, 11],
  [41, 26],
  [41, 67],
  [41, 16],
  [1, 35],
  [1, 37],
  [1, 42],
  [1, 46],
  [1, 47],
  [1, 60],
  [1, 69],
  [0, 8],
  [41, 23],
  [41, 25],
  [41, 49],
  [41, 51],
  [41, 66],
  [41, 72],
  [1, 5],
  [1, 26],
  [0, 10],
  [0, 13],
  [0, 21],
  [0, 51],
  [41, 33],
  [41, 73],
  [6, 2],
  [6, 10],
  [6, 16],
  [6, 27],
  [6, 36],
  [6, 34],
];

const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const REUSE_ADDRESS = OPTION_NAMES.findIndex(([level, option]) => level === SOL_SOCKET && option === SO_REUSEADDR);

if (OPTION_NAMES.length >= OPTIONS) throw new Error("The record holds fewer options");

export const optionIndex = (level: number, option: number): number =>
  OPTION_NAMES.findIndex(([l, o]) => l === level && o === option);
