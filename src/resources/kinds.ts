/** All kinds of descriptors: a new one is a folder beside this file and a line here. */
import { epoll } from "./epoll/index.ts";
import { eventfd } from "./eventfd/index.ts";
import { fifo } from "./fifo/index.ts";
import { file } from "./file/index.ts";
import { inotify } from "./inotify/index.ts";
import type { DescriptorKind } from "./kind.ts";
import { mqueue } from "./mqueue/index.ts";
import { nameless } from "./nameless/index.ts";
import { netlink } from "./netlink/index.ts";
import { pidfd } from "./pidfd/index.ts";
import { pipe } from "./pipe/index.ts";
import { pty } from "./pty/index.ts";
import { signalfd } from "./signalfd/index.ts";
import { tcp } from "./tcp/index.ts";
import { timerfd } from "./timerfd/index.ts";
import { udp } from "./udp/index.ts";
import { unix } from "./unix/index.ts";

/** SO_DOMAIN, SO_TYPE, SO_PROTOCOL of a socket. */
export interface SocketType {
  domain: number;
  type: number;
  protocol: number;
}

export const KINDS: readonly DescriptorKind[] = [
  file,
  pipe,
  epoll,
  eventfd,
  timerfd,
  tcp,
  unix,
  mqueue,
  nameless,
  signalfd,
  inotify,
  pidfd,
  fifo,
  udp,
  netlink,
  pty,
] as DescriptorKind[];

const byName = new Map(KINDS.map((kind) => [kind.kind, kind]));

export function kindNamed(name: string): DescriptorKind | undefined {
  return byName.get(name);
}

/** Of a link that is a path. */
export interface FileType {
  /** Type and permissions. */
  mode: number;
  /** Where /proc has the link. */
  place: string;
}

export function kindOf(link: string, socket?: SocketType, file?: FileType): DescriptorKind | undefined {
  const byMode = file && KINDS.find((kind) => kind.matchesFile?.(link, file.mode, file.place));
  return byMode ?? KINDS.find((kind) => (socket ? kind.matchesSocket?.(socket) : kind.matches(link)));
}

/** Kinds in an order in which each comes behind those it needs. */
export function inOrder(): DescriptorKind[] {
  const ordered: DescriptorKind[] = [];
  const visit = (kind: DescriptorKind) => {
    if (ordered.includes(kind)) return;
    for (const name of kind.after) {
      const before = byName.get(name);
      if (before) visit(before);
    }
    ordered.push(kind);
  };
  for (const kind of KINDS) visit(kind);
  return ordered;
}
