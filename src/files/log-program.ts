/**
 * The programs of the file log, which run in the kernel at ext4's tracepoints. They know only the inodes that the capture
 * follows; anything else on the machine costs one look into a hash map per write.
 *
 * Per inode: {range generation, start, end, noticed generation}. Writes that touch the range extend it; another one sends the
 * old range to the events and begins anew. The range is changed only under the inode's lock (write_end runs under it), the
 * rest may run at the same time on several processors.
 */

import type { Instruction } from "../kernel/bpf.ts";
import { Assembler } from "../kernel/bpf-assembler.ts";

export const INODE_BYTES = 32;
export const CONTROL_BYTES = 16;
export const STATE_BYTES = 16;
/** So many inodes are remembered as told of in this generation; another is told of more often. */
export const MOST_MAPPED = 1 << 14;
/** {sequence number + 1, inode, start, end, generation} */
export const EVENT_BYTES = 40;
/** A power of two. */
export const EVENTS = 1 << 18;
/** Bit in an event's generation: told before the operation, whose effect may come later. */
export const EARLY = 1n << 62n;
/** Bit in an event's generation: a page of the inode has become writable in a shared mapping; followed or not. */
export const MAPPED = 1n << 61n;
const FOREVER = (1n << 63n) - 1n;

export interface LogMaps {
  inodes: number;
  /** {generation, device}, written by the capture. */
  control: number;
  /** {events so far, those of them that tell of mappings}, written by the programs. */
  state: number;
  events: number;
  /** Generation in which an inode was last told of as mapped. */
  mapped: number;
}

export const FIELDS = [
  "inode.i_ino",
  "inode.i_sb",
  "inode.i_size",
  "super_block.s_dev",
  "kiocb.ki_filp",
  "kiocb.ki_pos",
  "file.f_inode",
  "task_struct.flags",
  "inode.i_data",
  "inode.i_rwsem",
  "rw_semaphore.owner",
  "address_space.host",
  "address_space.i_mmap_writable",
  "buffer_head.b_folio",
  "folio.mapping",
];

type Fields = Map<string, number>;

interface Tracepoint {
  name: string;
  required: boolean;
  program: (maps: LogMaps, fields: Fields) => Instruction[];
}

/**
 * No tracepoint is a mapped write's own. Before a page of a shared mapping becomes writable (fs/ext4/inode.c: ext4_page_mkwrite),
 * the inode's times are set, if they are not what they shall be already, and the page's buffers are made dirty, whether they are
 * or not (with delayed allocation); other ways into a dirty page are seen when it was clean. All of that happens without the
 * inode's lock, which a write(2) has. Later writes to the page give no sign, for as long as it is mapped.
 */
const MAPPING_TRACEPOINTS: Tracepoint[] = [
  // (inode …)
  { name: "ext4_mark_inode_dirty", required: true, program: (maps, fields) => mapped(maps, fields, "inode") },
  // (buffer_head)
  { name: "block_dirty_buffer", required: true, program: (maps, fields) => mapped(maps, fields, "buffer") },
  // (folio, mapping)
  { name: "writeback_dirty_folio", required: true, program: (maps, fields) => mapped(maps, fields, "mapping") },
];

/** What a tracepoint tells; `required`: the log is not complete without it. */
export const TRACEPOINTS: Tracepoint[] = [
  // (inode, pos, len, copied), the data is in the page cache already.
  { name: "ext4_da_write_end", required: true, program: written },
  { name: "ext4_write_end", required: true, program: written },
  { name: "ext4_journalled_write_end", required: true, program: written },
  // (iocb, error, ret), ki_pos is behind the data.
  { name: "iomap_dio_complete", required: true, program: directly },
  // (inode), i_size is the new one.
  { name: "ext4_truncate_enter", required: true, program: (maps, fields) => early(maps, fields, "size") },
  // (inode, offset, len …)
  { name: "ext4_fallocate_enter", required: true, program: (maps, fields) => early(maps, fields, "range") },
  { name: "ext4_punch_hole", required: true, program: (maps, fields) => early(maps, fields, "range") },
  { name: "ext4_zero_range", required: true, program: (maps, fields) => early(maps, fields, "range") },
  { name: "ext4_collapse_range", required: true, program: (maps, fields) => early(maps, fields, "offset") },
  { name: "ext4_insert_range", required: true, program: (maps, fields) => early(maps, fields, "offset") },
  // (inode …), after anything else about an inode: names in a directory, mode, owner, times, links.
  { name: "ext4_mark_inode_dirty", required: true, program: touched },
  // (inode, blocks, reserved, revoked, type …), before extended attributes change.
  { name: "ext4_journal_start_inode", required: true, program: beginning },
  ...MAPPING_TRACEPOINTS,
];

