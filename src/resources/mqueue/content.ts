/** What waits in a POSIX message queue and who wants to be told of more: read from the kernel's memory, nothing is taken. */
import { KernelFields } from "../../kernel/kernel-fields.ts";
import { type Address, KernelMemory } from "../../kernel/kernel-memory.ts";
import { messagesOn } from "../messages.ts";

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

const FIELDS = new KernelFields(
  "mqueue_inode_info.vfs_inode",
  "mqueue_inode_info.msg_tree",
  "mqueue_inode_info.notify",
  "posix_msg_tree_node.rb_node",
  "posix_msg_tree_node.msg_list",
  "posix_msg_tree_node.priority",
  "rb_node.rb_left",
  "rb_node.rb_right",
);

function queueOf(memory: KernelMemory, fd: number): Address {
  return memory.inodeOf(memory.file(fd)) - FIELDS.offset("mqueue_inode_info.vfs_inode");
}

/**
 * In the order in which they must be sent again.
 * @param fd of this process
 * @param count how many there are (mq_curmsgs): more throw RangeError
 */
export function messagesOf(fd: number, count: number): Message[] {
  if (count === 0) return [];
  const memory = KernelMemory.open();
  // A tree's root is nothing but a pointer to its first node.
  const root = memory.pointer(queueOf(memory, fd) + FIELDS.offset("mqueue_inode_info.msg_tree"));
  const found: Message[] = [];
  for (const node of nodes(memory, root)) {
    const at = FIELDS.offset("posix_msg_tree_node.priority");
    const priority = memory.read(node + at, 4).readUInt32LE();
    const list = node + FIELDS.offset("posix_msg_tree_node.msg_list");
    for (const { bytes } of messagesOn(memory, list, count - found.length)) found.push({ priority, bytes });
  }
  return found;
}

/** All of a tree, in any order: what matters is the order within a priority. */
function* nodes(memory: KernelMemory, at: Address): Generator<Address> {
  if (at === 0n) return;
  yield at - FIELDS.offset("posix_msg_tree_node.rb_node");
  yield* nodes(memory, memory.pointer(at + FIELDS.offset("rb_node.rb_left")));
  yield* nodes(memory, memory.pointer(at + FIELDS.offset("rb_node.rb_right")));
}

/** What the registered process asked for; only where there is one. */
export function wishOf(fd: number): Wish {
  const memory = KernelMemory.open();
  const event = memory.read(queueOf(memory, fd) + FIELDS.offset("mqueue_inode_info.notify"), 16);
  return { value: event.readBigUInt64LE(), signal: event.readInt32LE(8), how: event.readInt32LE(12) };
}
