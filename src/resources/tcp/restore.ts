/**
 * Makes a TCP socket anew from its state, in the application's network namespace while its port is blocked; `finish` lets it
 * speak. Connected sockets come up through TCP_REPAIR. The whole send queue is given back as *unsent*, so that it leaves at
 * once: what the kernel believes sent would be repeated only after its first timer of 1 s. That needs the route with a first
 * window of 60000 segments (`ApplicationInterface`, `restoring`), because a peer may acknowledge bytes that the clone has not
 * sent yet, which is ignored until they were.
 */
import { checked } from "../../kernel/errors.ts";
import {
  bind,
  closeSocket,
  connect,
  getOption,
  listen,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  SO,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
  SOL_TCP,
  send,
  setOption,
  setSocketOwner,
  shutdown,
  socket,
  TCP,
} from "../../kernel/socket.ts";
import { endOverLoopback } from "./ended.ts";
import { injectFin, injectLastFin, injectReset } from "./inject.ts";
import { FLAG, OPTION_NAMES, optionIndex, STATE, type TcpRecord } from "./record.ts";
import type { TcpState } from "./state.ts";

export interface RestoredTcp {
  readonly fd: number;
  /** Once the port is open and before the application runs: leaves repair mode, sends what is unsent. */
  finish(): void;
}

const REPAIR = { off: 0, on: 1, offSilently: -1 } as const;
const QUEUE = { none: 0, receive: 1, send: 2 } as const;
const OPTION_CODE = { mss: 2, windowScale: 3, selectiveAcknowledgement: 4, timestamps: 8 } as const;
const NEGOTIATED = { timestamps: 1, selectiveAcknowledgement: 2, windowScale: 4 } as const;
const SHUT_RD = 0;
const SHUT_WR = 1;
/** The largest that TCP_MAXSEG takes; loopback negotiates more. */
const LARGEST_SEGMENT = 32767;
const CHUNK_BYTES = 1 << 16;
const SMALLEST_CHUNK_BYTES = 1 << 10;
/** Of buffer per byte of queue: a segment of a few hundred bytes takes a kilobyte of the kernel's beside them. */
const ROOM_PER_BYTE = 8;
const MOST_NOT_SENT_BYTES = 0x7fffffff;

const REUSE_ADDRESS = optionIndex(SOL_SOCKET, SO.reuseAddress);
const SEND_BUFFER = optionIndex(SOL_SOCKET, SO.sendBuffer);
const RECEIVE_BUFFER = optionIndex(SOL_SOCKET, SO.receiveBuffer);
const BUFFER_LOCK = optionIndex(SOL_SOCKET, SO.bufferLock);
const DEFER_ACCEPT = optionIndex(SOL_TCP, TCP.deferAccept);
const FAST_OPEN = optionIndex(SOL_TCP, TCP.fastOpen);
const CORK = optionIndex(SOL_TCP, TCP.cork);
const NOT_SENT = optionIndex(SOL_TCP, TCP.notSentLowWater);
const PRIORITY = optionIndex(SOL_SOCKET, SO.priority);
/** Of a connection they are what it has come to. */
const LARGEST = optionIndex(SOL_TCP, TCP.maxSegment);
const CLAMP = optionIndex(SOL_TCP, TCP.windowClamp);
/** Only its length: who has one is refused. */
const FILTER = optionIndex(SOL_SOCKET, SO.attachFilter);
/** Set in their own order, not with the rest. */
const APART = new Set([
  REUSE_ADDRESS,
  SEND_BUFFER,
  RECEIVE_BUFFER,
  BUFFER_LOCK,
  DEFER_ACCEPT,
  FAST_OPEN,
  CORK,
  LARGEST,
  CLAMP,
  FILTER,
]);

