/** Messages as both System V and POSIX queues keep them (struct msg_msg, ipc/msgutil.c), read from the kernel's memory. */
import { KernelFields } from "../kernel/kernel-fields.ts";
import type { Address, KernelMemory } from "../kernel/kernel-memory.ts";
import { PAGE_BYTES } from "../kernel/numbers.ts";

export interface KernelMessage {
  /** Of System V. */
  type: bigint;
  bytes: Buffer;
}

const FIELDS = new KernelFields(
  "msg_msg",
  "msg_msg.m_list",
  "msg_msg.m_type",
  "msg_msg.m_ts",
  "msg_msg.next",
  "msg_msgseg",
);
/** What a message takes with its head before another piece is needed, and each piece with its own. */
const SEGMENT_BYTES = PAGE_BYTES;
/** Read with the head: what is no longer together with it needs no second read. */
const FIRST_BYTES = 512;

/**
 * The messages of a list, first come first.
 * @param list where its head is (struct list_head)
 * @param most so many may be on it: more throw RangeError, as it has lost its way then
 */
export function* messagesOn(memory: KernelMemory, list: Address, most: number): Generator<KernelMessage> {
  const link = FIELDS.offset("msg_msg.m_list");
  let next = memory.pointer(list);
  for (let count = 0; next !== list; count++) {
    if (count >= most) throw new RangeError(`A queue of ${most} messages has more`);
    const address = next - link;
    const first = readFirst(memory, address);
    next = first.readBigUInt64LE(FIELDS.at("msg_msg.m_list"));
    yield { type: first.readBigUInt64LE(FIELDS.at("msg_msg.m_type")), bytes: textOf(memory, address, first) };
  }
}

/** Its head and, as far as that is one page, what is behind: the text, if it is short. A page that is there is so as a whole. */
function readFirst(memory: KernelMemory, address: Address): Buffer {
  const leftInPage = PAGE_BYTES - Number(address % BigInt(PAGE_BYTES));
  return memory.read(address, Math.max(FIELDS.at("msg_msg"), Math.min(leftInPage, FIRST_BYTES)));
}

/** The first page's worth lies behind the head, each further one behind a pointer to the next. */
function textOf(memory: KernelMemory, address: Address, first: Buffer): Buffer {
  const head = FIELDS.at("msg_msg");
  const length = Number(first.readBigUInt64LE(FIELDS.at("msg_msg.m_ts")));
  if (head + length <= first.length) return Buffer.from(first.subarray(head, head + length));
  const parts = [memory.read(address + BigInt(head), Math.min(length, SEGMENT_BYTES - head))];
  const link = FIELDS.at("msg_msgseg");
  let left = length - parts[0]!.length;
  for (let at = first.readBigUInt64LE(FIELDS.at("msg_msg.next")); left > 0; ) {
    const part = memory.read(at, link + Math.min(left, SEGMENT_BYTES - link));
    parts.push(part.subarray(link));
    left -= part.length - link;
    at = part.readBigUInt64LE();
  }
  return Buffer.concat(parts, length);
}
