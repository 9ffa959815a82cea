/** Where the parts of the program that read the kernel's memory find the fields they need, by the kernel's own types. */
import { readKernelTypes } from "./btf.ts";
import { OperatingError } from "./failure.ts";

/** Errors: `kernel-memory-closed` */
export function memoryClosed(cause: unknown): OperatingError {
  return new OperatingError(
    "kernel-memory-closed",
    `This kernel's memory cannot be read, and nothing else tells what is asked for: ${(cause as Error).message}`,
    {
      remedy:
        "Use a kernel with BTF and without lockdown=confidentiality, or run the program without SEM_UNDO and POSIX message queues.",
      cause,
    },
  );
}

export class KernelFields<F extends string> {
  static readonly #all: KernelFields<string>[] = [];
  readonly #names: readonly F[];
  #offsets: ReadonlyMap<string, number> | undefined;

  /** @param names as "struct.field", or "struct" for its size */
  constructor(...names: readonly F[]) {
    this.#names = names;
    KernelFields.#all.push(this);
  }

  /** The fields of all parts, so that none has to look in a stop. Throws when the kernel has no BTF. */
  static lookUpAll(): void {
    for (const fields of KernelFields.#all) fields.#lookUp();
  }

  #lookUp(): ReadonlyMap<string, number> {
    this.#offsets ??= readKernelTypes([], this.#names).fields;
    return this.#offsets;
  }

  /** In a copy of the struct: the field's offset; or the struct's size. Errors: `kernel-memory-closed`: there is none. */
  at(name: F): number {
    const offset = this.#lookUp().get(name);
    if (offset === undefined) throw memoryClosed(new Error(`its types do not tell of ${name}`));
    return offset;
  }

  /** The same where not every kernel has it. */
  find(name: F): number | undefined {
    return this.#lookUp().get(name);
  }

  /** As `at`, to be added to an address. */
  offset(name: F): bigint {
    return BigInt(this.at(name));
  }

  /** Whether this kernel has all of them. */
  get areKnown(): boolean {
    return this.#names.every((name) => this.find(name) !== undefined);
  }

  /** Errors: `kernel-memory-closed`: one of them is missing. */
  require(): void {
    for (const name of this.#names) this.at(name);
  }
}