/** Every step throws SystemCallError; then the descriptor is closed and nothing was sent. */
export function restoreTcp(state: TcpState): RestoredTcp {
  const { record } = state;
  const fd = socket(record.family, SOCK_STREAM | SOCK_NONBLOCK);
  try {
    if (record.owner.uid !== 0 || record.owner.gid !== 0) setSocketOwner(fd, record.owner.uid, record.owner.gid);
    if (record.state === STATE.listen) return restoreListening(fd, record);
    if (record.state === STATE.closed) return restoreClosed(fd, state);
    if (record.state === STATE.synSent) return restoreConnecting(fd, record);
    return restoreConnected(fd, state);
  } catch (error) {
    closeSocket(fd);
    throw error;
  }
}

function must(result: number, what: string): void {
  checked(result, what);
}

function setTcp(fd: number, option: number, value: number | Buffer, what: string): void {
  must(setOption(fd, SOL_TCP, option, value), `setsockopt(${what})`);
}

const freshOptions = new Map<number, number[]>();

/** What a new socket of this family has: only what differs is set. */
function fresh(fd: number, family: number): number[] {
  const known = freshOptions.get(family);
  if (known !== undefined) return known;
  const read = OPTION_NAMES.map(([level, option]) => {
    try {
      return getOption(fd, level, option);
    } catch {
      return -1;
    }
  });
  freshOptions.set(family, read);
  return read;
}

function setOptions(fd: number, record: TcpRecord): void {
  const before = fresh(fd, record.family);
  OPTION_NAMES.forEach(([level, option], i) => {
    const value = record.option(i);
    // An option that this node refuses (an interface it lacks) must not keep the connection from living.
    if (!APART.has(i) && value !== before[i] && value !== -1) setOption(fd, level, option, value);
  });
  // IP_TOS has changed it.
  if (record.option(PRIORITY) >= 0) setOption(fd, SOL_SOCKET, SO.priority, record.option(PRIORITY));
  if (record.linger.readInt32LE(0) !== 0)
    must(setOption(fd, SOL_SOCKET, SO.linger, record.linger), "setsockopt(SO_LINGER)");
  if (record.receiveTimeout.some((byte) => byte !== 0))
    setOption(fd, SOL_SOCKET, SO.receiveTimeout, record.receiveTimeout);
  if (record.sendTimeout.some((byte) => byte !== 0)) setOption(fd, SOL_SOCKET, SO.sendTimeout, record.sendTimeout);
  if (record.congestion !== "") setOption(fd, SOL_TCP, TCP.congestion, Buffer.from(record.congestion));
}

/** The kernel doubles what it is told. The lock says which sizes the application chose itself; the others keep growing. */
function setBuffers(fd: number, record: TcpRecord, leastReceive = 0): void {
  const receiveBytes = Math.max(record.option(RECEIVE_BUFFER) >> 1, leastReceive);
  setSendBuffer(fd, record.option(SEND_BUFFER) >> 1);
  must(setOption(fd, SOL_SOCKET, SO.receiveBufferForce, receiveBytes), "setsockopt(SO_RCVBUFFORCE)");
  lockBuffers(fd, record);
}

/** It stays as it is, whatever the kernel would make of it, until `lockBuffers` says what the application chose. */
function setSendBuffer(fd: number, bytes: number): void {
  must(setOption(fd, SOL_SOCKET, SO.sendBufferForce, bytes), "setsockopt(SO_SNDBUFFORCE)");
}

function lockBuffers(fd: number, record: TcpRecord): void {
  const lock = record.option(BUFFER_LOCK);
  if (lock >= 0) setOption(fd, SOL_SOCKET, SO.bufferLock, lock);
}

function setReuseAddress(fd: number, record: TcpRecord): void {
  must(
    setOption(fd, SOL_SOCKET, SO.reuseAddress, record.option(REUSE_ADDRESS) > 0 ? 1 : 0),
    "setsockopt(SO_REUSEADDR)",
  );
}

