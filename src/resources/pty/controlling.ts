/**
 * Controlling terminals. A session's leader takes one (TIOCSCTTY); all others have it from their parents, by fork alone: a clone's
 * processes, which are born before any descriptor is made, must find it there. See ioctl_tty(2), tty_jobctl.c.
 */

import { call, closeDescriptor, openInRoot } from "../../kernel/calls.ts";
import { O_NOCTTY } from "../../kernel/files.ts";
import { statFields } from "../../kernel/procfs.ts";
import { O } from "../kind.ts";

/** Field 7 of /proc/PID/stat, behind the name. */
const TERMINAL_FIELD = 4;
const PTS_MAJOR = 136;
const PTS_MAJORS = 8;
const TIOCGPTN = 0x80045430;
const TIOCSPTLCK = 0x40045431;
export const TIOCSCTTY = 0x540e;
export const TIOCNOTTY = 0x5422;
const value = Buffer.alloc(4);

/** The number in /dev/pts of a process's controlling terminal; undefined when it has none, or one that is no pseudo-terminal. */
export function controllingTerminal(pid: number): number | undefined {
  const device = Number(statFields(pid)[TERMINAL_FIELD]);
  const major = ((device >>> 8) & 0xfff) - PTS_MAJOR;
  const minor = (device & 0xff) | ((device >>> 12) & 0xfff00);
  return major >= 0 && major < PTS_MAJORS ? major * 256 + minor : undefined;
}

/** Numbers are given out in a row: terminals in between are made, too, and closed when the wanted ones are there. */
export function makeMasters(rootFd: number, wanted: readonly number[]): Map<number, number> {
  const made = new Map<number, number>();
  const between: number[] = [];
  while (wanted.some((index) => !made.has(index))) {
    const fd = openInRoot(rootFd, "/dev/pts/ptmx", O.readWrite | O_NOCTTY);
    call("ioctl", fd, TIOCGPTN, value);
    const index = value.readInt32LE();
    if (wanted.includes(index)) made.set(index, fd);
    else between.push(fd);
    if (index > Math.max(...wanted)) break;
  }
  for (const fd of between) closeDescriptor(fd);
  return made;
}

/** Opens the other side; the terminal is not locked any more then. */
export function openSlave(rootFd: number, master: number, index: number): number {
  value.writeInt32LE(0);
  call("ioctl", master, TIOCSPTLCK, value);
  return openInRoot(rootFd, `/dev/pts/${index}`, O.readWrite | O_NOCTTY);
}
