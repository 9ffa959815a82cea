/** timerfd: what is left until it fires, its interval, and ticks not read yet. */
import { call, setStatusFlags } from "../../kernel/calls.ts";
import { descriptorInfo, infoField } from "../../kernel/procfs.ts";
import { type Description, type DescriptorKind, type DumpContext, flagsOf, O } from "../kind.ts";

export interface TimerfdState {
  flags: number;
  clock: number;
  ticks: string;
  /** [seconds, nanoseconds] */
  left: [number, number];
  interval: [number, number];
}

const TFD_IOC_SET_TICKS = 0x40085400;

function pair(text: string): [number, number] {
  const m = /\((\d+), (\d+)\)/.exec(text);
  return m ? [Number(m[1]), Number(m[2])] : [0, 0];
}

const isNone = ([seconds, nanoseconds]: [number, number]): boolean => seconds === 0 && nanoseconds === 0;

/** One that has fired stands still until somebody looks at it (timerfd_gettime): only then the kernel counts what it missed. */
function wake(description: Description, context: DumpContext): string {
  const fd = context.take(description);
  call("timerfd_gettime", fd, Buffer.alloc(32));
  return descriptorInfo(process.pid, fd);
}

/**
 * @kept what is left, interval, ticks not read, clock, flags.
 */
export const timerfd: DescriptorKind<TimerfdState> = {
  kind: "timerfd",
  version: 1,
  after: [],
  matches: (link) => link === "anon_inode:[timerfd]",
  dump: (descriptions, context) =>
    descriptions.map((description) => {
      const before = context.info(description);
      const isOver = (info: string) => infoField(info, "ticks") !== "0" && isNone(pair(infoField(info, "it_value")));
      const info = isOver(before) ? wake(description, context) : before;
      const left = pair(infoField(info, "it_value"));
      const interval = pair(infoField(info, "it_interval"));
      const [ticks, clock] = [infoField(info, "ticks"), Number(infoField(info, "clockid"))];
      return { flags: flagsOf(before), clock, ticks, left: isOver(info) ? interval : left, interval };
    }),
  create(state, context) {
    const fd = call("timerfd_create", state.clock, O.closeOnExec | O.nonBlock);
    setStatusFlags(fd, state.flags);
    const value = Buffer.alloc(32);
    [...state.interval, ...state.left].forEach((n, i) => value.writeBigInt64LE(BigInt(n), 8 * i));
    context.atLife(() => {
      call("timerfd_settime", fd, 0, value, null);
      // Setting the time forgets ticks.
      if (state.ticks === "0" || state.ticks === "") return;
      const word = Buffer.alloc(8);
      word.writeBigUInt64LE(BigInt(state.ticks));
      call("ioctl", fd, TFD_IOC_SET_TICKS, word);
    });
    return fd;
  },
};
