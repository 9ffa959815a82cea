/** What a unix socket is in a checkpoint. */
import type { Unheard } from "./unaccepted.ts";

export interface UnixMessage {
  content: Buffer;
  /** Descriptions of the descriptors in flight with it. */
  descriptors: string[];
  /** The sender's address, of a datagram. */
  from: Buffer;
  /** The sender, pid as the application sees it; only where the receiver asks for it (SO_PASSCRED). */
  credentials: UnixCredentials | undefined;
}

export interface UnixCredentials {
  /** As the application sees it; 0: of a process that has ended. */
  pid: number;
  uid: number;
  gid: number;
}

/** The file that a socket is bound to. */
export interface UnixName {
  /** sockaddr_un as bound, without trailing bytes; empty when not bound. */
  address: Buffer;
  /** For a name in the file system: what it was relative to. */
  directory: string;
  /** Permissions and owner of its file; undefined when the name leads to it no longer, or is abstract. */
  file: { mode: number; uid: number; gid: number } | undefined;
  /** Tells files of the same name from each other. */
  key: string;
}

export interface UnixState {
  inode: number;
  type: number;
  /** A process that has it, as the application sees it; 0: it is in flight. */
  owner: number;
  flags: number;
  name: UnixName;
  listening: boolean;
  backlog: number;
  /** Of a listening socket: inodes of those who wait, 0 for one that has closed meanwhile. */
  waiting: number[];
  /** What each of them has sent already. */
  unheard?: Unheard[][];
  /** Of datagrams: from one to whom it does not talk it takes one more than so many. The namespace's when it was made. */
  queueLimit?: number;
  /** Inode; 0: one that is closed or has not been accepted; −1: not connected. */
  peer: number;
  /** SO_PEERCRED. */
  peerCredentials: UnixCredentials | undefined;
  /** 1: nothing is received any more, 2: nothing is sent. */
  shutdown: number;
  /** SOL_SOCKET options with their values. */
  options: Array<[option: number, value: Buffer]>;
  /** Instructions of SO_ATTACH_FILTER, where there is one. */
  filter?: Buffer;
  queue: UnixMessage[];
}

export const AF_UNIX = 1;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_SEQPACKET = 5;
export const SO = {
  sendBuffer: 7,
  receiveBuffer: 8,
  passCredentials: 16,
  peerCredentials: 17,
  receiveLowWater: 18,
  receiveTimeout: 20,
  sendTimeout: 21,
  sendBufferForce: 32,
  receiveBufferForce: 33,
  passSecurity: 34,
  peekOffset: 42,
  timestamp: 29,
  timestampNs: 35,
  timestamping: 37,
  priority: 12,
  mark: 36,
  oobInline: 10,
  receiveQueueOverflow: 40,
  bufferLock: 72,
  passPidfd: 76,
} as const;
/** Those that are kept, with the sizes of their values. */
export const KEPT_OPTIONS: ReadonlyArray<[option: number, bytes: number]> = [
  [SO.passCredentials, 4],
  [SO.receiveTimeout, 16],
  [SO.sendTimeout, 16],
  [SO.sendBuffer, 4],
  [SO.receiveBuffer, 4],
  [SO.peekOffset, 4],
  [SO.passSecurity, 4],
  [SO.receiveLowWater, 4],
  [SO.priority, 4],
  [SO.mark, 4],
  [SO.oobInline, 4],
  [SO.receiveQueueOverflow, 4],
  [SO.timestampNs, 4],
  [SO.timestamp, 4],
];
/** Those that not every kernel has. */
export const NEWER_OPTIONS: readonly number[] = [SO.passPidfd, SO.timestamping, SO.bufferLock];
