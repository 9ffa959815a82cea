/** Writes small BPF programs down readably: registers by number, jumps by label. */
import { type Instruction, loadMapValue } from "./bpf.ts";

export type Register = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10;

const JUMP = { always: 0x05, equal: 0x1d, notEqual: 0x5d, greater: 0x2d, atLeast: 0x3d, less: 0xad } as const;
const EQUAL_CONSTANT = 0x15;
const PSEUDO_MAP_FD = 1;
const PSEUDO_KERNEL_FUNCTION = 2;
const ATOMIC_FETCH_ADD = 0x01;
/** Helper functions by number (include/uapi/linux/bpf.h). */
const MAP_LOOKUP = 1;
const MAP_UPDATE = 2;
const READ_KERNEL = 113;
const SEQUENCE_WRITE = 127;
const TO_TCP_SOCKET = 137;
const CURRENT_TASK = 158;
const SOCKET_FROM_FILE = 162;

export class Assembler {
  readonly #code: Instruction[] = [];
  readonly #labels = new Map<string, number>();
  readonly #jumps: Array<{ at: number; label: string }> = [];
  #names = 0;

  /** A label that is not used elsewhere. */
  name(): string {
    return `label-${this.#names++}`;
  }

  #put(...instruction: Instruction): this {
    this.#code.push(instruction);
    return this;
  }

  label(label: string): this {
    this.#labels.set(label, this.#code.length);
    return this;
  }

  /** r0 = what one of the kernel's own functions returns, by its BTF id (kernel 5.13). Uses up r1–r5. */
  callKernel(function_: number): this {
    return this.#put(0x85, 0, PSEUDO_KERNEL_FUNCTION, 0, function_);
  }

  /** to = *(u64 *)(from + at) */
  load(to: Register, from: Register, at: number): this {
    return this.#put(0x79, to, from, at, 0);
  }

  load32(to: Register, from: Register, at: number): this {
    return this.#put(0x61, to, from, at, 0);
  }

  load16(to: Register, from: Register, at: number): this {
    return this.#put(0x69, to, from, at, 0);
  }

  load8(to: Register, from: Register, at: number): this {
    return this.#put(0x71, to, from, at, 0);
  }

  /** *(u64 *)(to + at) = from */
  store(to: Register, at: number, from: Register): this {
    return this.#put(0x7b, to, from, at, 0);
  }

  store32(to: Register, at: number, from: Register): this {
    return this.#put(0x63, to, from, at, 0);
  }

  move(to: Register, from: Register): this {
    return this.#put(0xbf, to, from, 0, 0);
  }

  constant(to: Register, value: number): this {
    return this.#put(0xb7, to, 0, 0, value);
  }

  /** All 64 bits. */
  wide(to: Register, value: bigint): this {
    this.#put(0x18, to, 0, 0, Number(BigInt.asIntN(32, value)));
    return this.#put(0, 0, 0, 0, Number(BigInt.asIntN(32, value >> 32n)));
  }

  add(to: Register, from: Register): this {
    return this.#put(0x0f, to, from, 0, 0);
  }

  addConstant(to: Register, value: number): this {
    return this.#put(0x07, to, 0, 0, value);
  }

  subtract(to: Register, from: Register): this {
    return this.#put(0x1f, to, from, 0, 0);
  }

  andConstant(to: Register, value: number): this {
    return this.#put(0x57, to, 0, 0, value);
  }

  and(to: Register, from: Register): this {
    return this.#put(0x5f, to, from, 0, 0);
  }

  multiplyConstant(to: Register, value: number): this {
    return this.#put(0x27, to, 0, 0, value);
  }

  multiply(to: Register, from: Register): this {
    return this.#put(0x2f, to, from, 0, 0);
  }

  shiftLeft(to: Register, bits: number): this {
    return this.#put(0x67, to, 0, 0, bits);
  }

  shiftRight(to: Register, bits: number): this {
    return this.#put(0x77, to, 0, 0, bits);
  }

  /** By the lowest six bits of `bits`. */
  shiftRightBy(to: Register, bits: Register): this {
    return this.#put(0x7f, to, bits, 0, 0);
  }

  or(to: Register, from: Register): this {
    return this.#put(0x4f, to, from, 0, 0);
  }

  xor(to: Register, from: Register): this {
    return this.#put(0xaf, to, from, 0, 0);
  }

  /** Unsigned comparison of `a` with `b`. */
  jump(when: Exclude<keyof typeof JUMP, "always">, a: Register, b: Register, label: string): this {
    this.#jumps.push({ at: this.#code.length, label });
    return this.#put(JUMP[when], a, b, 0, 0);
  }

  jumpIfZero(a: Register, label: string): this {
    this.#jumps.push({ at: this.#code.length, label });
    return this.#put(EQUAL_CONSTANT, a, 0, 0, 0);
  }

  goto(label: string): this {
    this.#jumps.push({ at: this.#code.length, label });
    return this.#put(JUMP.always, 0, 0, 0, 0);
  }

  /** Address of an array map's only value. */
  mapValue(to: Register, mapFd: number): this {
    this.#code.push(...loadMapValue(to, mapFd));
    return this;
  }

  /** r0 = address of the value for the key at r10 + `keyAt`, or 0. Uses up r1–r5. */
  lookUp(mapFd: number, keyAt: number): this {
    this.#put(0x18, 1, PSEUDO_MAP_FD, 0, mapFd);
    this.#put(0, 0, 0, 0, 0);
    return this.move(2, 10).addConstant(2, keyAt).#put(0x85, 0, 0, 0, MAP_LOOKUP);
  }

  /** Sets the value at r10 + `valueAt` for the key at r10 + `keyAt`; r0 = 0 or −errno. Uses up r1–r5. */
  update(mapFd: number, keyAt: number, valueAt: number): this {
    this.#put(0x18, 1, PSEUDO_MAP_FD, 0, mapFd);
    this.#put(0, 0, 0, 0, 0);
    this.move(2, 10).addConstant(2, keyAt).move(3, 10).addConstant(3, valueAt).constant(4, 0);
    return this.#put(0x85, 0, 0, 0, MAP_UPDATE);
  }

  /** r0 = the running task (kernel 5.11). Uses up r1–r5. */
  currentTask(): this {
    return this.#put(0x85, 0, 0, 0, CURRENT_TASK);
  }

  /** Copies r2 bytes of the kernel's memory from r3 to r1; r0 = 0 or −errno (kernel 5.5). Uses up r1–r5. */
  readKernel(): this {
    return this.#put(0x85, 0, 0, 0, READ_KERNEL);
  }

  /** Copies `bytes` at a kernel address in `from` to the stack at r10 + `to`; zeros when it cannot be read. Uses up r1–r5. */
  probeRead(to: number, from: Register, bytes: number): this {
    this.move(3, from).move(1, 10).addConstant(1, to).constant(2, bytes);
    return this.readKernel();
  }

  /** Appends `bytes` of the stack at r10 + `at` to what the reader of a walk gets; `context` holds its argument. Uses up r1–r5. */
  sequenceWrite(context: Register, at: number, bytes: number): this {
    this.load(1, context, 0).load(1, 1, 0).move(2, 10).addConstant(2, at).constant(3, bytes);
    return this.#put(0x85, 0, 0, 0, SEQUENCE_WRITE);
  }

  /** r0 = the struct socket of an open file, or 0. Uses up r1–r5. */
  socketOf(file: Register): this {
    return this.move(1, file).#put(0x85, 0, 0, 0, SOCKET_FROM_FILE);
  }

  /** r0 = the struct tcp_sock of a struct sock, or 0 when it is of another protocol. Uses up r1–r5. */
  tcpSocketOf(sock: Register): this {
    return this.move(1, sock).#put(0x85, 0, 0, 0, TO_TCP_SOCKET);
  }

  /** amount = old value of *(u64 *)(to + at), which grows by `amount`. */
  fetchAdd(to: Register, at: number, amount: Register): this {
    return this.#put(0xdb, to, amount, at, ATOMIC_FETCH_ADD);
  }

  exit(): this {
    return this.constant(0, 0).#put(0x95, 0, 0, 0, 0);
  }

  finish(): Instruction[] {
    const code = [...this.#code];
    for (const { at, label } of this.#jumps) {
      const target = this.#labels.get(label);
      if (target === undefined) throw new Error(`No label ${label}`);
      const [opcode, a, b, , constant] = code[at]!;
      code[at] = [opcode, a, b, target - at - 1, constant];
    }
    return code;
  }
}
