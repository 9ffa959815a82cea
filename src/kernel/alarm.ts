/** A timer that is exact to some microseconds, where the event loop's own timers count whole milliseconds. */
import { call, closeDescriptor, tryCall } from "./calls.ts";
import { unwatch, type WatchHandle, watchReadable } from "./watch.ts";

const CLOCK_MONOTONIC = 1;
const TFD_NONBLOCK_CLOEXEC = 0o2004000;
const NS_PER_MS = 1e6;
const NS_PER_S = 1e9;

export class Alarm {
  readonly #fd = call("timerfd_create", CLOCK_MONOTONIC, TFD_NONBLOCK_CLOEXEC);
  /** struct itimerspec: interval, value */
  readonly #time = Buffer.alloc(32);
  readonly #read = Buffer.alloc(8);
  readonly #watch: WatchHandle;
  #ring: () => void = () => {};

  constructor() {
    this.#watch = watchReadable(this.#fd, () => {
      tryCall("read", this.#fd, this.#read, this.#read.length);
      this.#ring();
    });
  }

  /** Rings once, after so many milliseconds; what was set before is forgotten. */
  set(ms: number, ring: () => void): void {
    this.#ring = ring;
    this.#arm(Math.max(1, Math.ceil(ms * NS_PER_MS)));
  }

  clear(): void {
    this.#ring = () => {};
    this.#arm(0);
  }

  #arm(ns: number): void {
    this.#time.writeBigInt64LE(BigInt(Math.floor(ns / NS_PER_S)), 16);
    this.#time.writeBigInt64LE(BigInt(ns % NS_PER_S), 24);
    call("timerfd_settime", this.#fd, 0, this.#time, null);
  }

  close(): void {
    unwatch(this.#watch);
    closeDescriptor(this.#fd);
  }
}
