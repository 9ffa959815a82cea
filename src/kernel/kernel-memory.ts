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

export class KernelMemory {
  readonly #mapFd: number;
  readonly #programFd: number;
  readonly #value: Buffer;
  readonly #args = Buffer.alloc(16);
  #layout: Layout | undefined;

  /** Throws when the kernel refuses. */
  constructor() {
    this.#mapFd = createMappableMap(MAP_BYTES);
    try {
      this.#programFd = loadTracepointProgram("understudy_read", program(this.#mapFd));
    } catch (error) {
      closeDescriptor(this.#mapFd);
      throw error;
    }
    this.#value = mapShared(this.#mapFd, MAP_BYTES);
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
    this.#layout ??= this.#findLayout();
    const { memory, pages, pageDescriptorBytes } = this.#layout;
    return memory + ((descriptor - pages) / pageDescriptorBytes) * BigInt(PAGE_BYTES);
  }

  /** A pattern is put into a page (of a pipe) whose descriptor can be found, and looked for. */
  #findLayout(): Layout {
    const { fields } = readKernelTypes([], FIELDS);
    const at = (name: string) => BigInt(fields.get(name) ?? Number.NaN);
    const pipe = Buffer.alloc(8);
    call("pipe2", pipe, 0o2000000);
    const [reader, writer] = [pipe.readInt32LE(0), pipe.readInt32LE(4)];
    try {
      const pattern = randomBytes(PATTERN_BYTES);
      call("write", writer, pattern, pattern.length);
      this.#run(0n, 0);
      const task = this.#value.readBigUInt64LE(8);
      const table = this.pointer(this.pointer(task + at("task_struct.files")) + at("files_struct.fdt"));
      const file = this.pointer(this.pointer(table + at("fdtable.fd")) + BigInt(writer * 8));
      const buffers = this.pointer(this.pointer(file + at("file.private_data")) + at("pipe_inode_info.bufs"));
      return this.#search(task, this.pointer(buffers + at("pipe_buffer.page")), at("page"), pattern);
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

  close(): void {
    closeDescriptor(this.#programFd);
    closeDescriptor(this.#mapFd);
  }
}
