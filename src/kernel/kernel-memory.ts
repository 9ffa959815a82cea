/**
 * Reads the kernel's own memory, which a BPF program may (`bpf_probe_read_kernel`; not under lockdown=confidentiality): for
 * what the kernel keeps and tells nobody. Nothing is locked: who reads must find out himself whether it held still.
 */
import { randomBytes } from "node:crypto";
import {
  createMappableMap,
  type Instruction,
  loadMapValue,
  loadTracepointProgram,
  runTracepointProgram,
} from "./bpf.ts";
import { readKernelTypes } from "./btf.ts";
import { call, closeDescriptor } from "./calls.ts";
import { SystemCallError } from "./errors.ts";
import { PAGE_BYTES } from "./numbers.ts";
import { mapShared } from "./pages.ts";
import { readSmall } from "./procfs.ts";

/** The most that one call of the program reads. */
const MOST_BYTES = 0xffff;
const RESULT_BYTES = 16;
const MAP_BYTES = Math.ceil((RESULT_BYTES + MOST_BYTES) / PAGE_BYTES) * PAGE_BYTES;
const HELPER = { currentTask: 35, readKernel: 113 } as const;

/** Context: address, bytes. Value: {result, current task, what was read}. */
function program(mapFd: number): Instruction[] {
  return [
    [0xbf, 7, 1, 0, 0],
    ...loadMapValue(6, mapFd),
    [0x85, 0, 0, 0, HELPER.currentTask],
    [0x7b, 6, 0, 8, 0],
    [0x79, 3, 7, 0, 0],
    [0x79, 2, 7, 8, 0],
    [0x57, 2, 0, 0, MOST_BYTES],
    [0xbf, 1, 6, 0, 0],
    [0x07, 1, 0, 0, RESULT_BYTES],
    [0x85, 0, 0, 0, HELPER.readKernel],
    [0x7b, 6, 0, 0, 0],
    [0xb7, 0, 0, 0, 0],
    [0x95, 0, 0, 0, 0],
  ];
}

const FIELDS = [
  "sk_buff",
  "sk_buff.len",
  "sk_buff.data_len",
  "sk_buff.head",
  "sk_buff.data",
  "sk_buff.end",
  "skb_shared_info.nr_frags",
  "skb_shared_info.frag_list",
  "skb_shared_info.frags",
  "task_struct.files",
  "files_struct.fdt",
  "fdtable.fd",
  "file.private_data",
  "pipe_inode_info.bufs",
  "pipe_buffer.page",
  "page",
];

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

let only: KernelMemory | undefined;

/** The one of this process; finding its way takes some 70 ms at the first call. Throws when the kernel refuses. */
export function kernelMemory(): KernelMemory {
  only ??= new KernelMemory();
  return only;
}

export class KernelMemory {
  readonly #mapFd: number;
  readonly #programFd: number;
  readonly #value: Buffer;
  readonly #args = Buffer.alloc(16);
  readonly #fields: ReadonlyMap<string, number>;
  readonly #layout: Layout;

