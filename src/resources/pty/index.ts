/** Pseudo-terminals: both sides, settings, window size, what waits on either side, session and foreground group. */

import { readFileSync, statSync } from "node:fs";
import {
  call,
  closeDescriptor,
  openInRoot,
  openPath,
  setStatusFlags,
  statusFlags,
  tryCall,
} from "../../kernel/calls.ts";
import { OperatingError } from "../../kernel/failure.ts";
import { AT_EMPTY_PATH, O_NOCTTY } from "../../kernel/files.ts";
import { type CreateContext, type Description, type DescriptorKind, type DumpContext, O } from "../kind.ts";
import { makeMasters, TIOCSCTTY } from "./controlling.ts";
import {
  events,
  peekMaster,
  peekSlave,
  printBehind,
  putBack,
  putIntoSlave,
  readTermios,
  sendBehind,
  setTermios,
} from "./queue.ts";
import { NONE, waitingAt } from "./waiting.ts";

export interface PtyState {
  /** The number in /dev/pts. */
  index: number;
  flags: number;
  /** Only with the master: what the terminal is. */
  terminal: Terminal | undefined;
}

export interface Terminal {
  /** struct termios2 and struct winsize. */
  termios: Buffer;
  window: Buffer;
  locked: number;
  packets: number;
  mode: number;
  uid: number;
  gid: number;
  /** As the application sees them; 0: none. */
  session: number;
  foreground: number;
  /** The last program that had it open has closed it. */
  hungUp: boolean;
  /** Typed and not read yet; written and not read yet. */
  input: Buffer;
  output: Buffer;
  /** Behind that, what the queues have had no room for yet. */
  inputComing?: Buffer;
  outputComing?: Buffer;
}

const TYPE = 0o170000;
const CHARACTER = 0o020000;
const TIOC = {
  ptyNumber: 0x80045430,
  setLock: 0x40045431,
  device: 0x80045432,
  getPackets: 0x80045438,
  getLock: 0x80045439,
  setPackets: 0x5420,
  getWindow: 0x5413,
  setWindow: 0x5414,
  getSession: 0x5429,
  getGroup: 0x540f,
  setGroup: 0x5410,
} as const;
const WINDOW_BYTES = 8;
const POLLHUP = 0x10;
const value = Buffer.alloc(4);
const PTS_MAJOR = 136;
const NOTHING = Buffer.alloc(0);

function isMaster(link: string): boolean {
  return link === "/dev/ptmx" || link === "/dev/pts/ptmx";
}

function number(fd: number, request: number): number {
  value.writeInt32LE(0);
  return tryCall("ioctl", fd, request, value) < 0 ? -1 : value.readInt32LE();
}

function set(fd: number, request: number, n: number): void {
  value.writeInt32LE(n);
  call("ioctl", fd, request, value);
}

/** The pid in the application of a group whose leader may have ended. */
function virtualGroup(pid: number, context: DumpContext, pids: Iterable<number>): number {
  if (pid <= 0) return 0;
  const leader = context.virtualPid(pid);
  if (leader > 0) return leader;
  for (const member of pids) {
    const status = readFileSync(`/proc/${member}/status`, "latin1");
    const groups = /^NSpgid:\t(.*)$/m.exec(status)?.[1]?.split("\t") ?? [];
    if (Number(groups[0]) === pid) return Number(groups.at(-1));
  }
  return 0;
}

function lookAt(
  master: number,
  { pid }: Description,
  index: number,
  hasSlave: boolean,
  context: DumpContext,
): Terminal {
  const window = Buffer.alloc(WINDOW_BYTES);
  call("ioctl", master, TIOC.getWindow, window);
  const path = `/proc/${pid}/root/dev/pts/${index}`;
  const { mode, uid, gid } = statSync(path);
  const packets = number(master, TIOC.getPackets);
  const output = waitingAt(master, "master") ?? { arrived: peekMaster(master, packets === 1), coming: NOTHING };
  const slave = hasSlave ? openPath(path, O.readWrite | O_NOCTTY | O.nonBlock) : -1;
  try {
    const input = slave < 0 ? NONE : (waitingAt(slave, "slave") ?? { arrived: peekSlave(slave), coming: NOTHING });
    return {
      termios: readTermios(master),
      window,
      locked: number(master, TIOC.getLock),
      packets,
      mode: mode & 0o7777,
      uid,
      gid,
      session: Math.max(0, context.virtualPid(number(master, TIOC.getSession))),
      foreground: virtualGroup(number(master, TIOC.getGroup), context, context.processes()),
      hungUp: (events(master) & POLLHUP) !== 0,
      input: input.arrived,
      output: output.arrived,
      ...(input.coming.length > 0 && { inputComing: input.coming }),
      ...(output.coming.length > 0 && { outputComing: output.coming }),
    };
  } finally {
    closeDescriptor(slave);
  }
}

