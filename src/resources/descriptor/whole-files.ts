/** A walk over all of a process's open files (BPF iterator, kernel 5.8 with BTF): for kernels on which changed-files.ts cannot tell. */

import { linkIterator, loadIteratorProgram } from "../../kernel/bpf.ts";
import { Assembler } from "../../kernel/bpf-assembler.ts";
import { kernelFunctionId, readKernelTypes } from "../../kernel/btf.ts";
import { closeDescriptor, readWalk } from "../../kernel/calls.ts";
import { O_CLOEXEC } from "../../kernel/files.ts";
import { STAMP, STAMP_BYTES, STAMP_FIELDS } from "../tcp/stamp.ts";
import {
  HEAD,
  HEAD_BYTES,
  openFile,
  PLAIN,
  PLAIN_FIELDS,
  PLAIN_STAMP_BYTES,
  S_IFDIR,
  S_IFIFO,
  S_IFMT,
  UNSETTLED,
  WRITTEN,
} from "./file-record.ts";
import type { OpenFile, OpenFiles, OpenFileWalk } from "./open-files.ts";

const FIELDS = [
  ...PLAIN_FIELDS,
  "socket.sk",
  "task_struct.files",
  "files_struct.fdt",
  "fdtable.close_on_exec",
  ...Object.values(STAMP_FIELDS),
];

/** struct bpf_iter__task_file */
const CONTEXT = { task: 8, fd: 16, file: 24 } as const;
const STACK = { head: -HEAD_BYTES, stamp: -HEAD_BYTES - STAMP_BYTES, word: -HEAD_BYTES - STAMP_BYTES - 8 } as const;
const WORD_BITS = 64;

function program(at: (field: string) => number) {
  const a = new Assembler();
  const put = (field: keyof typeof HEAD) => STACK.head + HEAD[field];
  a.move(6, 1).load(7, 6, CONTEXT.file).jumpIfZero(7, "out").load(8, 6, CONTEXT.task).jumpIfZero(8, "out");
  a.store(10, put("file"), 7).load(1, 7, at("file.f_op")).store(10, put("operations"), 1);
  a.load(9, 7, at("file.f_inode")).load(1, 9, at("inode.i_ino")).store(10, put("inode"), 1);
  a.load16(1, 9, at("inode.i_mode")).store32(10, put("mode"), 1);
  a.load(1, 9, at("inode.i_flctx")).store(10, put("locks"), 1);
  // Its bit in the table of descriptors that exec closes.
  a.load(1, 8, at("task_struct.files")).load(1, 1, at("files_struct.fdt")).load(3, 1, at("fdtable.close_on_exec"));
  a.load32(9, 6, CONTEXT.fd).store32(10, put("fd"), 9).move(1, 9).shiftRight(1, 6).shiftLeft(1, 3).add(3, 1);
  a.probeRead(STACK.word, 3, 8)
    .load(1, 10, STACK.word)
    .andConstant(9, WORD_BITS - 1)
    .shiftRightBy(1, 9);
  a.andConstant(1, 1).shiftLeft(1, Math.log2(O_CLOEXEC)).load32(2, 7, at("file.f_flags")).or(1, 2);
  a.store32(10, put("flags"), 1).constant(1, 0).store32(10, put("stamp"), 1);
  a.socketOf(7).jumpIfZero(0, "plain").load(1, 0, at("socket.sk")).jumpIfZero(1, "plain");
  a.tcpSocketOf(1).jumpIfZero(0, "plain").move(9, 0);
  // What is read while the kernel works on the socket need not fit together: then the stamp says so.
  const word = (name: keyof typeof STAMP_FIELDS) => a.load32(1, 9, at(STAMP_FIELDS[name]));
  const stamp = (name: keyof typeof STAMP) => STACK.stamp + STAMP[name];
  word("lock").store32(10, stamp("unsettled"), 1);
  for (const name of ["segmentsIn", "segmentsOut"] as const) word(name).store32(10, stamp(name), 1);
  for (const name of ["bytesAcknowledged", "bytesReceived", "socketFlags"] as const)
    a.load(1, 9, at(STAMP_FIELDS[name])).store(10, stamp(name), 1);
  a.load8(1, 9, at(STAMP_FIELDS.state)).store32(10, stamp("state"), 1);
  a.load8(1, 9, at(STAMP_FIELDS.shutdown)).store32(10, stamp("shutdown"), 1);
  a.load16(1, 9, at(STAMP_FIELDS.urgent)).load32(2, 10, stamp("unsettled")).or(2, 1).store32(10, stamp("unsettled"), 2);
  for (const name of [
    "received",
    "copied",
    "written",
    "unacknowledged",
    "sent",
    "windowUpdate",
    "sendWindow",
    "mostWindow",
    "receiveWindow",
    "receiveWindowAt",
    "backlog",
    "backlogLimit",
    "error",
  ] as const)
    word(name).store32(10, stamp(name), 1);
  word("lock").load32(2, 10, stamp("unsettled")).or(2, 1).store32(10, stamp("unsettled"), 2);
  for (const name of ["segmentsIn", "segmentsOut"] as const)
    word(name).load32(2, 10, stamp(name)).jump("notEqual", 1, 2, "moved");
  a.goto("settled").label("moved").constant(1, 1).store32(10, stamp("unsettled"), 1).label("settled");
  a.constant(1, STAMP_BYTES).store32(10, put("stamp"), 1).sequenceWrite(6, STACK.head, HEAD_BYTES);
  a.sequenceWrite(6, STACK.stamp, STAMP_BYTES).goto("out");
  a.label("plain");
  plainStamp(a, at);
  a.constant(1, PLAIN_STAMP_BYTES).store32(10, put("stamp"), 1).sequenceWrite(6, STACK.head, HEAD_BYTES);
  a.sequenceWrite(6, STACK.stamp, PLAIN_STAMP_BYTES);
  return a.label("out").exit().finish();
}

