/** UDP over IPv4 and IPv6: addresses, options, and the datagrams that have arrived and were not read yet. */

import { call, closeDescriptor, setStatusFlags, statusFlags, tryCall } from "../../kernel/calls.ts";
import { bringUp } from "../../kernel/link.ts";
import { sendMessage } from "../../kernel/message.ts";
import { AF_INET, AF_INET6, SO, SOCK_CLOEXEC, SOCK_DGRAM, SOL_IP, SOL_IPV6, SOL_SOCKET } from "../../kernel/socket.ts";
import { attachFilter, LOCK_FILTER, readFilter } from "../../kernel/socket-filter.ts";
import type { CreateContext, Description, DescriptorKind } from "../kind.ts";
import { refuseFilter } from "../refusal.ts";
import { type OptionValue, readOptions, setOptions, socketName } from "../socket-options.ts";
import { join, type Membership, membershipsOf } from "./memberships.ts";
import { countWaiting, type Datagram, waitingDatagrams } from "./waiting.ts";

export interface UdpState {
  domain: number;
  flags: number;
  /** Raw socket addresses; `remote` is empty when it is not connected. */
  local: Buffer;
  remote: Buffer;
  options: OptionValue[];
  memberships: Membership[];
  /** Instructions of SO_ATTACH_FILTER; empty: none. */
  filter: Buffer;
  /** SO_LOCK_FILTER. */
  locked: OptionValue[];
  /** In the order in which they came. */
  queue: Datagram[];
}

const IPPROTO_UDP = 17;
const SOL_UDP = 17;
const IP_TRANSPARENT = 19;
const IPV6_TRANSPARENT = 75;
const SO_RCVBUFFORCE = 33;
const PORT_AT = 2;
/** Of the kernel, with what was sent to the same machine: for all sockets of a restore together, as some may never arrive. */
const ARRIVAL_MS = 50;
const pausing = new Int32Array(new SharedArrayBuffer(4));
/** The most that SO_RCVBUFFORCE takes, which is doubled. */
const MOST_ROOM_BYTES = (1 << 30) - 1;

/** Reuse before the address is bound, the rest with it. Which buffers were sized by hand comes behind their sizes. */
const COMMON: Array<[number, number]> = [
  2, 15, 5, 6, 7, 8, 11, 16, 18, 20, 21, 29, 35, 36, 37, 40, 42, 46, 47, 60, 61, 62, 69, 72, 75,
].map((option) => [SOL_SOCKET, option]);
const IPV4: Array<[number, number]> = [
  1, 2, 6, 7, 8, 10, 11, 12, 13, 15, 18, 19, 20, 21, 23, 24, 25, 32, 33, 34, 49, 50, 51,
].map((option) => [SOL_IP, option]);
const IPV6: Array<[number, number]> = [
  16, 17, 18, 19, 23, 25, 26, 29, 33, 49, 51, 53, 56, 58, 60, 61, 62, 66, 67, 70, 72, 73, 74, 75, 77,
].map((option) => [SOL_IPV6, option]);
const UDP: Array<[number, number]> = [1, 101, 102, 103, 104].map((option) => [SOL_UDP, option]);
/** Behind IP_TOS, which changes it. */
const PRIORITY: [number, number] = [SOL_SOCKET, SO.priority];

/** IPv4 in addresses of IPv6: ::ffff:0:0/96. */
const MAPPED = Buffer.from("00000000000000000000ffff", "hex");
const isMapped = (sender: Buffer) => sender.readUInt16LE() === AF_INET6 && sender.subarray(8, 20).equals(MAPPED);

/** Where what `from` has sent must go to. */
function toLocal({ local }: UdpState, from: Buffer): Buffer {
  const to = Buffer.from(local);
  const address = to.subarray(...(to.readUInt16LE() === AF_INET ? ([4, 8] as const) : ([8, 24] as const)));
  // Bound to all addresses: whichever it came to, it comes to the loopback address now.
  if (address.some((byte) => byte !== 0)) return to;
  if (address.length === 4) address.set([127, 0, 0, 1]);
  else if (isMapped(from)) address.set([...MAPPED, 127, 0, 0, 1]);
  else address[15] = 1;
  return to;
}

/** Sends it what waited, in the name of those who sent it first. */
function fill(fd: number, state: UdpState, context: CreateContext): void {
  const room = Buffer.alloc(4);
  // As much as there is: a queue may have been filled with a buffer that was made smaller since.
  room.writeInt32LE(MOST_ROOM_BYTES);
  call("setsockopt", fd, SOL_SOCKET, SO_RCVBUFFORCE, room, 4);
  const senders = new Map<string, number>();
  let sent = 0;
  for (const { from, content } of state.queue) {
    const key = from.toString("hex");
    const sender = senders.get(key) ?? senderAs(from, context);
    if (sender !== undefined) senders.set(key, sender);
    const result = sendMessage(sender ?? ownOf(from, fd, context), { content, to: toLocal(state, from) });
    // Any datagram may be lost on its way; the clone is not, for one.
    if (result >= 0) sent++;
  }
  awaitArrival(fd, sent, patienceOf(context));
  for (const sender of senders.values()) closeDescriptor(sender);
}

/**
 * A busy kernel brings what was sent over the loopback somewhat later: before the buffer is as small again as the application had it,
 * which would drop that.
 */
