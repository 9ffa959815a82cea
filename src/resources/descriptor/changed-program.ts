/**
 * The program behind changed-files.ts: goes over a process's table of descriptors in the kernel, makes of each file one number of all
 * that open-files.ts tells of it, and tells only of those whose number is another than the last time.
 */

import type { Instruction } from "../../kernel/bpf.ts";
import type { Register } from "../../kernel/bpf-assembler.ts";
import { ReadAssembler, ReadTypes } from "../../kernel/bpf-reader.ts";
import { kernelFunctionId } from "../../kernel/btf.ts";
import { O_CLOEXEC } from "../../kernel/files.ts";
import { AF_INET, AF_INET6 } from "../../kernel/socket.ts";
import { STAMP, STAMP_BYTES, STAMP_FIELDS } from "../tcp/stamp.ts";
import {
  HEAD,
  HEAD_BYTES,
  PLAIN,
  PLAIN_FIELDS,
  PLAIN_STAMP_BYTES,
  S_IFDIR,
  S_IFIFO,
  S_IFMT,
  S_IFSOCK,
  UNSETTLED,
  WRITTEN,
} from "./file-record.ts";

/** A head and the longest stamp. */
export const RECORD_BYTES = HEAD_BYTES + STAMP_BYTES;
/** So many are told of in one run at most. */
export const RECORDS = 512;

/**
 * What the program and who runs it share: {u32 first of the process's numbers, u32 how many, u32 descriptor to begin with, u32
 * where it came to, u32 slots of the process's table, u32 records, u64 file operations of sockets, u32 descriptors up to the highest one
 * that was ever there, u32 whether only to touch the memory that a look reads}, records, numbers.
 */
export const SHARED = {
  first: 0,
  slots: 4,
  begin: 8,
  end: 12,
  table: 16,
  count: 20,
  sockets: 24,
  known: 32,
  touchOnly: 36,
  records: 64,
} as const;
export const ENTRIES_AT = SHARED.records + RECORDS * RECORD_BYTES;
/** {u64 number, u64 struct sock of a TCP socket or 0} */
export const ENTRY_BYTES = 16;
const ENTRY = { number: 0, socket: 8 } as const;

const FIELDS = [
  ...PLAIN_FIELDS,
  "socket.sk",
  "sock_common.skc_family",
  "sock.sk_type",
  "sock.sk_protocol",
  "sock.sk_socket",
  "task_struct.files",
  "files_struct.fdt",
  "fdtable.fd",
  "fdtable.max_fds",
  "fdtable.close_on_exec",
  "fdtable.open_fds",
  ...Object.values(STAMP_FIELDS),
];
/** Since kernel 6.18 in the socket itself, which spares a look at its inode. */
const SOCKET_INODE = "sock.sk_ino";

/** struct bpf_iter__task */
const CONTEXT = { task: 8 } as const;
const STACK = {
  table: -8,
  closing: -16,
  slots: -24,
  blocks: -32,
  from: -40,
  to: -48,
  loop: -56,
  fd: -64,
  entry: -72,
  inode: -80,
  socket: -88,
  open: -96,
} as const;
const SOCK_STREAM = 1;
const IPPROTO_TCP = 6;
/** Of a file that is told of each time. Numbers of files are odd, that of none is 0. */
const ALWAYS = 2;
const WORD_BITS = 64;
/** Descriptors whose memory is asked for together, before any of it is worked with: mostly none of it is in the processor's caches. */
const BLOCK = 16;

/** What may change of a TCP socket without a segment coming or going. Both are counted, and first of all. */
const OWN = ["copied", "written", "error", "backlog", "backlogLimit"] as const;
const BY_SEGMENTS = [
  "received",
  "unacknowledged",
  "sent",
  "windowUpdate",
  "sendWindow",
  "mostWindow",
  "receiveWindow",
  "receiveWindowAt",
] as const;
const TOUCHED = ["state", "socketFlags", "shutdown", "segmentsIn", "segmentsOut", ...OWN] as const;

/** Looks up what it needs of the kernel's types once, some ten milliseconds. */
export class ChangedProgram {
  /** BTF id of what it runs at. */
  readonly target = kernelFunctionId("bpf_iter_task");
  readonly #types = new ReadTypes(FIELDS, [SOCKET_INODE]);

