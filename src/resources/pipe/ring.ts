/** How the content of a pipe was written, from the kernel's memory: a read that ends with a packet may begin with plain bytes (pipe(7)). */
import { KernelFields } from "../../kernel/kernel-fields.ts";
import { KernelMemory } from "../../kernel/kernel-memory.ts";

const FIELDS = new KernelFields(
  "pipe_inode_info",
  "pipe_inode_info.head",
  "pipe_inode_info.tail",
  "pipe_inode_info.ring_size",
  "pipe_inode_info.bufs",
  "pipe_buffer",
  "pipe_buffer.len",
  "pipe_buffer.flags",
);
/** PIPE_BUF_FLAG_PACKET */
const PACKET = 8;

/** What one read takes: so many plain bytes, and then a packet of so many, unless it is the end. */
export interface Portion {
  plain: number;
  packet: number;
}

/** @param fd of this process. Undefined where memory does not tell. */
export function portionsIn(fd: number): Portion[] | undefined {
  const memory = KernelMemory.tryOpen();
  if (memory === undefined || !FIELDS.areKnown) return undefined;
  const pipe = memory.read(memory.privateOf(memory.file(fd)), FIELDS.at("pipe_inode_info"));
  const [tail, slots] = (["tail", "ring_size"] as const).map((name) =>
    pipe.readUInt32LE(FIELDS.at(`pipe_inode_info.${name}`)),
  );
  const count = (pipe.readUInt32LE(FIELDS.at("pipe_inode_info.head")) - tail!) >>> 0;
  if (count > slots!) return undefined;
  const slotBytes = FIELDS.at("pipe_buffer");
  const ring = memory.read(pipe.readBigUInt64LE(FIELDS.at("pipe_inode_info.bufs")), slots! * slotBytes);
  const portions: Portion[] = [];
  let plain = 0;
  for (let i = 0; i < count; i++) {
    const at = ((tail! + i) % slots!) * slotBytes;
    const length = ring.readUInt32LE(at + FIELDS.at("pipe_buffer.len"));
    if ((ring.readUInt32LE(at + FIELDS.at("pipe_buffer.flags")) & PACKET) === 0) plain += length;
    else {
      portions.push({ plain, packet: length });
      plain = 0;
    }
  }
  return plain > 0 ? [...portions, { plain, packet: 0 }] : portions;
}
