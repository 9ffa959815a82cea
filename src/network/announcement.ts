/** The frame that tells every neighbour and switch where an address is now. */
import { isIPv6 } from "node:net";
import { checksum } from "../kernel/checksum.ts";
import { addressBytes } from "../kernel/socket.ts";

const ETH_P_ARP = 0x0806;
const ETH_P_IPV6 = 0x86dd;

/** Gratuitous ARP request for IPv4, unsolicited neighbour advertisement for IPv6. Both learnt by switches from the source. */
export function announcement(address: string, mac: string): Buffer {
  const hardware = Buffer.from(mac.split(":").map((byte) => Number.parseInt(byte, 16)));
  return isIPv6(address)
    ? advertisement(addressBytes(address), hardware)
    : gratuitousArp(addressBytes(address), hardware);
}

function ethernet(destination: Buffer, source: Buffer, type: number): Buffer {
  const out = Buffer.alloc(14);
  destination.copy(out, 0);
  source.copy(out, 6);
  out.writeUInt16BE(type, 12);
  return out;
}

function gratuitousArp(address: Buffer, hardware: Buffer): Buffer {
  const broadcast = Buffer.alloc(6, 0xff);
  const arp = Buffer.from([0, 1, 8, 0, 6, 4, 0, 1]);
  return Buffer.concat([ethernet(broadcast, hardware, ETH_P_ARP), arp, hardware, address, Buffer.alloc(6), address]);
}

/** ff02::1, every node of the link. */
const ALL_NODES = addressBytes("ff02::1");
const NEIGHBOUR_ADVERTISEMENT = 136;
const OVERRIDE = 0x20;

function advertisement(address: Buffer, hardware: Buffer): Buffer {
  const body = Buffer.concat([
    Buffer.from([NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0]),
    address,
    Buffer.from([2, 1]),
    hardware,
  ]);
  const header = Buffer.alloc(40);
  header.writeUInt8(0x60, 0);
  header.writeUInt16BE(body.length, 4);
  header.writeUInt8(58, 6);
  header.writeUInt8(255, 7);
  address.copy(header, 8);
  ALL_NODES.copy(header, 24);
  const pseudo = Buffer.alloc(8);
  pseudo.writeUInt32BE(body.length, 0);
  pseudo.writeUInt8(58, 7);
  body.writeUInt16BE(checksum(Buffer.concat([address, ALL_NODES, pseudo, body])), 2);
  const multicast = Buffer.from([0x33, 0x33, 0, 0, 0, 1]);
  return Buffer.concat([ethernet(multicast, hardware, ETH_P_IPV6), header, body]);
}
