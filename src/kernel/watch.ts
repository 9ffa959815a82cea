/** Descriptors that the event loop watches. */
import { addon, type WatchHandle } from "./addon.ts";
import { SystemCallError } from "./errors.ts";

export type { WatchHandle } from "./addon.ts";

const READABLE = 1;

/** Calls back, again and again, as long as there is something to read. */
export function watchReadable(fd: number, callback: () => void): WatchHandle {
  const handle = addon.watch(fd, READABLE, callback);
  if (typeof handle === "number") throw new SystemCallError("uv_poll", handle);
  return handle;
}

export function unwatch(handle: WatchHandle): void {
  addon.unwatch(handle);
}
