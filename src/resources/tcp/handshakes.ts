/**
 * Handshakes of connections that the application has not accepted yet: only their packets tell the numbers, no file descriptor
 * leads to them. A tap on the node's end of the veth sees each SYN and SYN-ACK; sock_diag says which still wait.
 */
import { SystemCallError } from "../../kernel/errors.ts";
import { interfaceIndex, SynTap } from "../../kernel/link.ts";
import { inNamespace } from "../../kernel/namespace.ts";
import { NETLINK_SOCK_DIAG, Netlink } from "../../kernel/netlink.ts";
import { AF_INET, AF_INET6 } from "../../kernel/socket.ts";
import { unwatch, type WatchHandle, watchReadable } from "../../kernel/watch.ts";
import { STATE } from "./record.ts";
import type { Handshake } from "./revive.ts";

const ETHERNET_BYTES = 14;
const SYN = 2;
const ACK = 16;
const LIMIT = 4096;
const SOCK_DIAG_BY_FAMILY = 20;
const IPPROTO_TCP = 6;

interface Side {
  sequence: number;
  mss: number;
  scale: number;
  selective: boolean;
  timestamp: number | undefined;
}

interface Seen {
  family: number;
  /** Address and port as they stand in the packet: client's, application's. */
  addresses: [client: Buffer, server: Buffer];
  ports: [client: number, server: number];
  client: Side | undefined;
  server: Side | undefined;
}

export class Handshakes {
  readonly #tap: SynTap;
  readonly #diagnosis: Netlink;
  readonly #watch: WatchHandle;
  readonly #seen = new Map<string, Seen>();
  /** Those whose client's data had come by the mark: its acknowledgement may leave with this checkpoint. */
  #early = new Set<string>();

  /**
   * In the node's network namespace.
   * @param nodeEnd name of the veth's end on the node
   * @param namespaceFd the application's network namespace
   */
  constructor(nodeEnd: string, namespaceFd: number) {
    this.#tap = new SynTap(interfaceIndex(nodeEnd) ?? 0);
    this.#diagnosis = inNamespace(namespaceFd, () => new Netlink(NETLINK_SOCK_DIAG));
    this.#watch = watchReadable(this.#tap.fd, () => this.mark());
  }