  /** @throws Error when the kernel has not all of it: loads from any address, loops (kernel 6.4) */
  constructor() {
    // So that later ones find all ids.
    this.write(0, 0);
  }

  /** @param entries how many the map has room for */
  write(mapFd: number, entries: number): Instruction[] {
    return new Writer(this.#types, mapFd, entries).write();
  }
}

/** Registers: r6 the record, r7 the file, r8 what is read of, r9 the number so far. */
class Writer {
  readonly #a: ReadAssembler;
  readonly #types: ReadTypes;
  readonly #mapFd: number;
  readonly #entries: number;

  constructor(types: ReadTypes, mapFd: number, entries: number) {
    this.#a = new ReadAssembler(types);
    this.#types = types;
    this.#mapFd = mapFd;
    this.#entries = entries;
  }

  #at(field: string): number {
    return this.#types.at(field);
  }

  write(): Instruction[] {
    const a = this.#a;
    const bits = Math.log2(BLOCK);
    a.load(7, 1, CONTEXT.task).jumpIfZero(7, "out").mapValue(6, this.#mapFd);
    a.load(1, 7, this.#at("task_struct.files")).jumpIfZero(1, "out").load(1, 1, this.#at("files_struct.fdt"));
    a.load(2, 1, this.#at("fdtable.fd")).store(10, STACK.table, 2);
    a.load(2, 1, this.#at("fdtable.close_on_exec")).store(10, STACK.closing, 2);
    a.load(2, 1, this.#at("fdtable.open_fds")).store(10, STACK.open, 2);
    a.load32(2, 1, this.#at("fdtable.max_fds")).store(10, STACK.slots, 2).store32(6, SHARED.table, 2);
    a.load32(3, 6, SHARED.slots).jump("greater", 2, 3, "out").store32(6, SHARED.end, 3);
    a.load32(2, 6, SHARED.begin)
      .shiftRight(2, bits)
      .addConstant(3, BLOCK - 1)
      .shiftRight(3, bits);
    a.loop("new", STACK.blocks).label("block");
    a.loop("next", STACK.blocks).jumpIfZero(0, "end").load32(1, 0, 0).shiftLeft(1, bits);
    a.store(10, STACK.from, 1).addConstant(1, BLOCK).store(10, STACK.to, 1);
    this.#skipEmpty();
    this.#touchBlock();
    a.mapValue(1, this.#mapFd).load32(1, 1, SHARED.touchOnly).constant(2, 0).jump("notEqual", 1, 2, "block");
    a.load(2, 10, STACK.from).load(3, 10, STACK.to);
    a.loop("new", STACK.loop).label("next");
    a.loop("next", STACK.loop).jumpIfZero(0, "done").load32(1, 0, 0).store(10, STACK.fd, 1);
    this.#one();
    a.label("done");
    a.loop("destroy", STACK.loop).goto("block").label("full");
    a.loop("destroy", STACK.loop).mapValue(6, this.#mapFd).load(1, 10, STACK.fd).store32(6, SHARED.end, 1);
    a.label("end");
    return a.loop("destroy", STACK.blocks).label("out").exit().finish();
  }

  /** to = the file of the descriptor in r1; on to `none` when there is none. Uses up r1–r5. */
  #file(to: Register, none: string): void {
    const a = this.#a;
    a.load(2, 10, STACK.slots).jump("atLeast", 1, 2, none).load(2, 10, STACK.table).shiftLeft(1, 3).add(1, 2);
    a.word(to, 1, 0).jumpIfZero(to, none);
  }

  /** to = the address of what is kept of the descriptor in r1. Uses up r1, r2 and r3. */
  #entry(to: Register, none: string): ReadAssembler {
    const a = this.#a.mapValue(2, this.#mapFd).load32(3, 2, SHARED.first).add(1, 3).constant(3, this.#entries);
    a.jump("atLeast", 1, 3, none).shiftLeft(1, Math.log2(ENTRY_BYTES)).add(2, 1).addConstant(2, ENTRIES_AT);
    return a.move(to, 2);
  }

  /** Tables grow by doubling: half of one may never have been used. */
  #skipEmpty(): void {
    const a = this.#a;
    a.mapValue(2, this.#mapFd).load32(2, 2, SHARED.known).load(7, 10, STACK.from).jump("less", 7, 2, "used");
    a.load(2, 10, STACK.slots).jump("atLeast", 7, 2, "block").move(1, 7).shiftRight(1, 6).shiftLeft(1, 3);
    a.load(2, 10, STACK.open)
      .add(1, 2)
      .word(1, 1, 0)
      .andConstant(7, WORD_BITS - 1)
      .shiftRightBy(1, 7);
    a.andConstant(1, 2 ** BLOCK - 1)
      .jumpIfZero(1, "block")
      .label("used");
  }

  /** Asks for the memory of a block's files, and of the sockets that they were the last time, one behind the other without waiting. */
  #touchBlock(): void {
    const a = this.#a;
    a.load(6, 10, STACK.from).mapValue(7, this.#mapFd).load32(1, 7, SHARED.first).add(1, 6);
    a.constant(2, this.#entries - BLOCK)
      .jump("greater", 1, 2, "touched")
      .shiftLeft(1, Math.log2(ENTRY_BYTES))
      .add(7, 1);
    a.addConstant(7, ENTRIES_AT).load(1, 10, STACK.table).shiftLeft(6, 3).add(1, 6).words(1, 0).move(6, 0);
    const lines = new Map(TOUCHED.map((name) => [this.#at(STAMP_FIELDS[name]) >> 6, this.#at(STAMP_FIELDS[name])]));
    for (let i = 0; i < BLOCK; i++) {
      a.load(1, 6, 8 * i)
        .as("file", 1)
        .load32(1, 0, this.#at("file.f_flags"));
      a.load(1, 7, i * ENTRY_BYTES + ENTRY.socket).as("tcp_sock", 1);
      for (const at of lines.values()) a.load8(1, 0, at);
    }
    a.label("touched");
  }

  /** The descriptor in r1. */
  #one(): void {
    const a = this.#a;
    // The next free record is filled in any case, and counted if it is to be told.
    a.mapValue(6, this.#mapFd).load32(2, 6, SHARED.count).constant(3, RECORDS).jump("atLeast", 2, 3, "full");
    a.multiplyConstant(2, RECORD_BYTES).add(6, 2).addConstant(6, SHARED.records).store32(6, HEAD.fd, 1);
    this.#entry(4, "done").store(10, STACK.entry, 4);
    a.constant(9, 0).store(6, HEAD.file, 9).store(10, STACK.socket, 9).load(1, 10, STACK.fd);
    this.#file(7, "compare");
    a.store(6, HEAD.file, 7).mix(9, 7);
    // Its bit in the table of descriptors that exec closes.
    a.load(4, 10, STACK.fd).move(1, 4).shiftRight(1, 6).shiftLeft(1, 3).load(2, 10, STACK.closing).add(1, 2);
    a.word(8, 1, 0)
      .load(4, 10, STACK.fd)
      .andConstant(4, WORD_BITS - 1)
      .shiftRightBy(8, 4);
    a.andConstant(8, 1).shiftLeft(8, Math.log2(O_CLOEXEC));
    a.as("file", 7).load32(1, 0, this.#at("file.f_flags")).or(1, 8).store32(6, HEAD.flags, 1);
    a.mix(9, 1);
    a.word(8, 7, this.#at("file.f_op")).store(6, HEAD.operations, 8);
    // All sockets have the same operations, whose address is learnt from the first one.
    a.mapValue(1, this.#mapFd).load(2, 1, SHARED.sockets).jump("notEqual", 8, 2, "other");
    // A socket that says to belong to this file is the file's: who lets go of a socket clears that first.
    a.load(1, 10, STACK.entry).load(8, 1, ENTRY.socket).jumpIfZero(8, "find");
    a.word(1, 8, this.#at("sock.sk_socket")).store(10, STACK.inode, 1);
    a.word(1, 7, this.#at("file.private_data")).load(2, 10, STACK.inode).jump("equal", 1, 2, "tcp").goto("find");
    a.label("other");
    a.word(8, 7, this.#at("file.f_inode"));
    a.as("inode", 8).load16(1, 0, this.#at("inode.i_mode")).andConstant(1, S_IFMT);
    a.constant(2, S_IFSOCK).jump("notEqual", 1, 2, "plain").label("find");
    this.#find();
    a.label("plain");
    this.#plain();
    a.label("tcp");
    this.#tcp();
    a.label("always").constant(9, ALWAYS).goto("compare");
    this.#compare();
  }

  /** r8 = the TCP socket that the file in r7 is; goes on to `tcp`, or falls through. */
  #find(): void {
    const a = this.#a;
    a.word(1, 7, this.#at("file.private_data")).jumpIfZero(1, "plain");
    a.word(8, 1, this.#at("socket.sk")).jumpIfZero(8, "plain");
    a.as("tcp_sock", 8).load16(1, 0, this.#at("sock.sk_protocol")).constant(2, IPPROTO_TCP);
    a.jump("notEqual", 1, 2, "plain").load16(1, 0, this.#at("sock.sk_type")).constant(2, SOCK_STREAM);
    a.jump("notEqual", 1, 2, "plain").load16(1, 0, this.#at("sock_common.skc_family")).constant(2, AF_INET);
    a.jump("equal", 1, 2, "found").constant(2, AF_INET6).jump("notEqual", 1, 2, "plain").label("found");
    a.mapValue(1, this.#mapFd).load(2, 6, HEAD.operations).store(1, SHARED.sockets, 2).goto("tcp");
  }

  /** Of the socket in r8. Of its file nobody asks for permissions or locks. */
  #tcp(): void {
    const a = this.#a;
    const field = (to: Register, name: keyof typeof STAMP_FIELDS) => a.load32(to, 8, this.#at(STAMP_FIELDS[name]));
    const to = (name: keyof typeof STAMP) => HEAD_BYTES + STAMP[name];
    /** Two fields of four bytes into the record and, as one word, into the number. */
    const take = (
      low: keyof typeof STAMP_FIELDS & keyof typeof STAMP,
      high: keyof typeof STAMP_FIELDS & keyof typeof STAMP,
    ) => {
      field(1, low).store32(6, to(low), 1);
      field(2, high).store32(6, to(high), 2).shiftLeft(2, 32).or(1, 2);
      return a.mix(9, 1);
    };
    if (this.#types.has(SOCKET_INODE)) a.word(1, 8, this.#at(SOCKET_INODE));
    else a.word(4, 7, this.#at("file.f_inode")).as("inode", 4).load(1, 0, this.#at("inode.i_ino"));
    a.store(6, HEAD.inode, 1).store(10, STACK.socket, 8);
    a.mix(9, 1);
    a.as("tcp_sock", 8).move(8, 0);
    take("segmentsIn", "segmentsOut");
    take("copied", "written");
    take("backlog", "backlogLimit");
    a.load(1, 8, this.#at(STAMP_FIELDS.socketFlags)).store(6, to("socketFlags"), 1);
    a.mix(9, 1);
    a.load8(1, 8, this.#at(STAMP_FIELDS.state)).store32(6, to("state"), 1);
    a.load8(2, 8, this.#at(STAMP_FIELDS.shutdown)).store32(6, to("shutdown"), 2).shiftLeft(2, 8).or(1, 2);
    field(2, "error").store32(6, to("error"), 2).shiftLeft(2, 32).or(1, 2);
    a.mix(9, 1).constant(1, 1).or(9, 1);
    a.load(1, 10, STACK.entry).load(2, 1, ENTRY.number).jump("equal", 2, 9, "next");
    // Both are looked at only here: neither comes without a segment, but for a lock under which nothing has changed yet.
    field(7, "lock").load16(1, 8, this.#at(STAMP_FIELDS.urgent)).or(7, 1);
    a.constant(1, 0).store32(6, HEAD.mode, 1).store(6, HEAD.locks, 1);
    a.constant(1, STAMP_BYTES).store32(6, HEAD.stamp, 1);
    for (const name of ["bytesAcknowledged", "bytesReceived"] as const)
      a.load(1, 8, this.#at(STAMP_FIELDS[name])).store(6, to(name), 1);
    for (const name of BY_SEGMENTS) field(1, name).store32(6, to(name), 1);
    // What is read while the kernel works on the socket need not fit together: then the stamp says so.
    field(1, "lock").or(7, 1);
    for (const name of ["segmentsIn", "segmentsOut"] as const)
      field(1, name).load32(2, 6, to(name)).jump("notEqual", 1, 2, "moved");
    a.goto("settled").label("moved").constant(7, 1).label("settled");
    a.store32(6, to("unsettled"), 7).constant(1, 0).jump("notEqual", 7, 1, "always").goto("compare");
  }

  /** Of the file in r7, as whole-files.ts. */
  #plain(): void {
    const a = this.#a;
    const to = (name: keyof typeof PLAIN) => HEAD_BYTES + PLAIN[name];
    const piece = (name: "offset" | "len" | "flags") => a.load32(1, 8, this.#at(`pipe_buffer.${name}`));
    a.load(1, 6, HEAD.operations);
    a.mix(9, 1).constant(1, PLAIN_STAMP_BYTES).store32(6, HEAD.stamp, 1).constant(1, 0);
    for (const name of ["counter", "offset", "rest"] as const) a.store(6, to(name), 1);
    a.as("file", 7).load(1, 0, this.#at("file.f_pos")).store(6, to("position"), 1);
    a.mix(9, 1);
    a.word(8, 7, this.#at("file.f_inode"));
    a.word(1, 8, this.#at("inode.i_flctx")).store(6, HEAD.locks, 1);
    a.mix(9, 1);
    a.as("inode", 8).load(1, 0, this.#at("inode.i_ino")).store(6, HEAD.inode, 1);
    a.mix(9, 1).load16(1, 0, this.#at("inode.i_mode")).store32(6, HEAD.mode, 1).move(4, 1);
    a.mix(9, 1).andConstant(4, S_IFMT);
    a.constant(2, S_IFIFO).jump("equal", 4, 2, "pipe").constant(2, S_IFDIR).jump("equal", 4, 2, "unsettled");
    // Of what is no eventfd nobody asks for it.
    a.word(8, 7, this.#at("file.private_data"));
    a.word(1, 8, this.#at("eventfd_ctx.count")).store(6, to("counter"), 1).goto("stamped").label("pipe");
    a.word(8, 8, this.#at("inode.i_pipe")).jumpIfZero(8, "unsettled");
    a.as("pipe_inode_info", 8).load32(1, 0, this.#at("pipe_inode_info.head")).store32(6, to("head"), 1);
    a.load32(7, 0, this.#at("pipe_inode_info.tail")).store32(6, to("tail"), 7);
    a.load32(2, 0, this.#at("pipe_inode_info.ring_size")).store32(6, to("rest") + 4, 2);
    a.jump("equal", 1, 7, "stamped").subtract(1, 7).constant(3, 1).jump("notEqual", 1, 3, "unsettled");
    // All that is in it is in one piece: where that begins and ends.
    a.addConstant(2, -1).and(7, 2).multiplyConstant(7, this.#at("pipe_buffer"));
    a.word(8, 8, this.#at("pipe_inode_info.bufs")).add(8, 7);
    a.as("pipe_buffer", 8).move(8, 0);
    piece("offset").store32(6, to("offset"), 1);
    piece("len").store32(6, to("length"), 1);
    piece("flags").andConstant(1, WRITTEN).constant(2, 0).jump("notEqual", 1, 2, "stamped").label("unsettled");
    a.constant(1, UNSETTLED).store32(6, to("rest"), 1).goto("always").label("stamped");
    for (const name of ["counter", "offset", "rest"] as const) {
      a.load(1, 6, to(name));
      a.mix(9, 1);
    }
    a.constant(1, 1).or(9, 1).goto("compare");
  }

  /** Whether the number in r9 is that of the last time; the record counts when it is not. */
  #compare(): void {
    const a = this.#a;
    a.label("compare").load(2, 10, STACK.entry).load(3, 2, ENTRY.number).store(2, ENTRY.number, 9);
    a.load(1, 10, STACK.socket).store(2, ENTRY.socket, 1);
    a.jump("notEqual", 3, 9, "tell").constant(3, ALWAYS).jump("notEqual", 3, 9, "next").label("tell");
    a.mapValue(2, this.#mapFd).load32(3, 2, SHARED.count).addConstant(3, 1).store32(2, SHARED.count, 3).goto("next");
  }
}