// Stack.
const INODE = -8;
const START = -16;
const END = -24;
const GENERATION = -32;
const SEQUENCE = -40;
const KEY = -48;

/** Leaves at "out" when the inode in r6 is on another device; else its number is in r7 and on the stack. */
function onDevice(a: Assembler, maps: LogMaps, fields: Fields): Assembler {
  const at = (field: string) => fields.get(field)!;
  return a
    .load(2, 6, at("inode.i_sb"))
    .load32(2, 2, at("super_block.s_dev"))
    .mapValue(1, maps.control)
    .load(3, 1, 8)
    .jump("notEqual", 2, 3, "out")
    .load(7, 6, at("inode.i_ino"))
    .store(10, INODE, 7);
}

/** r6 = the inode's entry, r7 = the generation now; leaves at "out" for inodes that nobody follows. r6 must be the inode. */
function find(a: Assembler, maps: LogMaps, fields: Fields): Assembler {
  return onDevice(a, maps, fields)
    .lookUp(maps.inodes, INODE)
    .jumpIfZero(0, "out")
    .move(6, 0)
    .mapValue(1, maps.control)
    .load(7, 1, 0);
}

/** Sends {inode, START, END, GENERATION} of the stack to the events. Uses up r0–r5. */
function push(a: Assembler, maps: LogMaps): Assembler {
  return a
    .mapValue(1, maps.state)
    .constant(0, 1)
    .fetchAdd(1, 0, 0)
    .store(10, SEQUENCE, 0)
    .andConstant(0, EVENTS - 1)
    .store32(10, KEY, 0)
    .lookUp(maps.events, KEY)
    .jumpIfZero(0, "out")
    .load(1, 10, INODE)
    .store(0, 8, 1)
    .load(1, 10, START)
    .store(0, 16, 1)
    .load(1, 10, END)
    .store(0, 24, 1)
    .load(1, 10, GENERATION)
    .store(0, 32, 1)
    .load(1, 10, SEQUENCE)
    .addConstant(1, 1)
    .store(0, 0, 1);
}

/** Once a generation: this inode is to be looked at. */
function notice(a: Assembler, maps: LogMaps): Assembler {
  const known = a.name();
  a.load(1, 6, 24).jump("equal", 1, 7, known).store(6, 24, 7);
  a.constant(1, 0).store(10, START, 1).store(10, END, 1).store(10, GENERATION, 7);
  return push(a, maps).label(known);
}

function end(a: Assembler): Instruction[] {
  return a.label("out").exit().finish();
}

/** Kernel threads write out what is there already; they change nothing (include/linux/sched.h: PF_KTHREAD). */
const KERNEL_THREAD = 0x200000;

function touched(maps: LogMaps, fields: Fields): Instruction[] {
  const a = new Assembler().load(6, 1, 0).currentTask().load32(1, 0, fields.get("task_struct.flags")!);
  a.andConstant(1, KERNEL_THREAD).constant(2, 0).jump("notEqual", 1, 2, "out");
  return end(notice(find(a, maps, fields), maps));
}

/** EXT4_HT_XATTR of fs/ext4/ext4_jbd2.h; the others below the last known are told by `touched`. */
const ATTRIBUTES = 10;
const LAST_KNOWN_TYPE = 11;

/** Not once a generation but each time: what it announces has not happened yet. */
function beginning(maps: LogMaps, fields: Fields): Instruction[] {
  const a = new Assembler().load(6, 1, 0).load(8, 1, 32);
  a.constant(2, ATTRIBUTES).jump("equal", 8, 2, "wanted").constant(2, LAST_KNOWN_TYPE).jump("greater", 8, 2, "wanted");
  a.goto("out").label("wanted");
  find(a, maps, fields);
  a.constant(1, 0).store(10, START, 1).store(10, END, 1);
  a.wide(1, EARLY).or(1, 7).store(10, GENERATION, 1);
  return end(push(a, maps));
}