function awaitArrival(fd: number, sent: number, patience: Patience): void {
  const begun = performance.now();
  const end = begun + patience.leftMs;
  while (performance.now() < end && (countWaiting(fd) ?? sent) < sent) Atomics.wait(pausing, 0, 0, 1);
  patience.leftMs -= performance.now() - begun;
}

interface Patience {
  leftMs: number;
}

/** Of the restore. */
function patienceOf(context: CreateContext): Patience {
  const known = context.shared.get("udp patience") as Patience | undefined;
  const patience = known ?? { leftMs: ARRIVAL_MS };
  context.shared.set("udp patience", patience);
  return patience;
}

/** Undefined: the address is one of the application's own. */
function senderAs(from: Buffer, context: CreateContext): number | undefined {
  return context.inNetwork(() => {
    const six = from.readUInt16LE() === AF_INET6;
    const fd = call("socket", six ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const on = Buffer.from([1, 0, 0, 0]);
    call("setsockopt", fd, six ? SOL_IPV6 : SOL_IP, six ? IPV6_TRANSPARENT : IP_TRANSPARENT, on, 4);
    for (const option of [2, 15]) tryCall("setsockopt", fd, SOL_SOCKET, option, on, 4);
    if (tryCall("bind", fd, from, from.length) === 0) return fd;
    closeDescriptor(fd);
    return undefined;
  });
}

/** The application's own socket of that port, as far as it is restored; else the receiver itself. */
function ownOf(from: Buffer, receiver: number, context: CreateContext): number {
  return restoredOf(context).get(from.readUInt16BE(PORT_AT)) ?? receiver;
}

/** Descriptors of what is restored, by port. */
function restoredOf(context: CreateContext): Map<number, number> {
  const known = context.shared.get("udp") as Map<number, number> | undefined;
  const restored = known ?? new Map<number, number>();
  context.shared.set("udp", restored);
  return restored;
}

function restore(state: UdpState, context: CreateContext): number {
  const { domain, local, remote, options } = state;
  const fd = context.inNetwork(() => call("socket", domain, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDP));
  const early = options.filter(([level, option]) => isEarly(level, option));
  setOptions(fd, early);
  context.inNetwork(() => {
    if (local.readUInt16BE(PORT_AT) !== 0) call("bind", fd, local, local.length);
    if (remote.length > 0) call("connect", fd, remote, remote.length);
  });
  restoredOf(context).set(local.readUInt16BE(PORT_AT), fd);
  if (state.queue.length > 0) fill(fd, state, context);
  setOptions(
    fd,
    options.filter(([level, option]) => !isEarly(level, option)),
  );
  // What waited has passed it already.
  attachFilter(fd, state.filter);
  setOptions(fd, state.locked);
  if (state.memberships.length > 0)
    context.atLife(() => context.inNetwork(() => state.memberships.forEach((one) => join(fd, one))));
  setStatusFlags(fd, state.flags);
  return fd;
}

const IPV6_V6ONLY = 26;
const IP_FREEBIND = 15;
const IPV6_FREEBIND = 78;

/** What must be set before an address is bound. */
function isEarly(level: number, option: number): boolean {
  if (level === SOL_SOCKET) return option === 2 || option === 15;
  if (level === SOL_IPV6) return option === IPV6_V6ONLY || option === IPV6_FREEBIND || option === IPV6_TRANSPARENT;
  return level === SOL_IP && (option === IP_FREEBIND || option === IP_TRANSPARENT);
}

function look(description: Description, fd: number): UdpState {
  const local = socketName(fd, "getsockname");
  const domain = local.readUInt16LE();
  const filter = readFilter(fd);
  if (filter === "extended") throw refuseFilter(description);
  return {
    domain,
    flags: statusFlags(fd),
    local,
    remote: socketName(fd, "getpeername"),
    options: readOptions(fd, [...COMMON, ...(domain === AF_INET6 ? [...IPV4, ...IPV6] : IPV4), ...UDP, PRIORITY]),
    memberships: membershipsOf(description, fd, domain),
    filter,
    locked: readOptions(fd, [LOCK_FILTER]),
    queue: waitingDatagrams(fd, domain),
  };
}

/**
 * @kept addresses, options, multicast groups with whom they are heard from, filters (SO_ATTACH_FILTER), datagrams that wait, with their
 *   senders, empty ones too.
 * @unkept empty datagrams that wait and multicast groups, where the kernel's memory cannot be read; filters made for bpf(2) (refused);
 *   programs that spread datagrams over the sockets of a port (SO_ATTACH_REUSEPORT_CBPF).
 */
export const udp: DescriptorKind<UdpState> = {
  kind: "udp",
  version: 2,
  after: [],
  matches: () => false,
  matchesSocket: ({ domain, type, protocol }) =>
    (domain === AF_INET || domain === AF_INET6) && type === SOCK_DGRAM && protocol === IPPROTO_UDP,
  dump: (descriptions, context) => descriptions.map((description) => look(description, context.take(description))),
  create: (state, context) => restore(state, context),
  createAll(states, context) {
    // As for TCP: an interface may come later, the loopback is needed now.
    if (states.length > 0) context.inNetwork(() => bringUp("lo"));
    // Unconnected ones first: what waited for them would go to a connected one of the same port.
    const order = states.map((_, i) => i).sort((a, b) => states[a]!.remote.length - states[b]!.remote.length);
    const fds: number[] = new Array(states.length).fill(-1);
    for (const i of order) fds[i] = restore(states[i]!, context);
    return fds;
  },
};
