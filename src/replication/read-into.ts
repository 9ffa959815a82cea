/**
 * A socket's bytes come in memory that is used again and again, not in a new piece each. Node's `onread` does that, but only for
 * sockets that `connect` makes by itself, not for a server's: here it is set by the names that it has inside.
 */
import type { TLSSocket } from "node:tls";

interface Reading {
  _handle?: { useUserBuffer?: (buffer: Buffer) => void } | null;
  [name: symbol]: unknown;
}

/**
 * From now on what is read lies at the beginning of what `room` returned last, so many bytes as `take` is told; after each `take`
 * it is asked again. Call before anything has come.
 * @returns false, and nothing has changed, where this Node.js has no such way, or something has come already
 */
export function readInto(socket: TLSSocket, room: () => Buffer, take: (length: number) => void): boolean {
  const reading = socket as unknown as Reading;
  const handle = reading._handle;
  const inside = new Map(Object.getOwnPropertySymbols(socket).map((symbol) => [symbol.description, symbol]));
  const [own, called, next] = [inside.get("kBuffer"), inside.get("kBufferCb"), inside.get("kBufferGen")];
  if (!own || !called || !next || !handle?.useUserBuffer || socket.readableLength > 0) return false;
  const first = room();
  reading[own] = first;
  reading[called] = take;
  reading[next] = room;
  handle.useUserBuffer(first);
  socket.resume();
  return true;
}