  constructor() {
    this.#fields = readKernelTypes([], FIELDS).fields;
    const missing = FIELDS.filter((name) => !this.#fields.has(name));
    if (missing.length > 0) throw new Error(`This kernel's types do not tell of ${missing.join(", ")}`);
    this.#mapFd = createMappableMap(MAP_BYTES);
    try {
      this.#programFd = loadTracepointProgram("understudy_read", program(this.#mapFd));
    } catch (error) {
      closeDescriptor(this.#mapFd);
      throw error;
    }
    this.#value = mapShared(this.#mapFd, MAP_BYTES);
    this.#layout = this.#findLayout();
  }

  #at(name: string): number {
    return this.#fields.get(name)!;
  }

  #run(address: bigint, bytes: number): boolean {
    this.#args.writeBigUInt64LE(address, 0);
    this.#args.writeBigUInt64LE(BigInt(bytes), 8);
    runTracepointProgram(this.#programFd, this.#args);
    return this.#value.readBigInt64LE(0) === 0n;
  }

  /** A copy; undefined where there is nothing. */
  tryRead(address: bigint, bytes: number): Buffer | undefined {
    const out = Buffer.allocUnsafe(bytes);
    for (let at = 0; at < bytes; ) {
      const length = Math.min(MOST_BYTES, bytes - at);
      if (!this.#run(address + BigInt(at), length)) return undefined;
      this.#value.copy(out, at, RESULT_BYTES, RESULT_BYTES + length);
      at += length;
    }
    return out;
  }

  /** Throws SystemCallError where there is nothing. */
  read(address: bigint, bytes: number): Buffer {
    const found = this.tryRead(address, bytes);
    if (found === undefined) throw new SystemCallError("bpf_probe_read_kernel", -14, address.toString(16));
    return found;
  }

  pointer(address: bigint): bigint {
    return this.read(address, 8).readBigUInt64LE();
  }

  /** Where the kernel sees the content of the page that the `struct page` at `descriptor` describes. */
  pageAt(descriptor: bigint): bigint {
    const { memory, pages, pageDescriptorBytes } = this.#layout;
    return memory + ((descriptor - pages) / pageDescriptorBytes) * BigInt(PAGE_BYTES);
  }

  /** The `struct file` behind a descriptor of this process. */
  fileOf(fd: number): bigint {
    this.#run(0n, 0);
    const files = this.#pointerIn(this.#task, "task_struct.files");
    return this.pointer(this.#pointerIn(this.#pointerIn(files, "files_struct.fdt"), "fdtable.fd") + BigInt(fd * 8));
  }

  /** What a file's own kind keeps for it: a socket, a pipe. */
  privateOf(file: bigint): bigint {
    return this.#pointerIn(file, "file.private_data");
  }

  #pointerIn(struct: bigint, field: string): bigint {
    return this.pointer(struct + BigInt(this.#at(field)));
  }

  get #task(): bigint {
    return this.#value.readBigUInt64LE(8);
  }

  /** A packet (`struct sk_buff`) and what it holds. Throws RangeError for one that is not as expected. */
  packet(address: bigint): Packet {
    const head = this.read(address, this.#at("sk_buff"));
    const length = head.readUInt32LE(this.#at("sk_buff.len"));
    const inPages = head.readUInt32LE(this.#at("sk_buff.data_len"));
    const parts: Buffer[] = [];
    if (length > inPages) parts.push(this.read(head.readBigUInt64LE(this.#at("sk_buff.data")), length - inPages));
    if (inPages > 0) {
      const end = BigInt(head.readUInt32LE(this.#at("sk_buff.end")));
      parts.push(...this.#fragments(head.readBigUInt64LE(this.#at("sk_buff.head")) + end));
    }
    const bytes = Buffer.concat(parts);
    if (bytes.length !== length) throw new RangeError(`A packet of ${length} bytes has ${bytes.length}`);
    return { head, bytes };
  }

  #fragments(address: bigint): Buffer[] {
    const shared = this.read(address, SHARED_BYTES);
    if (shared.readBigUInt64LE(this.#at("skb_shared_info.frag_list")) !== 0n)
      throw new RangeError("Packets in a packet");
    const count = shared.readUInt8(this.#at("skb_shared_info.nr_frags"));
    return Array.from({ length: count }, (_, i) => {
      const from = this.#at("skb_shared_info.frags") + i * FRAGMENT_BYTES;
      const page = shared.readBigUInt64LE(from);
      if (page & NOT_MEMORY) throw new RangeError("A packet outside memory");
      const start = this.pageAt(page) + BigInt(shared.readUInt32LE(from + 12));
      return this.read(start, shared.readUInt32LE(from + 8));
    });
  }

  /** A pattern is put into a page (of a pipe) whose descriptor can be found, and looked for. */
  #findLayout(): Layout {
    const pipe = Buffer.alloc(8);
    call("pipe2", pipe, 0o2000000);
    const [reader, writer] = [pipe.readInt32LE(0), pipe.readInt32LE(4)];
    try {
      const pattern = randomBytes(PATTERN_BYTES);
      call("write", writer, pattern, pattern.length);
      const buffers = this.#pointerIn(this.privateOf(this.fileOf(writer)), "pipe_inode_info.bufs");
      const page = this.#pointerIn(buffers, "pipe_buffer.page");
      return this.#search(this.#task, page, BigInt(this.#at("page")), pattern);
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
        if (this.tryRead(address, pattern.length)?.equals(pattern)) return { memory, pages, pageDescriptorBytes };
      }
    throw new Error("The kernel's view of memory was not found");
  }
}
