/**
 * The multicast groups that a socket has joined, and whom it wants to hear in them. No call tells which there are: the kernel's memory
 * does (net/ipv4/igmp.c, net/ipv6/mcast.c).
 */
import { call } from "../../kernel/calls.ts";
import { KernelFields } from "../../kernel/kernel-fields.ts";
import { type Address, KernelMemory } from "../../kernel/kernel-memory.ts";
import { AF_INET, AF_INET6, SOL_IP, SOL_IPV6 } from "../../kernel/socket.ts";
import type { Description } from "../kind.ts";

export interface Membership {
  /** sockaddr_in or sockaddr_in6 of the group. */
  group: Buffer;
  /** Number of the interface on which it was joined. */
  interface: number;
  /** MCAST_EXCLUDE: all but the sources are heard; MCAST_INCLUDE: only they. */
  mode: number;
  /** As `group`. */
  sources: Buffer[];
}

const FIELDS = new KernelFields(
  "inet_sock.mc_list",
  "ip_mc_socklist",
  "ip_mc_socklist.next_rcu",
  "ip_mc_socklist.multi",
  "ip_mc_socklist.sfmode",
  "ip_mc_socklist.sflist",
  "ip_sf_socklist.sl_count",
  "ip_sf_socklist.sl_addr",
  "inet_sock.pinet6",
  "ipv6_pinfo.ipv6_mc_list",
  "ipv6_mc_socklist",
  "ipv6_mc_socklist.next",
  "ipv6_mc_socklist.addr",
  "ipv6_mc_socklist.ifindex",
  "ipv6_mc_socklist.sfmode",
  "ipv6_mc_socklist.sflist",
  "ip6_sf_socklist.sl_count",
  "ip6_sf_socklist.sl_addr",
);
/** struct ip_mreqn: the group, an address of the interface, its number. */
const INTERFACE_IN_REQUEST = 8;
const MCAST_EXCLUDE = 0;
const MCAST_JOIN_GROUP = 42;
const MCAST_MSFILTER = 48;
const STORAGE_BYTES = 128;
/** struct group_req and struct group_filter: the interface's number, padding, the group … */
const GROUP_AT = 8;
const MODE_AT = GROUP_AT + STORAGE_BYTES;
const SOURCES_AT = MODE_AT + 8;

function socketAddress(address: Buffer): Buffer {
  const out = Buffer.alloc(address.length === 4 ? 16 : 28);
  out.writeUInt16LE(address.length === 4 ? AF_INET : AF_INET6);
  address.copy(out, address.length === 4 ? 4 : 8);
  return out;
}

/** To find a socket takes several looks. */
const sockets = new WeakMap<Description, Address>();

function socketOf(memory: KernelMemory, description: Description, fd: number): Address {
  const socket = sockets.get(description) ?? memory.socket(fd);
  sockets.set(description, socket);
  return socket;
}

/** @param fd of this process, the same socket. None where the kernel's memory cannot be read. */
export function membershipsOf(description: Description, fd: number, domain: number): Membership[] {
  const memory = KernelMemory.tryOpen();
  if (memory === undefined) return [];
  const socket = socketOf(memory, description, fd);
  const four = [...list(memory, memory.pointer(socket + FIELDS.offset("inet_sock.mc_list")), readFour)];
  if (domain === AF_INET) return four;
  const six = memory.pointer(socket + FIELDS.offset("inet_sock.pinet6"));
  if (six === 0n) return four;
  return [...four, ...list(memory, memory.pointer(six + FIELDS.offset("ipv6_pinfo.ipv6_mc_list")), readSix)];
}

type Entry = Membership & { next: Address };

/** In the order in which they were joined: the newest comes first there. */
function list(memory: KernelMemory, first: Address, read: (memory: KernelMemory, at: Address) => Entry): Membership[] {
  const found: Membership[] = [];
  for (let at = first; at !== 0n; ) {
    const { next, ...membership } = read(memory, at);
    found.unshift(membership);
    at = next;
  }
  return found;
}

function readFour(memory: KernelMemory, at: Address): Entry {
  const entry = memory.read(at, FIELDS.at("ip_mc_socklist"));
  const multi = FIELDS.at("ip_mc_socklist.multi");
  const list = entry.readBigUInt64LE(FIELDS.at("ip_mc_socklist.sflist"));
  return {
    next: entry.readBigUInt64LE(FIELDS.at("ip_mc_socklist.next_rcu")),
    group: socketAddress(entry.subarray(multi, multi + 4)),
    interface: entry.readInt32LE(multi + INTERFACE_IN_REQUEST),
    mode: entry.readUInt32LE(FIELDS.at("ip_mc_socklist.sfmode")),
    sources: sourcesOf(memory, list, FIELDS.at("ip_sf_socklist.sl_count"), FIELDS.at("ip_sf_socklist.sl_addr"), 4),
  };
}

function readSix(memory: KernelMemory, at: Address): Entry {
  const entry = memory.read(at, FIELDS.at("ipv6_mc_socklist"));
  const address = FIELDS.at("ipv6_mc_socklist.addr");
  const list = entry.readBigUInt64LE(FIELDS.at("ipv6_mc_socklist.sflist"));
  return {
    next: entry.readBigUInt64LE(FIELDS.at("ipv6_mc_socklist.next")),
    group: socketAddress(entry.subarray(address, address + 16)),
    interface: entry.readInt32LE(FIELDS.at("ipv6_mc_socklist.ifindex")),
    mode: entry.readUInt32LE(FIELDS.at("ipv6_mc_socklist.sfmode")),
    sources: sourcesOf(memory, list, FIELDS.at("ip6_sf_socklist.sl_count"), FIELDS.at("ip6_sf_socklist.sl_addr"), 16),
  };
}

function sourcesOf(memory: KernelMemory, list: Address, countAt: number, at: number, bytes: number): Buffer[] {
  if (list === 0n) return [];
  const count = memory.read(list + BigInt(countAt), 4).readUInt32LE();
  const all = memory.read(list + BigInt(at), count * bytes);
  return Array.from({ length: count }, (_, i) => socketAddress(all.subarray(i * bytes, (i + 1) * bytes)));
}

/** In the application's network, once its interfaces are there. */
export function join(fd: number, { group, interface: index, mode, sources }: Membership): void {
  const level = group.readUInt16LE() === AF_INET ? SOL_IP : SOL_IPV6;
  const request = Buffer.alloc(SOURCES_AT + sources.length * STORAGE_BYTES);
  request.writeUInt32LE(index, 0);
  group.copy(request, GROUP_AT);
  call("setsockopt", fd, level, MCAST_JOIN_GROUP, request, MODE_AT);
  if (mode === MCAST_EXCLUDE && sources.length === 0) return;
  request.writeUInt32LE(mode, MODE_AT);
  request.writeUInt32LE(sources.length, MODE_AT + 4);
  sources.forEach((source, i) => {
    source.copy(request, SOURCES_AT + i * STORAGE_BYTES);
  });
  call("setsockopt", fd, level, MCAST_MSFILTER, request, request.length);
}
