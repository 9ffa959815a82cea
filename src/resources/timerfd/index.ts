/** timerfd: when it fires, its interval, and ticks not read yet. */
import { call, setStatusFlags } from "../../kernel/calls.ts";
import { CLOCK, type Clocks, clocksAhead, readClock } from "../../kernel/clocks.ts";
import { descriptorInfo, infoField } from "../../kernel/procfs.ts";
import { type Description, type DescriptorKind, type DumpContext, flagsOf, O } from "../kind.ts";

export interface TimerfdState {
  flags: number;
  clock: number;
  /** Flags of timerfd_settime(2). */
  settime: number;
  ticks: string;
  /** [seconds, nanoseconds] until it fires, from `at` on. */
  left: [number, number];
  interval: [number, number];
  /** Nanoseconds of the application's clock by which it goes on, when it was looked at. */
  at: string;
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

/** TFD_TIMER_ABSTIME */
const ABSOLUTE = 1;
const SECOND_NS = 1_000_000_000n;
const toNs = ([seconds, nanoseconds]: readonly number[]) => BigInt(seconds!) * SECOND_NS + BigInt(nanoseconds!);

const isOfDay = (clock: number) => clock === CLOCK.realtime || clock === CLOCK.realtimeAlarm;

/**
 * The clock by which a timer goes on: its number, and by how much the application's is ahead of this process's. A while on the
 * clock of the day goes by the monotonic clock, as in the kernel (kernel/time/hrtimer.c).
 */
function clockOf({ clock, settime }: Pick<TimerfdState, "clock" | "settime">, ahead: Clocks): [number, bigint] {
  if (isOfDay(clock)) return settime & ABSOLUTE ? [CLOCK.realtime, 0n] : [CLOCK.monotonic, ahead.monotonic];
  return clock === CLOCK.monotonic ? [clock, ahead.monotonic] : [CLOCK.boottime, ahead.boottime];
}

/** What it has come to by then: its clock has gone on. */
export function timerAt(state: TimerfdState, now: bigint): { ticks: bigint; left: bigint } {
  const [ticks, left, interval] = [BigInt(state.ticks), toNs(state.left), toNs(state.interval)];
  const gone = now - BigInt(state.at);
  if (left === 0n || gone < left) return { ticks, left: gone > 0n && left > 0n ? left - gone : left };
  if (interval === 0n) return { ticks: ticks + 1n, left: 0n };
  const missed = (gone - left) / interval + 1n;
  return { ticks: ticks + missed, left: left + missed * interval - gone };
}

/**
 * @kept when it is due by its clock, which goes on; interval, ticks not read, clock, flags.
 */
export const timerfd: DescriptorKind<TimerfdState> = {
  kind: "timerfd",
  version: 2,
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
      const settime = Number.parseInt(infoField(info, "settime flags"), 8);
      const [number, ahead] = clockOf({ clock, settime }, context.clocksAhead());
      const at = String(readClock(number) + ahead);
      return { flags: flagsOf(before), clock, settime, ticks, left: isOver(info) ? interval : left, interval, at };
    }),
  create(state, context) {
    const fd = call("timerfd_create", state.clock, O.closeOnExec | O.nonBlock);
    setStatusFlags(fd, state.flags);
    context.atLife(() => {
      const [number, ahead] = clockOf(state, clocksAhead(context.inside().pid));
      const now = readClock(number);
      const { ticks, left } = timerAt(state, now + ahead);
      // By the time itself, nothing is lost on the way; a while on the clock of the day has none.
      const settime = isOfDay(state.clock) ? state.settime : state.settime | ABSOLUTE;
      const due = left > 0n && settime & ABSOLUTE ? now + left : left;
      const value = Buffer.alloc(32);
      const words = [toNs(state.interval), due].flatMap((ns) => [ns / SECOND_NS, ns % SECOND_NS]);
      words.forEach((n, i) => value.writeBigInt64LE(n, 8 * i));
      call("timerfd_settime", fd, settime, value, null);
      // Setting the time forgets ticks.
      if (ticks === 0n) return;
      const word = Buffer.alloc(8);
      word.writeBigUInt64LE(ticks);
      call("ioctl", fd, TFD_IOC_SET_TICKS, word);
    });
    return fd;
  },
};