  /** Reads what the tap holds. In the stop, right after the mark in the held output: later answers are not released with it. */
  mark(): void {
    for (let frame = this.#tap.next(); frame !== undefined; frame = this.#tap.next()) this.#note(frame);
  }

  #note(frame: Buffer): void {
    const v4 = frame.readUInt16BE(12) === 0x0800;
    const ip = frame.subarray(ETHERNET_BYTES);
    const tcp = ip.subarray(v4 ? (ip[0]! & 15) * 4 : 40);
    if (tcp.length < 20) return;
    const fromServer = (tcp[13]! & ACK) !== 0;
    if (!(tcp[13]! & SYN)) return;
    const source = Buffer.from(v4 ? ip.subarray(12, 16) : ip.subarray(8, 24));
    const target = Buffer.from(v4 ? ip.subarray(16, 20) : ip.subarray(24, 40));
    const [sourcePort, targetPort] = [tcp.readUInt16BE(0), tcp.readUInt16BE(2)];
    const addresses: [Buffer, Buffer] = fromServer ? [target, source] : [source, target];
    const ports: [number, number] = fromServer ? [targetPort, sourcePort] : [sourcePort, targetPort];
    const key = `${addresses[0].toString("hex")}.${ports[0]} ${addresses[1].toString("hex")}.${ports[1]}`;
    const side = sideOf(tcp);
    const known = this.#seen.get(key);
    if (fromServer) {
      // Without the client's packet before it, it answers nobody that matters here.
      if (known !== undefined) known.server = side;
      return;
    }
    if (known?.client?.sequence === side.sequence) return;
    this.#seen.delete(key);
    if (this.#seen.size >= LIMIT) this.#seen.delete(this.#seen.keys().next().value!);
    this.#seen.set(key, { family: v4 ? AF_INET : AF_INET6, addresses, ports, client: side, server: undefined });
  }

  /**
   * Right after `mark`: how many have data waiting that nobody has accepted a connection for. What data that is cannot be known
   * here, so that a checkpoint is better taken a little later. Of those the checkpoint would make strangers; what comes after
   * the mark is not acknowledged with it, and is sent again.
   */
  withData(): number {
    this.#early = new Set();
    for (const [key, seen] of this.#seen) {
      const unread = seen.client === undefined || seen.server === undefined ? 0 : this.#unread(seen);
      if (unread === undefined) this.#seen.delete(key);
      else if (unread > 0) this.#early.add(key);
    }
    return this.#early.size;
  }

  /** Those that wait now in the kernel, by the application's port; all others are forgotten. */
  waiting(): Handshake[] {
    const handshakes: Handshake[] = [];
    for (const [key, seen] of this.#seen) {
      if (seen.client === undefined || seen.server === undefined) continue;
      if (this.#unread(seen) === undefined) this.#seen.delete(key);
      else if (!this.#early.has(key)) handshakes.push(handshakeOf(seen, seen.client, seen.server));
    }
    return handshakes;
  }

  /** Bytes received by a connection that nobody has accepted; undefined when there is no such connection. */
  #unread({ family, addresses, ports }: Seen): number | undefined {
    const request = Buffer.alloc(56);
    request.writeUInt8(family, 0);
    request.writeUInt8(IPPROTO_TCP, 1);
    request.writeUInt32LE(0xffffffff, 4);
    request.writeUInt16BE(ports[1], 8);
    request.writeUInt16BE(ports[0], 10);
    addresses[1].copy(request, 12);
    addresses[0].copy(request, 28);
    request.fill(0xff, 48);
    try {
      const [answer] = this.#diagnosis.request("sock_diag", SOCK_DIAG_BY_FAMILY, 0, request);
      if (answer === undefined) return undefined;
      const state = answer.body.readUInt8(1);
      const inode = answer.body.readUInt32LE(68);
      const waits =
        state === STATE.synReceived || ((state === STATE.established || state === STATE.closeWait) && inode === 0);
      // A FIN that has come already is not known to the tap: as good as data.
      return waits ? answer.body.readUInt32LE(56) + (state === STATE.closeWait ? 1 : 0) : undefined;
    } catch (error) {
      if (error instanceof SystemCallError && error.code === "ENOENT") return undefined;
      throw error;
    }
  }

  close(): void {
    unwatch(this.#watch);
    this.#tap.close();
    this.#diagnosis.close();
  }
}

function sideOf(tcp: Buffer): Side {
  const side: Side = { sequence: tcp.readUInt32BE(4), mss: 536, scale: -1, selective: false, timestamp: undefined };
  const end = Math.min(tcp.length, (tcp[12]! >> 4) * 4);
  for (let at = 20; at < end; ) {
    const kind = tcp[at]!;
    if (kind === 0) break;
    if (kind === 1) {
      at++;
      continue;
    }
    const length = tcp[at + 1] ?? 0;
    if (length < 2 || at + length > end) break;
    if (kind === 2 && length === 4) side.mss = tcp.readUInt16BE(at + 2);
    else if (kind === 3 && length === 3) side.scale = tcp[at + 2]!;
    else if (kind === 4) side.selective = true;
    else if (kind === 8 && length === 10) side.timestamp = tcp.readUInt32BE(at + 2);
    at += length;
  }
  return side;
}

function handshakeOf(seen: Seen, client: Side, server: Side): Handshake {
  const stamped = client.timestamp !== undefined && server.timestamp !== undefined;
  return {
    family: seen.family,
    client: socketAddressOf(seen.family, seen.addresses[0], seen.ports[0]),
    server: socketAddressOf(seen.family, seen.addresses[1], seen.ports[1]),
    clientSequence: client.sequence,
    serverSequence: server.sequence,
    mss: client.mss,
    clientScale: client.scale,
    serverScale: server.scale,
    selectiveAcknowledgement: client.selective && server.selective,
    ...(stamped ? { clientTimestamp: client.timestamp!, serverTimestamp: server.timestamp! } : {}),
  };
}

function socketAddressOf(family: number, address: Buffer, port: number): Buffer {
  const out = Buffer.alloc(family === AF_INET ? 16 : 28);
  out.writeUInt16LE(family, 0);
  out.writeUInt16BE(port, 2);
  address.copy(out, family === AF_INET ? 4 : 8);
  return out;
}