function refuse({ link, fd, pid }: Description): OperatingError {
  return new OperatingError(
    "unprotectable-terminal",
    `The application has the terminal "${link}" open (descriptor ${fd}), whose other side is outside`,
    { remedy: "Start it without a terminal, or inside tmux or script.", details: { link, fd, pid } },
  );
}

function dump(descriptions: Description[], context: DumpContext): PtyState[] {
  const seen = descriptions.map((description) => {
    const fd = context.take(description);
    const flags = statusFlags(fd);
    if (isMaster(description.link)) return { description, fd, flags, master: true, index: number(fd, TIOC.ptyNumber) };
    const device = number(fd, TIOC.device);
    if (device >>> 8 !== PTS_MAJOR) throw refuse(description);
    return { description, fd, flags, master: false, index: device & 0xff };
  });
  const masters = (context.shared.get("pty") as Set<number> | undefined) ?? new Set<number>();
  context.shared.set("pty", masters);
  for (const { master, index } of seen) if (master) masters.add(index);
  return seen.map(({ description, fd, flags, master, index }) => {
    if (!master) {
      context.atEnd(() => {
        if (!masters.has(index)) throw refuse(description);
      });
      return { index, flags, terminal: undefined };
    }
    const hasSlave = seen.some((other) => !other.master && other.index === index);
    return { index, flags, terminal: lookAt(fd, description, index, hasSlave, context) };
  });
}

/** Those that sessions have already, and new ones. */
function mastersOf(states: PtyState[], context: CreateContext): Map<number, number> {
  const wanted = states.filter(({ terminal }) => terminal).map(({ index }) => index);
  const there = new Map<number, number>();
  for (const index of wanted) {
    const master = context.terminal(index);
    if (master !== undefined) there.set(index, master);
  }
  const missing = wanted.filter((index) => !there.has(index));
  return new Map([...there, ...makeMasters(context.rootFd, missing)]);
}

function openSlave(index: number, flags: number, context: CreateContext): number {
  return openInRoot(context.rootFd, `/dev/pts/${index}`, (flags & (O.accessMode | O.nonBlock)) | O_NOCTTY);
}

function giveTerminal(master: number, index: number, terminal: Terminal, context: CreateContext): void {
  set(master, TIOC.setLock, 0);
  setTermios(master, terminal.termios);
  call("ioctl", master, TIOC.setWindow, terminal.window);
  // Kept open until the application has its own: the last one that closes it hangs up.
  const slave = openSlave(index, O.readWrite, context);
  call("fchmod", slave, terminal.mode);
  tryCall("fchownat", slave, Buffer.from("\0"), terminal.uid, terminal.gid, AT_EMPTY_PATH);
  putIntoSlave(slave, terminal.input);
  giveSession(slave, terminal, context);
  putBack(master, terminal.output);
  printBehind(slave, terminal.outputComing ?? NOTHING);
  // It means to the terminal what it would have meant, to its session as well.
  sendBehind(master, terminal.inputComing ?? NOTHING);
  if (terminal.hungUp) closeDescriptor(slave);
  else context.whenCreated(() => closeDescriptor(slave));
  if (terminal.packets > 0) set(master, TIOC.setPackets, 1);
  if (terminal.locked > 0) context.whenCreated(() => set(master, TIOC.setLock, 1));
}

/** Its session's leader takes it as its own: nobody else can. */
function giveSession(slave: number, { session, foreground }: Terminal, context: CreateContext): void {
  const inside = session > 0 ? context.inside(session) : undefined;
  if (!inside) return;
  const { remote } = inside;
  const fd = inside.give(slave);
  remote.reset();
  if (remote.tryCall("ioctl", fd, TIOCSCTTY, 0) === 0 && foreground > 0) {
    const group = Buffer.alloc(4);
    group.writeInt32LE(foreground);
    remote.tryCall("ioctl", fd, TIOC.setGroup, remote.put(group));
  }
  remote.call("close", fd);
  remote.reset();
}

/**
 * @kept numbers, both sides, settings, window size, what waits on either side, session and foreground group.
 */
export const pty: DescriptorKind<PtyState> = {
  kind: "pty",
  version: 1,
  after: [],
  matches: () => false,
  matchesFile: (link, mode) =>
    (mode & TYPE) === CHARACTER && (isMaster(link) || link === "/dev/tty" || link.startsWith("/dev/pts/")),
  dump,
  create(state, context) {
    return this.createAll!([state], context)[0]!;
  },
  createAll(states, context) {
    const masters = states.length > 0 ? mastersOf(states, context) : new Map<number, number>();
    for (const { index, terminal } of states) if (terminal) giveTerminal(masters.get(index)!, index, terminal, context);
    return states.map(({ index, flags, terminal }) => {
      const fd = terminal ? masters.get(index)! : openSlave(index, flags, context);
      setStatusFlags(fd, flags);
      return fd;
    });
  },
};
