/** Descriptors that the event loop watches. */

import { addon, type WatchHandle } from "./addon.ts";
import { tryCall } from "./calls.ts";
import { SystemCallError } from "./errors.ts";

export type { WatchHandle } from "./addon.ts";

const READABLE = 1;

/** Calls back, again and again, as long as there is something to read. */
export function watchReadable(fd: number, callback: () => void): WatchHandle {
  const handle = addon.watch(fd, READABLE, callback);
  if (typeof handle === "number") throw new SystemCallError("uv_poll", handle);
  return handle;
}

const POLLPRI = 2;

/** Whether a file of /proc that can be polled (mountinfo) has changed since this was asked last. */
export function hasNews(fd: number): boolean {
  const question = Buffer.alloc(8);
  question.writeInt32LE(fd, 0);
  question.writeInt16LE(POLLPRI, 4);
  return tryCall("poll", question, 1, 0) > 0;
}

export function unwatch(handle: WatchHandle): void {
  addon.unwatch(handle);
}
