/** The native addon, typed. Only `src/kernel/` imports this file. */
import { createRequire } from "node:module";

/** What a system call takes: an integer, null for 0, or a buffer for its address. */
export type Argument = number | bigint | null | NodeJS.ArrayBufferView;

/** Opaque: a descriptor that the event loop watches. */
export type WatchHandle = { readonly watch: unique symbol };

export interface Addon {
  /** Any system call; the result, or −errno. */
  syscall(number: number, ...args: Argument[]): number;
  /** Address of a buffer's first byte; keep the buffer alive while the kernel may use it. */
  addressOf(buffer: NodeJS.ArrayBufferView): number;
  /** Calls back when `fd` is readable (1) or writable (2), level-triggered; −errno when it cannot be watched. */
  watch(fd: number, events: number, callback: (status: number, events: number) => void): WatchHandle | number;
  unwatch(handle: WatchHandle): void;
}

export const addon: Addon = createRequire(import.meta.url)("../../build/understudy.node");
