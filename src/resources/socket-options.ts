/** Socket options as a list of what differs from nothing: read from one socket, set on another. */

import { call, tryCall } from "../kernel/calls.ts";
import { SOL_SOCKET } from "../kernel/socket.ts";

export type OptionValue = [level: number, option: number, value: Buffer];

const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const MOST_BYTES = 256;
const length = Buffer.alloc(4);
const scratch = Buffer.alloc(MOST_BYTES);

/** One option; empty where the kernel has none such for this socket. */
export function readOption(fd: number, level: number, option: number): Buffer {
  scratch.fill(0);
  length.writeUInt32LE(scratch.length);
  return tryCall("getsockopt", fd, level, option, scratch, length) < 0
    ? Buffer.alloc(0)
    : Buffer.from(scratch.subarray(0, length.readUInt32LE()));
}

export function readOptions(fd: number, which: ReadonlyArray<readonly [level: number, option: number]>): OptionValue[] {
  return which.flatMap(([level, option]): OptionValue[] => {
    const value = readOption(fd, level, option);
    return value.length > 0 ? [[level, option, value]] : [];
  });
}

/** Those that are so already are left alone: some may not be set to what they say. */
export function setOptions(fd: number, options: OptionValue[]): void {
  for (const [level, option, value] of options) {
    if (readOption(fd, level, option).equals(value)) continue;
    if (level !== SOL_SOCKET || (option !== SO_SNDBUF && option !== SO_RCVBUF)) {
      call("setsockopt", fd, level, option, value, value.length);
      continue;
    }
    // The kernel doubles what it is given.
    const half = Buffer.alloc(4);
    half.writeInt32LE(value.readInt32LE() / 2);
    call("setsockopt", fd, level, option === SO_SNDBUF ? SO_SNDBUFFORCE : SO_RCVBUFFORCE, half, 4);
  }
}

const name = Buffer.alloc(128);

/** getsockname or getpeername; empty when there is none. */
export function socketName(fd: number, which: "getsockname" | "getpeername"): Buffer {
  length.writeUInt32LE(name.length);
  return tryCall(which, fd, name, length) < 0 ? Buffer.alloc(0) : Buffer.from(name.subarray(0, length.readUInt32LE()));
}