/** Of the file in r7. Uses up r8 and r9. */
function plainStamp(a: Assembler, at: (field: string) => number): void {
  const put = (field: keyof typeof PLAIN) => STACK.stamp + PLAIN[field];
  a.load(1, 7, at("file.f_pos")).store(10, put("position"), 1).constant(1, 0);
  for (const field of ["counter", "offset", "rest"] as const) a.store(10, put(field), 1);
  a.load(8, 7, at("file.f_inode")).load16(1, 8, at("inode.i_mode")).andConstant(1, S_IFMT);
  a.constant(2, S_IFIFO).jump("equal", 1, 2, "pipe").constant(2, S_IFDIR).jump("equal", 1, 2, "unsettled");
  // Of what is no eventfd nobody asks for it.
  a.load(3, 7, at("file.private_data")).addConstant(3, at("eventfd_ctx.count")).probeRead(put("counter"), 3, 8);
  a.goto("stamped").label("pipe").load(8, 8, at("inode.i_pipe")).jumpIfZero(8, "unsettled");
  a.load32(1, 8, at("pipe_inode_info.head")).store32(10, put("head"), 1);
  a.load32(9, 8, at("pipe_inode_info.tail")).store32(10, put("tail"), 9);
  a.load32(2, 8, at("pipe_inode_info.ring_size")).store32(10, put("rest") + 4, 2);
  a.jump("equal", 1, 9, "stamped").subtract(1, 9).constant(3, 1).jump("notEqual", 1, 3, "unsettled");
  // All that is in it is in one piece: where that begins and ends.
  a.addConstant(2, -1).and(9, 2).multiplyConstant(9, at("pipe_buffer"));
  a.load(1, 8, at("pipe_inode_info.bufs")).add(9, 1);
  const field = (name: "offset" | "len" | "flags", to: number) => {
    a.move(3, 9)
      .addConstant(3, at(`pipe_buffer.${name}`))
      .probeRead(to, 3, 4);
  };
  field("offset", put("offset"));
  field("len", put("length"));
  field("flags", STACK.word);
  a.load32(1, 10, STACK.word).andConstant(1, WRITTEN).constant(2, 0).jump("notEqual", 1, 2, "stamped");
  a.label("unsettled").constant(1, UNSETTLED).store32(10, put("rest"), 1).label("stamped");
}