function restoreListening(fd: number, record: TcpRecord): RestoredTcp {
  setReuseAddress(fd, record);
  setOptions(fd, record);
  setBuffers(fd, record);
  // Those that its connections will have of it.
  const before = fresh(fd, record.family);
  for (const [at, option] of [
    [LARGEST, TCP.maxSegment],
    [CLAMP, TCP.windowClamp],
    [CORK, TCP.cork],
  ] as const)
    if (record.option(at) > 0 && record.option(at) !== before[at]) setOption(fd, SOL_TCP, option, record.option(at));
  must(bind(fd, record.local), "bind");
  must(listen(fd, record.backlogLimit), "listen");
  if (record.option(DEFER_ACCEPT) > 0) setTcp(fd, TCP.deferAccept, record.option(DEFER_ACCEPT), "TCP_DEFER_ACCEPT");
  if (record.option(FAST_OPEN) > 0) setOption(fd, SOL_TCP, TCP.fastOpen, record.option(FAST_OPEN));
  return { fd, finish: () => {} };
}

function restoreClosed(fd: number, { record, received }: TcpState): RestoredTcp {
  setReuseAddress(fd, record);
  setOptions(fd, record);
  setBuffers(fd, record, received.length * 2);
  const hadPeer = (record.flags & (FLAG.failed | FLAG.readShut)) !== 0;
  if (hadPeer) endOverLoopback(fd, received, (record.flags & FLAG.failed) !== 0);
  else if (record.localPort !== 0) must(bind(fd, record.local), "bind");
  return { fd, finish: () => {} };
}

/** The peer may know nothing of it, or wait for the second packet of a handshake that is lost: the call is made again. */
function restoreConnecting(fd: number, record: TcpRecord): RestoredTcp {
  setReuseAddress(fd, record);
  setOptions(fd, record);
  setBuffers(fd, record);
  must(bind(fd, record.local), "bind");
  return { fd, finish: () => void connect(fd, record.remote) };
}

function restoreConnected(fd: number, state: TcpState): RestoredTcp {
  const { record, received } = state;
  setTcp(fd, TCP.repair, REPAIR.on, "TCP_REPAIR");
  setSequence(fd, QUEUE.receive, record.receiveStart);
  setSequence(fd, QUEUE.send, record.sendStart);
  setOptions(fd, record);
  setBuffers(fd, record, received.length * 2);
  must(bind(fd, record.local), "bind");
  // The kernel computes the size of segments in connect, before the negotiated options can be given: so it is told here,
  // or a restored connection would go on with 536 bytes for ever.
  setTcp(fd, TCP.maxSegment, Math.min(record.mss, LARGEST_SEGMENT), "TCP_MAXSEG");
  must(connect(fd, record.remote), "connect");
  setTcp(fd, TCP.maxSegment, 0, "TCP_MAXSEG");
  setTcp(fd, TCP.repairOptions, negotiatedOptions(record), "TCP_REPAIR_OPTIONS");
  if (record.negotiated & NEGOTIATED.timestamps) setTcp(fd, TCP.timestamp, record.timestamp | 0, "TCP_TIMESTAMP");
  setTcp(fd, TCP.repairQueue, QUEUE.receive, "TCP_REPAIR_QUEUE");
  fill(fd, received);
  const window = windowOf(record);
  const told = `TCP_REPAIR_WINDOW ${new Uint32Array(Uint8Array.from(window).buffer).join(" ")}`;
  setTcp(fd, TCP.repairWindow, window, `${told}, received ${record.receiveStart} to ${record.receiveEnd}`);
  setTcp(fd, TCP.repairQueue, QUEUE.none, "TCP_REPAIR_QUEUE");
  if (record.flags & FLAG.finReceived && record.state !== STATE.timeWait) injectFin(record);
  return { fd, finish: () => finishConnected(fd, state) };
}

function setSequence(fd: number, queue: number, sequence: number): void {
  setTcp(fd, TCP.repairQueue, queue, "TCP_REPAIR_QUEUE");
  setTcp(fd, TCP.queueSequence, sequence | 0, "TCP_QUEUE_SEQ");
}

