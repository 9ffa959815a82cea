/** timerfd: what is left until it fires, its interval, and ticks not read yet. */
import { call } from "../../kernel/calls.ts";
import { infoField } from "../../kernel/procfs.ts";
import { type DescriptorKind, flagsOf, O } from "../kind.ts";

export interface TimerfdState {
  flags: number;
  clock: number;
  ticks: string;
  /** [seconds, nanoseconds] */
  left: [number, number];
  interval: [number, number];
}

const TFD_IOC_SET_TICKS = 0x40085400;
const F_SETFL = 4;

function pair(text: string): [number, number] {
  const m = /\((\d+), (\d+)\)/.exec(text);
  return m ? [Number(m[1]), Number(m[2])] : [0, 0];
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
      const info = context.info(description);
      const ticks = infoField(info, "ticks");
      const left = pair(infoField(info, "it_value"));
      const interval = pair(infoField(info, "it_interval"));
      // One that has fired stands still, with nothing left, until its ticks are read.
      const stands = ticks !== "0" && left[0] === 0 && left[1] === 0;
      const clock = Number(infoField(info, "clockid"));
      return { flags: flagsOf(info), clock, ticks, left: stands ? interval : left, interval };
    }),
  create(state, context) {
    const fd = call("timerfd_create", state.clock, O.closeOnExec | O.nonBlock);
    call("fcntl", fd, F_SETFL, state.flags);
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
