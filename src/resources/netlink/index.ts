/** Netlink sockets: address, groups, options. Answers that wait are dropped: they speak of another machine. */

import { call, setStatusFlags, statusFlags } from "../../kernel/calls.ts";
import { AF_NETLINK, SOCK_CLOEXEC, SOL_NETLINK, SOL_SOCKET } from "../../kernel/socket.ts";
import type { DescriptorKind } from "../kind.ts";
import { type OptionValue, readOption, readOptions, setOptions, socketName } from "../socket-options.ts";

export interface NetlinkState {
  type: number;
  protocol: number;
  flags: number;
  local: Buffer;
  remote: Buffer;
  /** One bit for each group. */
  groups: Buffer;
  options: OptionValue[];
}

const SO_TYPE = 3;
const SO_PROTOCOL = 38;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_LIST_MEMBERSHIPS = 9;
/** NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_KOBJECT_UEVENT, NETLINK_GENERIC. */
const KNOWN_PROTOCOLS = new Set([0, 4, 15, 16]);
const OPTIONS: Array<[number, number]> = [
  ...[7, 8, 16, 20, 21].map((option): [number, number] => [SOL_SOCKET, option]),
  // Packet info, broadcast errors, no ENOBUFS, short and extended acknowledgements, strict checks.
  ...[3, 4, 5, 10, 11, 12].map((option): [number, number] => [SOL_NETLINK, option]),
];

/**
 * @kept port, groups, options.
 * @unkept answers that wait: they speak of another machine.
 */
export const netlink: DescriptorKind<NetlinkState> = {
  kind: "netlink",
  version: 1,
  after: [],
  matches: () => false,
  matchesSocket: ({ domain, protocol }) => domain === AF_NETLINK && KNOWN_PROTOCOLS.has(protocol),
  dump: (descriptions, context) =>
    descriptions.map((description) => {
      const fd = context.take(description);
      return {
        type: readOption(fd, SOL_SOCKET, SO_TYPE).readInt32LE(),
        protocol: readOption(fd, SOL_SOCKET, SO_PROTOCOL).readInt32LE(),
        flags: statusFlags(fd),
        local: socketName(fd, "getsockname"),
        remote: socketName(fd, "getpeername"),
        groups: readOption(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS),
        options: readOptions(fd, OPTIONS),
      };
    }),
  create: (state, context) =>
    context.inNetwork(() => {
      const { type, protocol, local, remote, groups } = state;
      const fd = call("socket", AF_NETLINK, type | SOCK_CLOEXEC, protocol);
      if (local.readUInt32LE(4) !== 0) call("bind", fd, local, local.length);
      for (let group = 1; group <= groups.length * 8; group++) {
        if (((groups[(group - 1) >> 3]! >> ((group - 1) & 7)) & 1) === 0) continue;
        const value = Buffer.alloc(4);
        value.writeUInt32LE(group);
        call("setsockopt", fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, value, 4);
      }
      if (remote.length >= 12 && remote.readUInt32LE(4) + remote.readUInt32LE(8) !== 0)
        call("connect", fd, remote, remote.length);
      setOptions(fd, state.options);
      setStatusFlags(fd, state.flags);
      return fd;
    }),
};
