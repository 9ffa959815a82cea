/**
 * One number of all that an epoll instance watches: each file, its descriptor number, its events and data. It is read from the
 * kernel's own tree, as fdinfo takes a microsecond for each of them (BPF, kernel 6.4 with BTF). The application is stopped.
 */
import { createMappableMap, type Instruction, loadTracepointProgram, tracepointRun } from "../../kernel/bpf.ts";
import { ReadAssembler, ReadTypes } from "../../kernel/bpf-reader.ts";
import { closeDescriptor } from "../../kernel/calls.ts";
import { mapShared } from "../../kernel/pages.ts";

/** Who watches more is read as text. */
const MOST = 65536;
/** {u64 number, 0: it cannot be told; u64 nodes found so far; u64 of which file}, and as the program goes along, their places. */
const FOUND_AT = 8;
const FILE_AT = 16;
const NODES_AT = 24;
const STACK = { loop: -8 } as const;
const FIELDS = [
  "file.private_data",
  "eventpoll.rbr",
  "epitem.rbn",
  "epitem.ffd",
  "epitem.event",
  "rb_node.rb_left",
  "rb_node.rb_right",
  "epoll_filefd.file",
  "epoll_filefd.fd",
  "epoll_event.events",
  "epoll_event.data",
];

/**
 * Registers: r6 the right node, r7 the item, r8 what is shared, r9 the number so far. How many were found is not in a register: the
 * verifier would follow it from one number to the next.
 */
function program(mapFd: number): Instruction[] {
  const types = new ReadTypes(FIELDS);
  const a = new ReadAssembler(types);
  const at = (field: string) => types.at(field);
  if (at("epitem.rbn") !== 0 || at("epoll_event.data") !== 4) throw new Error("the kernel has other items");
  /** Adds the node in r4 to those found, if there is one. */
  const find = (none: string) => {
    a.jumpIfZero(4, none)
      .load(1, 8, FOUND_AT)
      .constant(2, MOST)
      .jump("atLeast", 1, 2, "done")
      .move(2, 1)
      .addConstant(2, 1);
    a.store(8, FOUND_AT, 2).shiftLeft(1, 3).move(2, 8).add(2, 1).store(2, NODES_AT, 4);
  };
  a.load(6, 1, 0).mapValue(8, mapFd);
  // The nodes of the last time are asked for together first: mostly they are not in the processor's caches. What is no node any
  // more does no harm.
  a.constant(2, 0).load(3, 8, FILE_AT).jump("notEqual", 3, 6, "look").load32(3, 8, FOUND_AT).loop("new", STACK.loop);
  a.label("touch").loop("next", STACK.loop).jumpIfZero(0, "touched").load32(1, 0, 0).constant(2, MOST);
  a.jump("atLeast", 1, 2, "touched").shiftLeft(1, 3).move(2, 8).add(2, 1).load(7, 2, NODES_AT);
  a.words(7, at("epitem.ffd")).load8(1, 0, 0).words(7, at("epitem.event")).load8(1, 0, 0).goto("touch");
  a.label("touched").loop("destroy", STACK.loop).label("look");
  a.store(8, FILE_AT, 6).constant(9, 0).store(8, 0, 9).store(8, FOUND_AT, 9);
  a.constant(2, 0).constant(3, MOST).loop("new", STACK.loop);
  a.word(6, 6, at("file.private_data")).word(4, 6, at("eventpoll.rbr"));
  find("next");
  a.label("next").loop("next", STACK.loop).jumpIfZero(0, "done").load32(1, 0, 0).load(2, 8, FOUND_AT);
  a.jump("atLeast", 1, 2, "all").constant(2, MOST).jump("atLeast", 1, 2, "done").shiftLeft(1, 3).move(2, 8).add(2, 1);
  a.load(7, 2, NODES_AT);
  a.word(4, 7, at("epitem.ffd") + at("epoll_filefd.file")).mix(9, 4);
  a.words(7, at("epitem.ffd") + at("epoll_filefd.fd"))
    .load32(4, 0, 0)
    .mix(9, 4);
  a.words(7, at("epitem.event")).load(4, 0, 0).load32(5, 0, 8).mix(9, 4).mix(9, 5);
  a.word(6, 7, at("rb_node.rb_right")).word(4, 7, at("rb_node.rb_left"));
  find("right");
  a.label("right").move(4, 6);
  find("next");
  a.goto("next").label("all").load(1, 8, FOUND_AT).mix(9, 1).constant(1, 1).or(9, 1).store(8, 0, 9).label("done");
  return a.loop("destroy", STACK.loop).exit().finish();
}

export class EpollItems {
  readonly #file = Buffer.alloc(16);
  readonly #shared: Buffer;
  readonly #run: () => void;

  /** Some ten milliseconds. Throws when the kernel has not what it takes. */
  constructor() {
    const bytes = NODES_AT + 8 * MOST;
    const mapFd = createMappableMap(bytes);
    try {
      this.#run = tracepointRun(loadTracepointProgram("us_epoll", program(mapFd)), this.#file);
      this.#shared = mapShared(mapFd, bytes);
    } finally {
      // The program and the mapping hold it.
      closeDescriptor(mapFd);
    }
  }

  static #opened: EpollItems | "none" | undefined;

  /** One for this process, or undefined where there can be none. The first call takes its time. */
  static tryOpen(): EpollItems | undefined {
    try {
      EpollItems.#opened ??= new EpollItems();
    } catch {
      EpollItems.#opened = "none";
    }
    return EpollItems.#opened === "none" ? undefined : EpollItems.#opened;
  }

  /** Another one whenever anything is another; 0n where that cannot be told. @param file where the kernel has the instance's file */
  number(file: bigint): bigint {
    this.#file.writeBigUInt64LE(file, 0);
    this.#run();
    return this.#shared.readBigUInt64LE(0);
  }
}
