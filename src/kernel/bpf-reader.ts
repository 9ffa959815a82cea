/**
 * Parts of BPF programs that read what they find in the kernel's memory, make one number of it and go over much of it: loads from any
 * address (kernel 6.2), loops (kernel 6.4). What is not there reads as 0.
 */
import { randomBytes } from "node:crypto";
import { Assembler, type Register } from "./bpf-assembler.ts";
import { kernelFunctionId, kernelStructId, readKernelTypes } from "./btf.ts";

/** As which a place in memory is taken for plain numbers: any struct of nothing but words does. */
const WORDS = "user_regs_struct";

/** What such programs need to know of the kernel: looked up once, some ten milliseconds. */
export class ReadTypes {
  readonly #fields: ReadonlyMap<string, number>;
  readonly #ids = new Map<string, number>();

  /** @throws Error when the kernel has not all fields that are not optional, each as "struct.field" */
  constructor(fields: readonly string[], optional: readonly string[] = []) {
    this.#fields = readKernelTypes([], [...fields, ...optional]).fields;
    const missing = fields.filter((field) => !this.#fields.has(field));
    if (missing.length > 0) throw new Error(`the kernel has no ${missing.join(", ")}`);
  }

  at(field: string): number {
    const offset = this.#fields.get(field);
    if (offset === undefined) throw new Error(`the kernel has no ${field}`);
    return offset;
  }

  has(field: string): boolean {
    return this.#fields.has(field);
  }

  id(name: string, lookUp: (name: string) => number): number {
    const id = this.#ids.get(name) ?? lookUp(name);
    this.#ids.set(name, id);
    return id;
  }
}

export class ReadAssembler extends Assembler {
  readonly #types: ReadTypes;

  constructor(types: ReadTypes) {
    super();
    this.#types = types;
  }

  #call(name: string): this {
    return this.callKernel(this.#types.id(name, kernelFunctionId));
  }

  /**
   * Over the numbers from r2 to r3 − 1, whose addresses `next` returns, and 0 at the end; `destroy` in any case. Its state is at r10 +
   * `at`. Uses up r1–r5.
   */
  loop(step: "new" | "next" | "destroy", at: number): this {
    return this.move(1, 10).addConstant(1, at).#call(`bpf_iter_num_${step}`);
  }

  /** r0 = the address in a register as one of that type, which loads need; nobody looks whether it is. Uses up r1–r5. */
  as(type: string, address: Register): this {
    return this.move(1, address).constant(2, this.#types.id(type, kernelStructId)).#call("bpf_rdonly_cast");
  }

  /** r0 = where words can be read, some bytes behind an address. Uses up r1–r5. */
  words(address: Register, at: number): this {
    return this.move(1, address).addConstant(1, at).as(WORDS, 1);
  }

  /** to = the word, a pointer perhaps, at an offset from an address. Uses up r1–r5. */
  word(to: Register, address: Register, at: number): this {
    return this.words(address, at).load(to, 0, 0);
  }

  /**
   * Takes a word into a number that is made of many. Whichever the number was, another word makes another one, and two ways to the
   * same are a matter of chance, 2⁻⁶⁴, that nobody can bring about: what it multiplies by is new in each program. Uses up r3.
   */
  mix(number: Register, word: Register): this {
    const odd = randomBytes(8).readBigUInt64LE() | 1n;
    this.add(number, word).wide(3, odd).multiply(number, 3);
    // What multiplication leaves in the upper half alone comes into the lower one.
    return this.move(3, number).shiftRight(3, 32).xor(number, 3);
  }
}
