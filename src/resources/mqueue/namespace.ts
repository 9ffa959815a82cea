/** The POSIX message queues of an IPC namespace, by name: a mount of their file system that is at no place (mq_overview(7)). */
import { readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { call, closeDescriptor, cString } from "../../kernel/calls.ts";
import { O_DIRECTORY, O_NONBLOCK, O_RDONLY, openBelow, readEntries } from "../../kernel/files.ts";
import { inIpcNamespace, openNamespace } from "../../kernel/namespace.ts";

const FSCONFIG_CREATE = 6;
const LIMITS = "/proc/sys/fs/mqueue";

/** Of a namespace: the most messages, and the largest, that a queue may be made for. */
export interface QueueLimits {
  messages: number;
  bytes: number;
}

interface Followed {
  namespace: string;
  /** Keeps the namespace: another could get its number otherwise, while the mount of the old one shows nothing any more. */
  handle: number;
  directory: number;
}

let followed: Followed | undefined;

/** Runs `body` with this thread in a process's IPC namespace. */
export function inNamespaceOf<T>(pid: number, body: () => T): T {
  const fd = openNamespace(`/proc/${pid}/ns/ipc`);
  try {
    return inIpcNamespace(fd, body);
  } finally {
    closeDescriptor(fd);
  }
}

function mountQueues(pid: number): number {
  const context = inNamespaceOf(pid, () => call("fsopen", cString("mqueue"), 1));
  try {
    call("fsconfig", context, FSCONFIG_CREATE, null, null, 0);
    const mount = call("fsmount", context, 1, 0);
    try {
      return openBelow(mount, "", O_RDONLY | O_DIRECTORY);
    } finally {
      closeDescriptor(mount);
    }
  } finally {
    closeDescriptor(context);
  }
}

function directoryOf(pid: number): number {
  const namespace = readlinkSync(`/proc/${pid}/ns/ipc`);
  if (followed?.namespace === namespace) return followed.directory;
  unfollow();
  const handle = openNamespace(`/proc/${pid}/ns/ipc`);
  try {
    followed = { namespace, handle, directory: mountQueues(pid) };
  } catch (error) {
    closeDescriptor(handle);
    throw error;
  }
  return followed.directory;
}

/** Lets go of the namespace whose queues were read last. */
export function unfollow(): void {
  if (!followed) return;
  closeDescriptor(followed.directory);
  closeDescriptor(followed.handle);
  followed = undefined;
}

/** Descriptors of all that have a name, which the caller closes. @param pid of a process in the namespace */
export function openQueues(pid: number): Map<string, number> {
  const directory = directoryOf(pid);
  const names = [...readEntries(directory).keys()];
  return new Map(names.map((name) => [name, openBelow(directory, name, O_RDONLY | O_NONBLOCK)]));
}

/** With this thread in the namespace. */
export function readLimits(): QueueLimits {
  const [messages, bytes] = ["msg_max", "msgsize_max"].map((name) =>
    Number(readFileSync(`${LIMITS}/${name}`, "latin1")),
  );
  return { messages: messages!, bytes: bytes! };
}

/** Only what differs: /proc/sys may be read-only. */
export function writeLimits({ messages, bytes }: QueueLimits): void {
  const before = readLimits();
  if (messages !== before.messages) writeFileSync(`${LIMITS}/msg_max`, String(messages));
  if (bytes !== before.bytes) writeFileSync(`${LIMITS}/msgsize_max`, String(bytes));
}