function written(maps: LogMaps, fields: Fields): Instruction[] {
  const a = new Assembler().load(6, 1, 0).load(8, 1, 8).load(9, 1, 16).add(9, 8);
  notice(find(a, maps, fields), maps);
  a.load(1, 6, 0).load(2, 6, 8).load(3, 6, 16);
  // Nothing there yet?
  a.jump("atLeast", 2, 3, "set");
  a.jump("notEqual", 1, 7, "flush").jump("greater", 8, 3, "flush").jump("less", 9, 2, "flush");
  a.jump("atLeast", 8, 2, "begins").store(6, 8, 8).label("begins");
  a.jump("atLeast", 3, 9, "out").store(6, 16, 9).goto("out");
  a.label("flush").store(10, START, 2).store(10, END, 3).store(10, GENERATION, 1);
  push(a, maps);
  a.label("set").store(6, 0, 7).store(6, 8, 8).store(6, 16, 9);
  return end(a);
}

/** Several direct writes may end at the same time: their ranges go to the events at once. */
function directly(maps: LogMaps, fields: Fields): Instruction[] {
  const a = new Assembler().load(6, 1, 0).load(8, 1, 16);
  // Nothing or an error: ret is signed.
  a.constant(2, 0).wide(3, FOREVER).jump("greater", 8, 3, "out").jump("equal", 8, 2, "out");
  a.load(9, 6, fields.get("kiocb.ki_pos")!)
    .load(6, 6, fields.get("kiocb.ki_filp")!)
    .load(6, 6, fields.get("file.f_inode")!);
  a.move(2, 9).subtract(2, 8).move(8, 2);
  notice(find(a, maps, fields), maps);
  a.store(10, START, 8).store(10, END, 9).store(10, GENERATION, 7);
  return end(push(a, maps));
}

function early(maps: LogMaps, fields: Fields, extent: "size" | "range" | "offset"): Instruction[] {
  const a = new Assembler().load(6, 1, 0);
  if (extent === "size") a.load(8, 6, fields.get("inode.i_size")!);
  else a.load(8, 1, 8);
  if (extent === "range") a.load(9, 1, 16).add(9, 8);
  else a.wide(9, FOREVER);
  notice(find(a, maps, fields), maps);
  a.wide(1, EARLY).or(1, 7).store(10, START, 8).store(10, END, 9).store(10, GENERATION, 1);
  return end(push(a, maps));
}

/** Bit of a semaphore's owner beside the task (kernel/locking/rwsem.c: RWSEM_NONSPINNABLE); one for readers stays. */
const WITHOUT_NONSPINNABLE = ~2;

/**
 * Once a generation: an inode that is mapped shared changes, and not by a task that has its lock. Nobody need follow it yet: it may
 * be followed soon, with that page still writable.
 */
function mapped(maps: LogMaps, fields: Fields, from: "inode" | "buffer" | "mapping"): Instruction[] {
  const at = (field: string) => fields.get(field)!;
  const a = new Assembler();
  if (from === "inode") a.load(6, 1, 0);
  else {
    if (from === "buffer") a.load(1, 1, 0).load(1, 1, at("buffer_head.b_folio")).load(1, 1, at("folio.mapping"));
    else a.load(1, 1, 8);
    a.jumpIfZero(1, "out").load(6, 1, at("address_space.host")).jumpIfZero(6, "out");
  }
  a.load32(1, 6, at("inode.i_data") + at("address_space.i_mmap_writable")).jumpIfZero(1, "out");
  onDevice(a, maps, fields).load(8, 6, at("inode.i_rwsem") + at("rw_semaphore.owner"));
  a.currentTask().andConstant(8, WITHOUT_NONSPINNABLE).jump("equal", 0, 8, "out");
  a.load32(1, 0, at("task_struct.flags")).andConstant(1, KERNEL_THREAD).constant(2, 0).jump("notEqual", 1, 2, "out");
  a.mapValue(1, maps.control).load(7, 1, 0).store(10, GENERATION, 7);
  a.lookUp(maps.mapped, INODE).jumpIfZero(0, "new").load(1, 0, 0).jump("equal", 1, 7, "out");
  a.store(0, 0, 7).goto("tell").label("new").update(maps.mapped, INODE, GENERATION).label("tell");
  a.mapValue(1, maps.state).constant(0, 1).fetchAdd(1, 8, 0);
  a.constant(1, 0).store(10, START, 1).store(10, END, 1);
  a.wide(1, MAPPED).or(1, 7).store(10, GENERATION, 1);
  return end(push(a, maps));
}
