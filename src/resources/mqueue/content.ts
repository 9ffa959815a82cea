/** What waits in a POSIX message queue and who wants to be told of more: read from the kernel's memory, nothing is taken. */
import { KernelFields } from "../../kernel/kernel-fields.ts";
import { type Address, KernelMemory } from "../../kernel/kernel-memory.ts";

export interface Message {
  priority: number;
  bytes: Buffer;
}

/** struct sigevent, as far as a signal needs it. */
export interface Wish {
  value: bigint;
  signal: number;
  /** SIGEV_SIGNAL 0, SIGEV_NONE 1, SIGEV_THREAD 2. */
  how: number;
}

const SEGMENT_BYTES = 4096;

const FIELDS = new KernelFields(
  "mqueue_inode_info.vfs_inode",
  "mqueue_inode_info.msg_tree",
  "mqueue_inode_info.notify",
  "posix_msg_tree_node.rb_node",
  "posix_msg_tree_node.msg_list",
  "posix_msg_tree_node.priority",
  "msg_msg.m_list",
  "msg_msg.m_ts",
  "msg_msg.next",
  "msg_msg",
  "msg_msgseg",
  "rb_node.rb_left",
  "rb_node.rb_right",
);

function queueOf(memory: KernelMemory, fd: number): Address {
  return memory.inodeOf(memory.file(fd)) - FIELDS.offset("mqueue_inode_info.vfs_inode");
}

/** @param fd of this process. In the order in which they must be sent again. */
export function messagesOf(fd: number): Message[] {
  const memory = KernelMemory.open();
  // A tree's root is nothing but a pointer to its first node.
  const root = memory.pointer(queueOf(memory, fd) + FIELDS.offset("mqueue_inode_info.msg_tree"));
  return [...nodes(memory, root)].flatMap((node) => {
    const at = FIELDS.offset("posix_msg_tree_node.priority");
    const priority = memory.read(node + at, 4).readUInt32LE();
    const list = memory.list(node + FIELDS.offset("posix_msg_tree_node.msg_list"), FIELDS.offset("msg_msg.m_list"));
    return [...list].map((message) => ({ priority, bytes: bytesOf(memory, message) }));
  });
}

/** All of a tree, in any order: what matters is the order within a priority. */
function* nodes(memory: KernelMemory, at: Address): Generator<Address> {
  if (at === 0n) return;
  yield at - FIELDS.offset("posix_msg_tree_node.rb_node");
  yield* nodes(memory, memory.pointer(at + FIELDS.offset("rb_node.rb_left")));
  yield* nodes(memory, memory.pointer(at + FIELDS.offset("rb_node.rb_right")));
}

/** The first page's worth lies behind the head, each further one behind a pointer to the next. */
export function bytesOf(memory: KernelMemory, message: Address): Buffer {
  const length = Number(memory.pointer(message + FIELDS.offset("msg_msg.m_ts")));
  const head = FIELDS.offset("msg_msg");
  const parts: Buffer[] = [memory.read(message + head, Math.min(length, SEGMENT_BYTES - Number(head)))];
  const link = FIELDS.offset("msg_msgseg");
  let left = length - parts[0]!.length;
  for (
    let at = memory.pointer(message + FIELDS.offset("msg_msg.next"));
    at !== 0n && left > 0;
    at = memory.pointer(at)
  ) {
    const part = memory.read(at + link, Math.min(left, SEGMENT_BYTES - Number(link)));
    parts.push(part);
    left -= part.length;
  }
  return Buffer.concat(parts);
}

/** What the registered process asked for; only where there is one. */
export function wishOf(fd: number): Wish {
  const memory = KernelMemory.open();
  const event = memory.read(queueOf(memory, fd) + FIELDS.offset("mqueue_inode_info.notify"), 16);
  return { value: event.readBigUInt64LE(), signal: event.readInt32LE(8), how: event.readInt32LE(12) };
}
