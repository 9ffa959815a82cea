/** epoll: which descriptors are watched for what. Added anew in the process, by its own descriptor numbers. */
import { call } from "../../kernel/calls.ts";
import { type DescriptorKind, flagsOf, O } from "../kind.ts";

export interface EpollTarget {
  fd: number;
  events: number;
  /** The application's own word, hexadecimal. */
  data: string;
}

export interface EpollState {
  flags: number;
  targets: EpollTarget[];
}

const TARGET = /^tfd:\s*(\d+) events:\s*([0-9a-f]+) data:\s*([0-9a-f]+)/gm;
const EPOLL_CTL_ADD = 1;
const EVENT_BYTES = 12;

export const epoll: DescriptorKind<EpollState> = {
  kind: "epoll",
  version: 1,
  after: [],
  matches: (link) => link === "anon_inode:[eventpoll]",
  dump: (descriptions, context) =>
    descriptions.map((description) => {
      const info = context.info(description);
      const targets = [...info.matchAll(TARGET)].map((m) => ({
        fd: Number(m[1]),
        events: Number.parseInt(m[2]!, 16),
        data: m[3]!,
      }));
      return { flags: flagsOf(info), targets: targets.sort((a, b) => a.fd - b.fd) };
    }),
  create: () => call("epoll_create1", O.closeOnExec),
  connect: (state, fd, context) =>
    state.targets.map((target) => {
      const event = Buffer.alloc(EVENT_BYTES);
      event.writeUInt32LE(target.events, 0);
      event.writeBigUInt64LE(BigInt(`0x${target.data}`), 4);
      return ["epoll_ctl", fd, EPOLL_CTL_ADD, target.fd, context.put(event)];
    }),
};
