/** epoll: which descriptors are watched for what. Added anew in the process, by its own descriptor numbers. */
import { call, tryCall } from "../../kernel/calls.ts";
import { type Description, type DescriptorKind, type DumpContext, flagsOf, O } from "../kind.ts";
import { EpollItems } from "./items.ts";

export interface EpollTarget {
  fd: number;
  events: number;
  /** The application's own word, hexadecimal. */
  data: string;
}

/** Watched still, though its number has been closed: somebody else has it open. */
export interface EpollOrphan extends Omit<EpollTarget, "fd"> {
  description: string;
}

export interface EpollState {
  flags: number;
  /** The process whose numbers the targets are, as the application sees it: others that share it have others. */
  owner: number;
  targets: EpollTarget[];
  orphans: EpollOrphan[];
}

const TARGET = /^tfd:\s*(\d+) events:\s*([0-9a-f]+) data:\s*([0-9a-f]+)/gm;
const EPOLL_CTL_ADD = 1;
const EVENT_BYTES = 12;

const KCMP_EPOLL_TFD = 7;
/** What a number stands for may change without a trace in what fdinfo tells: looked at again after so long. */
const FRESH_MS = 1000;
const slot = Buffer.alloc(12);

interface Known {
  info: string;
  at: number;
  state: EpollState;
}

/** Where the kernel tells of what is watched without a text, and of what each descriptor is. */
interface Numbered {
  number: bigint;
  tables: number;
  state: EpollState;
}

const numbered = new WeakMap<Description, Numbered>();

/** The state of before if nothing of it can have changed: what is watched, which descriptors stand for it. */
function unchanged(description: Description, context: DumpContext, take: () => EpollState): EpollState {
  const file = context.file(description);
  const number = file === undefined ? 0n : (EpollItems.tryOpen()?.number(file) ?? 0n);
  if (number === 0n) return take();
  const before = numbered.get(description);
  if (before?.number === number && before.tables === context.tables) return before.state;
  known.delete(description);
  const state = take();
  numbered.set(description, { number, tables: context.tables, state });
  return state;
}

function readIfOther(description: Description, context: DumpContext): EpollState {
  const info = context.info(description);
  const before = known.get(description);
  if (before && before.info === info && Date.now() - before.at < FRESH_MS) return before.state;
  const state = read(description, info, context);
  known.set(description, { info, at: Date.now(), state });
  return state;
}

const known = new WeakMap<Description, Known>();

/** Whether a descriptor is what is watched, as the `nth` target of that number. */
function isTarget(epoll: Description, target: EpollTarget, nth: number, pid: number, fd: number): boolean {
  slot.writeUInt32LE(epoll.fd, 0);
  slot.writeUInt32LE(target.fd, 4);
  slot.writeUInt32LE(nth, 8);
  return tryCall("kcmp", pid, epoll.pid, KCMP_EPOLL_TFD, fd, slot) === 0;
}

function read(description: Description, info: string, context: DumpContext): EpollState {
  const all = [...info.matchAll(TARGET)].map((m) => ({
    fd: Number(m[1]),
    events: Number.parseInt(m[2]!, 16),
    data: m[3]!,
  }));
  const state: EpollState = {
    flags: flagsOf(info),
    owner: context.virtualPid(description.pid),
    targets: [],
    orphans: [],
  };
  const seen = new Map<number, number>();
  for (const target of all) {
    const nth = seen.get(target.fd) ?? 0;
    seen.set(target.fd, nth + 1);
    // One in flight belongs to nobody who has its targets.
    const here = description.pid !== process.pid && isTarget(description, target, nth, description.pid, target.fd);
    if (here) state.targets.push(target);
    else {
      const found = context.find((pid, fd) => isTarget(description, target, nth, pid, fd));
      const { events, data } = target;
      if (found !== undefined) state.orphans.push({ description: found, events, data });
    }
  }
  state.targets.sort((a, b) => a.fd - b.fd);
  return state;
}

function eventOf({ events, data }: Omit<EpollTarget, "fd">): Buffer {
  const event = Buffer.alloc(EVENT_BYTES);
  event.writeUInt32LE(events, 0);
  event.writeBigUInt64LE(BigInt(`0x${data}`), 4);
  return event;
}

/**
 * @kept every target with its events and data word, also one whose number has been closed while somebody has it open; edge-
 *   triggered, one-shot (spent or armed), nested, shared by processes, on its way in a queue.
 * @unkept that an edge was told already: what is ready after a switch is told once more, which epoll(7) allows.
 */
export const epoll: DescriptorKind<EpollState> = {
  kind: "epoll",
  version: 2,
  after: [],
  matches: (link) => link === "anon_inode:[eventpoll]",
  prepare: () => void EpollItems.tryOpen(),
  dump: (descriptions, context) =>
    descriptions.map((description) => unchanged(description, context, () => readIfOther(description, context))),
  create(state, context) {
    const fd = call("epoll_create1", O.closeOnExec);
    context.whenCreated((own) => {
      for (const orphan of state.orphans) {
        const target = own.get(orphan.description);
        // Twice under numbers that are both closed: once is as good.
        if (target !== undefined) tryCall("epoll_ctl", fd, EPOLL_CTL_ADD, target, eventOf(orphan));
      }
    });
    return fd;
  },
  connect: (state, fd, context) =>
    (context.virtualPid === state.owner ? state.targets : []).map((target) => [
      "epoll_ctl",
      fd,
      EPOLL_CTL_ADD,
      target.fd,
      context.put(eventOf(target)),
    ]),
};
