/**
 * The messages that wait in a System V queue. They are read from the kernel's memory, where that may be read: a look by msgrcv(2) counts
 * from the queue's first message each time, and a queue may have a hundred thousand.
 */
import { call, tryCall } from "../../kernel/calls.ts";
import { checked } from "../../kernel/errors.ts";
import { KernelFields } from "../../kernel/kernel-fields.ts";
import { type Address, KernelMemory } from "../../kernel/kernel-memory.ts";
import { messagesOn } from "../messages.ts";
import { IPC_NOWAIT } from "../sysv.ts";
import { allowing } from "./limits.ts";

const FIELDS = new KernelFields(
  "task_struct.nsproxy",
  "nsproxy.ipc_ns",
  "ipc_namespace.ids",
  "ipc_ids",
  "ipc_ids.ipcs_idr",
  "idr.idr_rt",
  "xarray.xa_head",
  "xa_node.shift",
  "xa_node.slots",
  "kern_ipc_perm.id",
  "msg_queue.q_perm",
  "msg_queue.q_messages",
);
/** Of `ipc_namespace.ids`: semaphores, message queues, memory. */
const MESSAGE_QUEUES = 1n;
/** Identifiers are a place in the table and, above, how often it was used (ipc/util.h). */
const PLACE_MASKS = [(1 << 15) - 1, (1 << 24) - 1];
/** What says that an entry of an xarray is a node rather than an object (include/linux/xarray.h). */
const NODE_MARK = 2n;
const NODE_SLOTS = 64;

/** Copies a message by its place rather than takes it (kernel 3.8, CONFIG_CHECKPOINT_RESTORE). */
const MSG_COPY = 0o40000;
export const TYPE_BYTES = 8;
const FIRST_GUESS_BYTES = 1 << 10;
const E2BIG = -7;
const EINVAL = -22;
let message = Buffer.alloc(TYPE_BYTES + FIRST_GUESS_BYTES);

/**
 * struct msgbuf each, first come first. With this thread in the namespace, everyone in it being stopped.
 * @param count how many there are: more throw RangeError
 */
export function messagesOf(id: number, count: number): Buffer[] {
  const memory = count > 0 ? KernelMemory.tryOpen() : undefined;
  const queue = memory && queueOf(memory, id);
  if (queue === undefined) return Array.from({ length: count }, (_, i) => copyOf(id, i));
  const list = messagesOn(memory!, queue + FIELDS.offset("msg_queue.q_messages"), count);
  return Array.from(list, ({ type, bytes }) => {
    const one = Buffer.allocUnsafe(TYPE_BYTES + bytes.length);
    one.writeBigUInt64LE(type);
    bytes.copy(one, TYPE_BYTES);
    return one;
  });
}

/** The `struct msg_queue`. */
function queueOf(memory: KernelMemory, id: number): Address | undefined {
  const namespaces = memory.pointer(memory.current() + FIELDS.offset("task_struct.nsproxy"));
  const namespace = memory.pointer(namespaces + FIELDS.offset("nsproxy.ipc_ns"));
  const ids = namespace + FIELDS.offset("ipc_namespace.ids") + MESSAGE_QUEUES * FIELDS.offset("ipc_ids");
  const table = ids + FIELDS.offset("ipc_ids.ipcs_idr") + FIELDS.offset("idr.idr_rt") + FIELDS.offset("xarray.xa_head");
  for (const mask of PLACE_MASKS) {
    const found = entryOf(memory, memory.pointer(table), id & mask);
    if (found === undefined) continue;
    const at = found + FIELDS.offset("kern_ipc_perm.id");
    if (memory.read(at, 4).readInt32LE() === id) return found - FIELDS.offset("msg_queue.q_perm");
  }
  return undefined;
}

function entryOf(memory: KernelMemory, root: Address, index: number): Address | undefined {
  let entry = root;
  while ((entry & 3n) === NODE_MARK) {
    const node = entry - NODE_MARK;
    const shift = memory.read(node + FIELDS.offset("xa_node.shift"), 1)[0]!;
    const slot = Math.floor(index / 2 ** shift);
    if (slot >= NODE_SLOTS && root === entry) return undefined;
    entry = memory.pointer(node + FIELDS.offset("xa_node.slots") + BigInt(8 * (slot % NODE_SLOTS)));
  }
  return entry === 0n ? undefined : entry;
}

function copyOf(id: number, index: number): Buffer {
  for (let room = FIRST_GUESS_BYTES; ; room *= 4) {
    if (message.length < TYPE_BYTES + room) message = Buffer.alloc(TYPE_BYTES + room);
    const copy = () => tryCall("msgrcv", id, message, room, index, MSG_COPY | IPC_NOWAIT);
    const result = copy();
    // It is larger than messages may be by now: the limit was lowered since it was sent.
    const n = result === EINVAL ? allowing({ messageBytes: room, queueBytes: 0 }, copy) : result;
    if (n !== E2BIG && n !== EINVAL) return Buffer.from(message.subarray(0, TYPE_BYTES + checked(n, "msgrcv", "copy")));
  }
}

/** Puts them into an empty queue, which has room for them. */
export function sendAll(id: number, messages: readonly Buffer[]): void {
  for (const one of messages) call("msgsnd", id, one, one.length - TYPE_BYTES, IPC_NOWAIT);
}
