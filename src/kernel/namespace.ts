/** Short visits of the calling thread to another network or IPC namespace. */
import { call, closeDescriptor, openPath, tryCall } from "./calls.ts";

const O_RDONLY = 0;
const CLONE_NEWNET = 0x40000000;
const CLONE_NEWIPC = 0x08000000;

/** Opens a namespace's handle, for example `/proc/PID/ns/net`; the descriptor keeps the namespace alive. */
export function openNamespace(path: string): number {
  return openPath(path, O_RDONLY);
}

export function closeNamespace(fd: number): void {
  closeDescriptor(fd);
}

/**
 * Runs `fn` with this thread inside the network namespace `namespaceFd`, and always comes back. `fn` must be synchronous:
 * the event loop never runs in the foreign namespace. What `fn` opens (sockets) stays in that namespace; what it spawns
 * synchronously runs there.
 */
export function inNamespace<T>(namespaceFd: number, fn: () => T): T {
  // To stay in the application's network would send this node's traffic into it.
  return visit(namespaceFd, "net", CLONE_NEWNET, fn);
}

/** As `inNamespace`, for System V objects and POSIX message queues. */
export function inIpcNamespace<T>(namespaceFd: number, fn: () => T): T {
  return visit(namespaceFd, "ipc", CLONE_NEWIPC, fn);
}

function visit<T>(namespaceFd: number, name: string, type: number, fn: () => T): T {
  const home = openNamespace(`/proc/thread-self/ns/${name}`);
  try {
    call("setns", namespaceFd, type);
    try {
      return fn();
    } finally {
      // No way to go on from a foreign namespace.
      if (tryCall("setns", home, type) < 0) process.abort();
    }
  } finally {
    closeNamespace(home);
  }
}
