/**
 * TCP connections that the application has closed and that go on in the kernel: the rest of their bytes and their FIN are still
 * owed to the peer, or its last acknowledgement to it. No descriptor leads to them, and to keep a duplicate of one would keep
 * the application's file open, which epoll(7) shows. So sock_diag tells which there are, `SocketFinder` where they are in the
 * kernel's memory, and there it is read what they hold.
 */
import { inNamespace } from "../../kernel/namespace.ts";
import { attributes, NETLINK_SOCK_DIAG, Netlink, NLM_F } from "../../kernel/netlink.ts";
import { AF_INET, AF_INET6 } from "../../kernel/socket.ts";
import type { CloseWatch } from "./close-watch.ts";
import { CLOSING, type Found, OrphanReader, type Reading } from "./orphan-reader.ts";
import { STATE } from "./record.ts";

const SOCK_DIAG_BY_FAMILY = 20;
const IPPROTO_TCP = 6;
const REQUEST_BYTES = 56;
const MESSAGE_BYTES = 72;
const INET_DIAG_INFO = 2;
const STATES = CLOSING.reduce((mask, state) => mask | (1 << state), 0);
const TIME_WAIT_MS = 60_000;
/** A peer whose last packet is lost says it again within this time; later nobody asks a connection in TIME_WAIT anything. */
const YOUNG_MS = 3000;

export interface Orphan {
  /** Stable as long as it is there. */
  id: string;
  /** As TcpSocketState.content. */
  content: Buffer;
}

export class Orphans {
  readonly #diagnosis: Netlink;
  readonly #namespaceFd: number;
  readonly #reader = new OrphanReader();
  readonly #closings: CloseWatch | undefined;
  /** As of the last look, by id. */
  #known: ReadonlyMap<string, Reading> | undefined;

  /**
   * Throws when the kernel's memory cannot be read.
   * @param namespaceFd the application's network namespace
   * @param closings without it, every look asks for all connections
   */
  constructor(namespaceFd: number, closings: CloseWatch | undefined) {
    this.#namespaceFd = namespaceFd;
    this.#closings = closings;
    this.#diagnosis = inNamespace(namespaceFd, () => new Netlink(NETLINK_SOCK_DIAG));
  }

  /** In the stop: the application closes nothing meanwhile, packets still come. */
  dump(): Orphan[] {
    const changed = this.#closings?.changed() ?? true;
    if (!changed && this.#known?.size === 0) return [];
    const found = [AF_INET, AF_INET6].flatMap((family) => this.#diagnose(family));
    const readings = new Map<string, Reading>();
    if (found.length > 0) inNamespace(this.#namespaceFd, () => this.#readAll(found, readings));
    this.#known = readings;
    return [...readings].map(([id, { content }]) => ({ id, content }));
  }

  #readAll(found: Found[], readings: Map<string, Reading>): void {
    for (const one of found) {
      const id = idOf(one);
      const reading = this.#reader.read(one, this.#known?.get(id));
      if (reading !== undefined) readings.set(id, reading);
    }
  }

  #diagnose(family: number): Found[] {
    const request = Buffer.alloc(REQUEST_BYTES);
    request.writeUInt8(family, 0);
    request.writeUInt8(IPPROTO_TCP, 1);
    request.writeUInt8(1 << (INET_DIAG_INFO - 1), 2);
    request.writeUInt32LE(STATES, 4);
    const answers = this.#diagnosis.request("sock_diag", SOCK_DIAG_BY_FAMILY, NLM_F.dump, request);
    return answers.map(({ body }) => parse(body)).filter((one) => one !== undefined);
  }

  close(): void {
    this.#closings?.close();
    this.#diagnosis.close();
    this.#reader.close();
  }
}

/** struct inet_diag_msg; undefined for what has a descriptor yet, or is of no use any more. */
function parse(body: Buffer): Found | undefined {
  const inode = body.readUInt32LE(68);
  const state = body.readUInt8(1);
  if (inode !== 0) return undefined;
  if (state === STATE.timeWait && TIME_WAIT_MS - body.readUInt32LE(52) > YOUNG_MS) return undefined;
  const family = body.readUInt8(0);
  const info = attributes(body, MESSAGE_BYTES).get(INET_DIAG_INFO);
  return {
    family,
    local: socketAddress(family, body.subarray(4, 6), body.subarray(8, 24)),
    remote: socketAddress(family, body.subarray(6, 8), body.subarray(24, 40)),
    cookie: body.readBigUInt64LE(44),
    // struct tcp_info: options that both agreed on, then the two window scales in one byte.
    negotiated: info?.readUInt8(5) ?? 0,
    sendScale: (info?.readUInt8(6) ?? 0) & 15,
    receiveScale: (info?.readUInt8(6) ?? 0) >> 4,
  };
}

function socketAddress(family: number, port: Buffer, address: Buffer): Buffer {
  const out = Buffer.alloc(family === AF_INET ? 16 : 28);
  out.writeUInt16LE(family, 0);
  port.copy(out, 2);
  address.copy(out, family === AF_INET ? 4 : 8, 0, family === AF_INET ? 4 : 16);
  return out;
}

function idOf({ local, remote }: Found): string {
  return `closed ${local.toString("hex", 2)} ${remote.toString("hex", 2)}`;
}