function negotiatedOptions(record: TcpRecord): Buffer {
  const pairs: [code: number, value: number][] = [[OPTION_CODE.mss, record.mss]];
  if (record.negotiated & NEGOTIATED.windowScale)
    pairs.push([OPTION_CODE.windowScale, record.sendScale | (record.receiveScale << 16)]);
  if (record.negotiated & NEGOTIATED.selectiveAcknowledgement) pairs.push([OPTION_CODE.selectiveAcknowledgement, 0]);
  if (record.negotiated & NEGOTIATED.timestamps) pairs.push([OPTION_CODE.timestamps, 0]);
  const out = Buffer.alloc(pairs.length * 8);
  pairs.forEach(([code, value], i) => {
    out.writeUInt32LE(code, i * 8);
    out.writeUInt32LE(value >>> 0, i * 8 + 4);
  });
  return out;
}

/** The kernel refuses a window whose last update lies beyond what was received: a FIN counts there, but not yet here. */
function windowOf(record: TcpRecord): Buffer {
  const RECEIVE_UPDATE = 16;
  const window = Buffer.from(record.window);
  const beyond = (window.readUInt32LE(RECEIVE_UPDATE) - record.receiveEnd) | 0;
  if (beyond > 0) window.writeUInt32LE(record.receiveEnd, RECEIVE_UPDATE);
  return window;
}

/** In repair mode a send into the receive queue puts bytes there. Memory may be short of one large piece: then smaller ones. */
function fill(fd: number, bytes: Buffer): void {
  let chunk = CHUNK_BYTES;
  for (let at = 0; at < bytes.length; ) {
    const result = send(fd, bytes.subarray(at, at + chunk), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (result > 0) at += result;
    else if (chunk > SMALLEST_CHUNK_BYTES) chunk >>= 1;
    else must(result, "send into the receive queue");
  }
}

function finishConnected(fd: number, { record, sent }: TcpState): void {
  // The silent way: an acknowledgement that the kernel would send here would only tell the peer what it knows.
  setTcp(fd, TCP.repair, sent.length > 0 ? REPAIR.offSilently : REPAIR.off, "TCP_REPAIR");
  setReuseAddress(fd, record);
  if (sent.length > 0) sendAgain(fd, record, sent);
  if (record.option(CORK) > 0) setTcp(fd, TCP.cork, 1, "TCP_CORK");
  if (record.flags & FLAG.finSent) shutdown(fd, SHUT_WR);
  if (record.state === STATE.timeWait) injectLastFin(record);
  if (record.flags & FLAG.readShut) shutdown(fd, SHUT_RD);
  if (record.flags & FLAG.failed) injectReset(record);
}

/**
 * All of it must go in at once, and the queue may have been as full as the kernel lets it get: here its segments are cut in
 * another way and take more room, and a first window of 60000 segments makes the kernel set a buffer that is not locked to
 * the largest of net.ipv4.tcp_wmem. So the buffer has more room until it holds everything, and how much may be unsent is not
 * limited, neither by the application nor by net.ipv4.tcp_notsent_lowat, which counts where it has said nothing (0).
 */
function sendAgain(fd: number, record: TcpRecord, sent: Buffer): void {
  setTcp(fd, TCP.notSentLowWater, MOST_NOT_SENT_BYTES, "TCP_NOTSENT_LOWAT");
  setSendBuffer(fd, Math.max(sent.length * (ROOM_PER_BYTE / 2), record.option(SEND_BUFFER) >> 1));
  for (let at = 0; at < sent.length; ) {
    const result = send(fd, sent.subarray(at), MSG_DONTWAIT | MSG_NOSIGNAL);
    must(result, "send of what was unacknowledged");
    at += result;
  }
  setTcp(fd, TCP.notSentLowWater, Math.max(0, record.option(NOT_SENT)), "TCP_NOTSENT_LOWAT");
  setSendBuffer(fd, record.option(SEND_BUFFER) >> 1);
  lockBuffers(fd, record);
}
