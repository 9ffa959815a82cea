/** Short visits of the calling thread to another network namespace. */
import { addon } from "./addon.ts";
import { checked } from "./errors.ts";

const NR_OPEN = 2;
const NR_CLOSE = 3;
const NR_SETNS = 308;
const O_RDONLY_CLOEXEC = 0o2000000;
const CLONE_NEWNET = 0x40000000;

/** Opens a namespace's handle, for example `/proc/PID/ns/net`; the descriptor keeps the namespace alive. */
export function openNamespace(path: string): number {
  return checked(addon.syscall(NR_OPEN, Buffer.from(path + "\0"), O_RDONLY_CLOEXEC, 0), "open", path);
}

export function closeNamespace(fd: number): void {
  addon.syscall(NR_CLOSE, fd);
}

/**
 * Runs `fn` with this thread inside the network namespace `namespaceFd`, and always comes back. `fn` must be synchronous:
 * the event loop never runs in the foreign namespace. What `fn` opens (sockets) stays in that namespace; what it spawns
 * synchronously runs there.
 */
export function inNamespace<T>(namespaceFd: number, fn: () => T): T {
  const home = openNamespace("/proc/thread-self/ns/net");
  try {
    checked(addon.syscall(NR_SETNS, namespaceFd, CLONE_NEWNET), "setns");
    try {
      return fn();
    } finally {
      // To stay in the application's network would send this node's traffic into it: no way to go on from that.
      if (addon.syscall(NR_SETNS, home, CLONE_NEWNET) < 0) process.abort();
    }
  } finally {
    closeNamespace(home);
  }
}
