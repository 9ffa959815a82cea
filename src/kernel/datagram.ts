/** One datagram to a unix socket (unix(7)): node:dgram knows only UDP. */

import { closeDescriptor, tryCall } from "./calls.ts";
import { SOCK_CLOEXEC, SOCK_DGRAM } from "./socket.ts";

const AF_UNIX = 1;
const MSG_NOSIGNAL = 0x4000;

/** @param path a socket's path, or `@name` for an abstract one. Returns 0 or −errno. */
export function sendDatagram(path: string, text: string): number {
  const name = Buffer.from(path.startsWith("@") ? `\0${path.slice(1)}` : `${path}\0`);
  const address = Buffer.alloc(2 + name.length);
  address.writeUInt16LE(AF_UNIX, 0);
  name.copy(address, 2);
  const fd = tryCall("socket", AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fd;
  const message = Buffer.from(text);
  const sent = tryCall("sendto", fd, message, message.length, MSG_NOSIGNAL, address, address.length);
  closeDescriptor(fd);
  return Math.min(sent, 0);
}
