/** The running kernel's own types (BTF), as far as small programs need them: where fields are, which tracepoints there are. */
import { readFileSync } from "node:fs";

const KIND = {
  array: 3,
  struct: 4,
  union: 5,
  enum: 6,
  typedef: 8,
  functionPrototype: 13,
  section: 15,
  enum64: 19,
} as const;
/** Bytes after a type's head, by kind: fixed, or per member. Documentation/bpf/btf.rst. */
const FIXED_BYTES: Record<number, number> = { 1: 4, [KIND.array]: 12, 14: 4, 17: 4 };
const MEMBER_BYTES: Record<number, number> = {
  [KIND.struct]: 12,
  [KIND.union]: 12,
  [KIND.enum]: 8,
  [KIND.functionPrototype]: 8,
  [KIND.section]: 12,
  [KIND.enum64]: 12,
};
const HEAD_BYTES = 12;

export interface KernelTypes {
  /** BTF ids of the tracepoints asked for that this kernel has. */
  tracepoints: Map<string, number>;
  /** Byte offsets by "struct.field"; sizes by "struct". */
  fields: Map<string, number>;
}

/**
 * Looks up tracepoints and fields in one pass, some ten milliseconds.
 * @param fields as "struct.field", also of members without a name in it, or as "struct" for its size
 * @throws Error when the kernel has no BTF
 */
export function readKernelTypes(
  tracepoints: string[],
  fields: string[],
  file = "/sys/kernel/btf/vmlinux",
): KernelTypes {
  const bytes = readFileSync(file);
  const headBytes = bytes.readUInt32LE(4);
  const typesAt = headBytes + bytes.readUInt32LE(8);
  const typesEnd = typesAt + bytes.readUInt32LE(12);
  const stringsAt = headBytes + bytes.readUInt32LE(16);
  // A name is stored once: compare where it is rather than what it is.
  const nameAt = (name: string) => bytes.indexOf(`\0${name}\0`, stringsAt, "latin1") + 1 - stringsAt;
  const typedefs = new Map(tracepoints.map((name) => [nameAt(`btf_trace_${name}`), name]));
  const structs = new Map<number, Array<{ field: number; key: string }>>();
  for (const key of fields) {
    const [struct, field] = key.split(".") as [string, string | undefined];
    const at = nameAt(struct);
    structs.set(at, [...(structs.get(at) ?? []), { field: field === undefined ? SIZE : nameAt(field), key }]);
  }
  /** Where each type's head is. */
  const heads: number[] = [0];
  const wantedAt: Array<{ at: number; wanted: Array<{ field: number; key: string }> }> = [];
  const found: KernelTypes = { tracepoints: new Map(), fields: new Map() };
  let id = 1;
  for (let at = typesAt; at < typesEnd; id++) {
    const name = bytes.readUInt32LE(at);
    const information = bytes.readUInt32LE(at + 4);
    const kind = (information >>> 24) & 0x1f;
    const members = information & 0xffff;
    if (kind === KIND.typedef && typedefs.has(name)) found.tracepoints.set(typedefs.get(name)!, id);
    else if (kind === KIND.struct && structs.has(name)) wantedAt.push({ at, wanted: structs.get(name)! });
    heads.push(at);
    at += HEAD_BYTES + (FIXED_BYTES[kind] ?? 0) + (MEMBER_BYTES[kind] ?? 0) * members;
  }
  for (const { at, wanted } of wantedAt) {
    const size = wanted.find(({ field }) => field === SIZE);
    if (size) found.fields.set(size.key, bytes.readUInt32LE(at + 8));
    findMembers(bytes, heads, at, 0, (field, offset) => {
      const key = wanted.find((one) => one.field === field)?.key;
      if (key !== undefined) found.fields.set(key, offset);
    });
  }
  return found;
}

/** Stands for a struct itself where a field's name would stand. */
const SIZE = -1;

/** Tells of all members of the struct or union whose head is at `at`, and of those in its members without a name. */
function findMembers(
  bytes: Buffer,
  heads: number[],
  at: number,
  base: number,
  tell: (field: number, offset: number) => void,
): void {
  const information = bytes.readUInt32LE(at + 4);
  const kind = (information >>> 24) & 0x1f;
  if (kind !== KIND.struct && kind !== KIND.union) return;
  const withBitfields = information >>> 31 === 1;
  for (let i = 0; i < (information & 0xffff); i++) {
    const member = at + HEAD_BYTES + i * 12;
    const name = bytes.readUInt32LE(member);
    const bits = bytes.readUInt32LE(member + 8);
    const offset = base + (withBitfields ? bits & 0xffffff : bits) / 8;
    if (name === 0) findMembers(bytes, heads, heads[bytes.readUInt32LE(member + 4)]!, offset, tell);
    else tell(name, offset);
  }
}

const KIND_FUNCTION = 12;

/** BTF id of one of the kernel's functions that BPF programs may call; throws when there is none. */
export function kernelFunctionId(name: string, file = "/sys/kernel/btf/vmlinux"): number {
  const bytes = readFileSync(file);
  const headBytes = bytes.readUInt32LE(4);
  const typesAt = headBytes + bytes.readUInt32LE(8);
  const typesEnd = typesAt + bytes.readUInt32LE(12);
  const stringsAt = headBytes + bytes.readUInt32LE(16);
  const wanted = bytes.indexOf(`\0${name}\0`, stringsAt, "latin1") + 1 - stringsAt;
  for (let at = typesAt, id = 1; at < typesEnd && wanted > 0; id++) {
    const information = bytes.readUInt32LE(at + 4);
    const kind = (information >>> 24) & 0x1f;
    if (kind === KIND_FUNCTION && bytes.readUInt32LE(at) === wanted) return id;
    at += HEAD_BYTES + (FIXED_BYTES[kind] ?? 0) + (MEMBER_BYTES[kind] ?? 0) * (information & 0xffff);
  }
  throw new Error(`This kernel has no function "${name}" for BPF`);
}
