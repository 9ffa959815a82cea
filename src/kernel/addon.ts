/** The native addon, typed. Only `src/kernel/` imports this file. */
import { createRequire } from "node:module";

/** What a system call takes: an integer, null for 0, or a buffer for its address. */
export type Argument = number | bigint | null | NodeJS.ArrayBufferView;

/** Opaque: a descriptor that the event loop watches. */
export type WatchHandle = { readonly watch: unique symbol };

/** Where huge pages are read, and what the clones have of them: native/huge.h. */
export type HugeSources = { readonly hugeSources: unique symbol };
export type HugeContent = { readonly hugeContent: unique symbol };
/** Opaque: native/write_behind.cc. */
export type WriteQueue = { readonly writeQueue: unique symbol };
/** Opaque: the last sent content of an address space's pages. */
export type Shadow = { readonly shadow: unique symbol };

export interface Addon {
  /** Any system call; the result, or −errno. */
  syscall(number: number, ...args: Argument[]): number;
  /** Address of a buffer's first byte; keep the buffer alive while the kernel may use it. */
  addressOf(buffer: NodeJS.ArrayBufferView): number;
  /** Calls back when `fd` is readable (1) or writable (2), level-triggered; −errno when it cannot be watched. */
  watch(fd: number, events: number, callback: (status: number, events: number) => void): WatchHandle | number;
  unwatch(handle: WatchHandle): void;

  /** Interrupts all, takes one wait status each; returns how many gave none in time. See native/trace.cc. */
  stopAll(tids: Int32Array, statuses: Int32Array, timeoutUs: number, interrupt: boolean): number;
  restartWaits(tids: Int32Array, timed: BigInt64Array): number;
  restartCall(tid: number): number;
  endCall(tid: number, result: number): number;
  pendingSignals(tids: Int32Array, shared: boolean, out: Buffer): number;
  continueAll(tids: Int32Array): number;
  /** The most that one thread's record takes on this processor. */
  recordBytes(): number;
  dumpThreads(tids: Int32Array, out: Buffer, strideBytes: number): number;
  setThread(tid: number, record: Buffer): number;

  /** vfork and exec, unknown to libuv; descriptors as [from, to …]. */
  spawn(path: string, argv: string[], descriptors: Int32Array): number;
  remoteCall(tid: number, gadget: number, number: number, args: Float64Array, out: Float64Array): number;
  remoteBatch(tid: number, code: number, table: number, count: number): number;
  /** 0, the number of a signal met instead of the breakpoint at the end, or −errno. */
  remoteRun(tid: number, code: number, rdi: number, rsi: number, stack: number): number;
  trapAgain(tid: number): number;

  /** "FD\0LINK\0" of each descriptor; bytes used or −errno. */
  descriptorTable(directoryFd: number, out: Buffer): number;
  linksOf(directoryFd: number, fds: Int32Array, out: Buffer): number;
  walk(linkFd: number, heads: Buffer, rest: Buffer, headBytes: number): number;