export class WholeFiles implements OpenFiles {
  readonly #program: number;

  /** @throws Error when the kernel has no such walk */
  constructor() {
    const { fields } = readKernelTypes([], FIELDS);
    const missing = FIELDS.filter((field) => !fields.has(field));
    if (missing.length > 0) throw new Error(`the kernel has no ${missing.join(", ")}`);
    const id = kernelFunctionId("bpf_iter_task_file");
    this.#program = loadIteratorProgram(
      "us_open_files",
      program((field) => fields.get(field)!),
      id,
    );
  }

  of(pid: number): OpenFileWalk {
    return new WholeFileWalk(linkIterator(this.#program, pid));
  }

  close(): void {
    closeDescriptor(this.#program);
  }
}

const FIRST_FILES = 256;

class WholeFileWalk implements OpenFileWalk {
  readonly #link: number;
  #heads = Buffer.alloc(FIRST_FILES * HEAD_BYTES);
  #before = Buffer.alloc(FIRST_FILES * HEAD_BYTES);
  #stamps = Buffer.alloc(FIRST_FILES * STAMP_BYTES);
  #bytes = 0;
  /** Where each TCP socket's stamp is, and each plain one, by descriptor. */
  #stampAt: Map<number, number> | undefined;
  readonly #plainAt = new Map<number, number>();

  constructor(link: number) {
    this.#link = link;
  }

  look(): boolean {
    const before = this.#heads.subarray(0, this.#bytes);
    [this.#heads, this.#before] = [this.#before, this.#heads];
    for (;;) {
      const n = readWalk(this.#link, this.#heads, this.#stamps, HEAD_BYTES);
      if (n >= 0) {
        this.#bytes = n;
        break;
      }
      this.#heads = Buffer.alloc(2 * this.#heads.length);
      this.#stamps = Buffer.alloc((this.#heads.length / HEAD_BYTES) * STAMP_BYTES);
    }
    if (this.#heads.subarray(0, this.#bytes).equals(before)) return false;
    this.#stampAt = undefined;
    return true;
  }

  files(): OpenFile[] {
    const files: OpenFile[] = [];
    for (let at = 0; at < this.#bytes; at += HEAD_BYTES) files.push(openFile(this.#heads, at));
    return files;
  }

  // Such a kernel tells neither of what epoll instances watch nor of single files.
  file(): undefined {
    return undefined;
  }

  readonly now = 0;
  touchedSince(): undefined {
    return undefined;
  }

  get bytes(): Buffer {
    return this.#stamps;
  }

  at(fd: number): number | undefined {
    this.#stampAt ??= this.#findStamps();
    return this.#stampAt.get(fd);
  }

  #findStamps(): Map<number, number> {
    const found = new Map<number, number>();
    this.#plainAt.clear();
    let stampAt = 0;
    for (let at = 0; at < this.#bytes; at += HEAD_BYTES) {
      const bytes = this.#heads.readUInt32LE(at + HEAD.stamp);
      const places = bytes === STAMP_BYTES ? found : this.#plainAt;
      places.set(this.#heads.readUInt32LE(at + HEAD.fd), stampAt);
      stampAt += bytes;
    }
    return found;
  }

  plain(fd: number): Buffer | undefined {
    this.#stampAt ??= this.#findStamps();
    const at = this.#plainAt.get(fd);
    return at === undefined ? undefined : this.#stamps.subarray(at, at + PLAIN_STAMP_BYTES);
  }

  close(): void {
    closeDescriptor(this.#link);
  }
}
