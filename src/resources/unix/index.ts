/** Unix sockets: stream, datagram, seqpacket; connected, listening with those who wait, and what is in their queues. */
import type { DescriptorKind } from "../kind.ts";
import { dumpUnix } from "./dump.ts";
import { restoreUnix } from "./restore.ts";
import { AF_UNIX, type UnixState } from "./state.ts";

export type { UnixState } from "./state.ts";

/**
 * @kept stream, datagram and seqpacket sockets: names, peers, what waits in them with credentials and descriptors in flight,
 *   listening ones with those who wait.
 * @unkept a socket whose other end is outside the application (refused); an empty message, behind others, with descriptors that nobody
 *   has any more (refused from the second checkpoint on); empty messages that were looked at before, and how many datagrams a socket
 *   takes, where the kernel's memory cannot be read.
 */
export const unix: DescriptorKind<UnixState> = {
  kind: "unix",
  version: 2,
  after: [],
  matches: () => false,
  matchesSocket: ({ domain }) => domain === AF_UNIX,
  dump: dumpUnix,
  create: (state, context) => restoreUnix([state], context)[0]!,
  createAll: restoreUnix,
};