  /** PAGEMAP_SCAN over ranges [start, end …]; regions of three words [start, end, categories]. */
  scan(
    pagemapFd: number,
    ranges: BigUint64Array,
    flags: number,
    inverted: number,
    mask: number,
    anyOf: number,
    returned: number,
    out: BigUint64Array,
  ): number;
  /** Whether one of the first `count` regions is not wholly inside a range [start, end …]. */
  anyOutside(regions: BigUint64Array, count: number, ranges: BigUint64Array): boolean;
  copyPages(
    pid: number,
    memFd: number,
    regions: BigUint64Array,
    count: number,
    staging: Buffer,
    addresses: BigUint64Array,
    first: number,
    huge: HugeSources | null,
  ): number;
  shadowNew(limitPages: number): Shadow;
  shadowDrop(shadow: Shadow, start: number, end: number): number;
  holes(shadow: Shadow, pagemapFd: number, out: BigUint64Array): number;
  encode(
    staging: Buffer,
    addresses: BigUint64Array,
    from: number,
    to: number,
    shadow: Shadow | null,
    out: Buffer,
    offset: number,
    whole: boolean,
    shared: BigUint64Array,
    huge: HugeSources | null,
  ): number;
  /** Copies and encodes in one; the cursor [region, address, pages there] moves on. See native/memory.cc. */
  copyEncode(
    pid: number,
    memFd: number,
    regions: BigUint64Array,
    count: number,
    cursor: Float64Array,
    most: number,
    shadow: Shadow | null,
    out: Buffer,
    whole: boolean,
    shared: BigUint64Array,
    huge: HugeSources | null,
  ): number;
  /** See native/huge.cc; shifts are words of two's complement. */
  hugeContent(limitPages: number): HugeContent;
  hugeForget(content: HugeContent, from: number, to: number): number;
  hugeNote(content: HugeContent, from: number, bytes: Buffer, length: number): number;
  hugeSources(ranges: BigUint64Array, fds: Int32Array, contents: readonly HugeContent[]): HugeSources;
  hugeOpen(sources: HugeSources, fds: Int32Array): number;
  hugeSeen(sources: HugeSources, staging: Buffer, addresses: BigUint64Array, from: number, to: number): number;
  hugeGone(
    content: HugeContent,
    memFd: number,
    present: BigUint64Array,
    written: BigUint64Array,
    out: BigUint64Array,
  ): number;
  hugeZeroed(content: HugeContent, fd: number, out: BigUint64Array): number;
  writeMapped(fd: number, offset: number, bytes: Buffer, length: number, unit: number): number;
  /** See native/digest.cc; `digests` has two words a page. */
  digestPages(bytes: Buffer, pages: number, digests: BigUint64Array, first: number, changed: Uint8Array): number;
  /** See native/page-digests.cc; digests have two words a page. */
  keyedDigests(bytes: Buffer, pages: number, key: Buffer, out: BigUint64Array): number;
  indexDigests(digests: BigUint64Array, table: Uint32Array): number;
  findPages(
    bytes: Buffer,
    pages: number,
    key: Buffer,
    digests: BigUint64Array,
    table: Uint32Array,
    found: Uint32Array,
  ): number;
  /** See src/kernel/write-behind.ts. */
  writeBehindNew(most: number): WriteQueue;
  writeBehindPush(queue: WriteQueue, fd: number, bytes: Buffer, length: number, at: number): number;
  writeBehindWait(queue: WriteQueue, failed: Float64Array): number;
  writeBehindEnd(queue: WriteQueue): number;
  /** See native/crc32c.cc. */
  crc32c(bytes: Buffer, previous: number): number;
  verify(stream: Buffer, offset: number, end: number): number;
  mapShared(fd: number, bytes: number): Buffer | number;
  /** Returns the offset behind what was taken; state: [bytes in the window, bytes of the next record that were taken]. */
  fillWindow(stream: Buffer, offset: number, window: Buffer, state: Float64Array): number;
  apply(pid: number, memFd: number, stream: Buffer, offset: number, end: number): number;

  /** Receives all frames waiting on one packet socket and sends them on another, headers of offloads included. */
  forwardFrames(fromFd: number, toFd: number): number;
  /** See src/kernel/packet-queue.ts. */
  queueDrain(fd: number, out: Float64Array): number;
  queueVerdict(fd: number, queue: number, upToId: number, verdict: number): number;
  /** See native/tcp.cc. */
  tcpDump(
    pidfds: Int32Array,
    fds: Int32Array,
    slots: Int32Array,
    previous: Buffer,
    next: Buffer,
    results: Int32Array,
    bytes: Buffer,
    options: boolean,
    stampsAt: Int32Array,
    stamps: Buffer,
    known: Buffer,
    used: Float64Array,
  ): number;
}

export const addon: Addon = createRequire(import.meta.url)("../../build/understudy.node");
