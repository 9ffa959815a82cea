/** Packets in queues of sockets, read from the kernel's memory: their content lies in pages, to which it has a way of its own. */
import { randomBytes } from "node:crypto";
import { call, closeDescriptor } from "./calls.ts";
import { KernelFields } from "./kernel-fields.ts";
import { type Address, KernelMemory } from "./kernel-memory.ts";
import { PAGE_BYTES } from "./numbers.ts";
import { readSmall } from "./procfs.ts";

const FIELDS = new KernelFields(
  "sk_buff",
  "sk_buff.len",
  "sk_buff.data_len",
  "sk_buff.head",
  "sk_buff.data",
  "sk_buff.end",
  "skb_shared_info.nr_frags",
  "skb_shared_info.frag_list",
  "skb_shared_info.frags",
  "pipe_inode_info.bufs",
  "pipe_buffer.page",
  "page",
);

/** Where the kernel sees all memory, and its descriptors of pages: both are random at each boot, by whole gigabytes. */
interface Layout {
  memory: bigint;
  pages: bigint;
  pageDescriptorBytes: bigint;
}

const GIGABYTE = 1n << 30n;
const PATTERN_BYTES = 64;

/** struct skb_frag {page, length, offset} */
const FRAGMENT_BYTES = 16;
const SHARED_BYTES = 512;
/** A page that is no memory of this machine (net_iov) is marked so. */
const NOT_MEMORY = 1n;

export interface Packet {
  /** struct sk_buff */
  head: Buffer;
  bytes: Buffer;
}

/** A queue longer than that has lost its way. */
const MOST_PACKETS = 1 << 16;

let only: PacketMemory | undefined;

/** The one of this process; finding its way takes some 20 ms at the first call. Errors: `kernel-memory-closed` */
export function packetMemory(): PacketMemory {
  only ??= new PacketMemory();
  return only;
}

export class PacketMemory {
  readonly #memory = KernelMemory.open();
  readonly #layout: Layout;

  constructor() {
    FIELDS.require();
    this.#layout = this.#findLayout();
  }

  /** Where the kernel sees the content of the page that the `struct page` at `descriptor` describes. */
  #pageAt(descriptor: Address): Address {
    const { memory, pages, pageDescriptorBytes } = this.#layout;
    return memory + ((descriptor - pages) / pageDescriptorBytes) * BigInt(PAGE_BYTES);
  }

  /** The `struct sock` behind a socket's descriptor of this process. */
  socket(fd: number): Address {
    return this.#memory.socket(fd);
  }

  /** The packets (`struct sk_buff`) of a list (`struct sk_buff_head`), first come first. Throws when it does not hold still. */
  *heads(list: Address): Generator<Buffer> {
    let next = this.#memory.pointer(list);
    for (let count = 0; next !== list; count++) {
      if (count >= MOST_PACKETS) throw new RangeError("A queue of packets without an end");
      const head = this.#head(next);
      yield head;
      next = head.readBigUInt64LE(0);
    }
  }

  /** The same, with what is in them. */
  *queue(list: Address): Generator<Packet> {
    for (const head of this.heads(list)) yield { head, bytes: this.#contentOf(head) };
  }

  #head(address: Address): Buffer {
    return this.#memory.read(address, FIELDS.at("sk_buff"));
  }

  /** A packet (`struct sk_buff`) and what it holds. Throws RangeError for one that is not as expected. */
  packet(address: Address): Packet {
    const head = this.#head(address);
    return { head, bytes: this.#contentOf(head) };
  }

  #contentOf(head: Buffer): Buffer {
    const length = head.readUInt32LE(FIELDS.at("sk_buff.len"));
    const inPages = head.readUInt32LE(FIELDS.at("sk_buff.data_len"));
    const parts: Buffer[] = [];
    if (length > inPages)
      parts.push(this.#memory.read(head.readBigUInt64LE(FIELDS.at("sk_buff.data")), length - inPages));
    if (inPages > 0) {
      const end = BigInt(head.readUInt32LE(FIELDS.at("sk_buff.end")));
      parts.push(...this.#fragments(head.readBigUInt64LE(FIELDS.at("sk_buff.head")) + end));
    }
    const bytes = Buffer.concat(parts);
    if (bytes.length !== length) throw new RangeError(`A packet of ${length} bytes has ${bytes.length}`);
    return bytes;
  }

  #fragments(address: Address): Buffer[] {
    const shared = this.#memory.read(address, SHARED_BYTES);
    if (shared.readBigUInt64LE(FIELDS.at("skb_shared_info.frag_list")) !== 0n)
      throw new RangeError("Packets in a packet");
    const count = shared.readUInt8(FIELDS.at("skb_shared_info.nr_frags"));
    return Array.from({ length: count }, (_, i) => {
      const from = FIELDS.at("skb_shared_info.frags") + i * FRAGMENT_BYTES;
      const page = shared.readBigUInt64LE(from);
      if (page & NOT_MEMORY) throw new RangeError("A packet outside memory");
      const start = this.#pageAt(page) + BigInt(shared.readUInt32LE(from + 12));
      return this.#memory.read(start, shared.readUInt32LE(from + 8));
    });
  }

  /** A pattern is put into a page (of a pipe) whose descriptor can be found, and looked for. */
  #findLayout(): Layout {
    const memory = this.#memory;
    const pipe = Buffer.alloc(8);
    call("pipe2", pipe, 0o2000000);
    const [reader, writer] = [pipe.readInt32LE(0), pipe.readInt32LE(4)];
    try {
      const pattern = randomBytes(PATTERN_BYTES);
      call("write", writer, pattern, pattern.length);
      const file = memory.file(writer);
      const buffers = memory.pointer(memory.privateOf(file) + FIELDS.offset("pipe_inode_info.bufs"));
      const page = memory.pointer(buffers + FIELDS.offset("pipe_buffer.page"));
      return this.#search(file, page, FIELDS.offset("page"), pattern);
    } finally {
      closeDescriptor(reader);
      closeDescriptor(writer);
    }
  }

  /** Physical memory may have holes: twice what there is, and some more, is looked at. */
  #search(someObject: bigint, descriptor: bigint, pageDescriptorBytes: bigint, pattern: Buffer): Layout {
    const memoryKb = BigInt(/MemTotal:\s+(\d+)/.exec(readSmall("/proc/meminfo"))![1]!);
    const gigabytes = (2n * memoryKb) / (1n << 20n) + 8n;
    const descriptorGigabytes = (gigabytes * pageDescriptorBytes) / BigInt(PAGE_BYTES) + 1n;
    const floor = (address: bigint) => address - (address % GIGABYTE);
    for (let m = 0n; m < descriptorGigabytes; m++)
      for (let n = 0n; n < gigabytes; n++) {
        const memory = floor(someObject) - n * GIGABYTE;
        const pages = floor(descriptor) - m * GIGABYTE;
        const address = memory + ((descriptor - pages) / pageDescriptorBytes) * BigInt(PAGE_BYTES);
        if (this.#memory.tryRead(address, pattern.length)?.equals(pattern))
          return { memory, pages, pageDescriptorBytes };
      }
    throw new Error("The kernel's view of memory was not found");
  }
}
