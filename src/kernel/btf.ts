/** The running kernel's own types (BTF), as far as small programs need them: where fields are, which tracepoints there are. */
import { readFileSync } from "node:fs";

const KIND = {
  array: 3,
  struct: 4,
  union: 5,
  enum: 6,
  typedef: 8,
  function: 12,
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

interface Btf {
  bytes: Buffer;
  stringsAt: number;
  /** Where each type's head is, by its id. */
  heads: Uint32Array;
  /** Where names are, as far as they were asked for; negative: nowhere. */
  names: Map<string, number>;
}

const opened = new Map<string, Btf>();

/** Some ten milliseconds the first time, and 6 MB from then on: many parts look things up, not all at once. */
function open(file: string): Btf {
  const known = opened.get(file);
  if (known) return known;
  const bytes = readFileSync(file);
  const headBytes = bytes.readUInt32LE(4);
  const typesAt = headBytes + bytes.readUInt32LE(8);
  const typesEnd = typesAt + bytes.readUInt32LE(12);
  const heads: number[] = [0];
  for (let at = typesAt; at < typesEnd; ) {
    const { kind, members } = informationAt(bytes, at);
    heads.push(at);
    at += HEAD_BYTES + (FIXED_BYTES[kind] ?? 0) + (MEMBER_BYTES[kind] ?? 0) * members;
  }
  const stringsAt = headBytes + bytes.readUInt32LE(16);
  const btf = { bytes, stringsAt, heads: Uint32Array.from(heads), names: new Map() };
  opened.set(file, btf);
  return btf;
}

function informationAt(bytes: Buffer, at: number): { kind: number; members: number } {
  const information = bytes.readUInt32LE(at + 4);
  return { kind: (information >>> 24) & 0x1f, members: information & 0xffff };
}

/** A name is stored once: compare where it is rather than what it is. */
function nameAt({ bytes, stringsAt, names }: Btf, name: string): number {
  const known = names.get(name);
  if (known !== undefined) return known;
  const at = bytes.indexOf(`\0${name}\0`, stringsAt, "latin1") + 1 - stringsAt;
  names.set(name, at);
  return at;
}

/**
 * Looks up tracepoints and fields, a few milliseconds.
 * @param fields as "struct.field", also of members without a name in it, or as "struct" for its size
 * @throws Error when the kernel has no BTF
 */
export function readKernelTypes(
  tracepoints: readonly string[],
  fields: readonly string[],
  file = "/sys/kernel/btf/vmlinux",
): KernelTypes {
  const btf = open(file);
  const { bytes, heads } = btf;
  const typedefs = new Map(tracepoints.map((name) => [nameAt(btf, `btf_trace_${name}`), name]));
  const structs = new Map<number, Array<{ field: number; key: string }>>();
  for (const key of fields) {
    const [struct, field] = key.split(".") as [string, string | undefined];
    const at = nameAt(btf, struct);
    structs.set(at, [...(structs.get(at) ?? []), { field: field === undefined ? SIZE : nameAt(btf, field), key }]);
  }
  const found: KernelTypes = { tracepoints: new Map(), fields: new Map() };
  for (let id = 1; id < heads.length; id++) {
    const at = heads[id]!;
    const { kind } = informationAt(bytes, at);
    if (kind !== KIND.typedef && kind !== KIND.struct) continue;
    const name = bytes.readUInt32LE(at);
    const wanted = structs.get(name);
    if (kind === KIND.typedef && typedefs.has(name)) found.tracepoints.set(typedefs.get(name)!, id);
    else if (kind === KIND.struct && wanted) findFields(btf, at, wanted, found.fields);
  }
  return found;
}

function findFields(
  { bytes, heads }: Btf,
  at: number,
  wanted: Array<{ field: number; key: string }>,
  found: Map<string, number>,
): void {
  const size = wanted.find(({ field }) => field === SIZE);
  if (size) found.set(size.key, bytes.readUInt32LE(at + 8));
  findMembers(bytes, heads, at, 0, (field, offset) => {
    const key = wanted.find((one) => one.field === field)?.key;
    if (key !== undefined) found.set(key, offset);
  });
}

/** Stands for a struct itself where a field's name would stand. */
const SIZE = -1;

/** Tells of all members of the struct or union whose head is at `at`, and of those in its members without a name. */
function findMembers(
  bytes: Buffer,
  heads: Uint32Array,
  at: number,
  base: number,
  tell: (field: number, offset: number) => void,
): void {
  const { kind, members } = informationAt(bytes, at);
  if (kind !== KIND.struct && kind !== KIND.union) return;
  const withBitfields = bytes.readUInt32LE(at + 4) >>> 31 === 1;
  for (let i = 0; i < members; i++) {
    const member = at + HEAD_BYTES + i * 12;
    const name = bytes.readUInt32LE(member);
    const bits = bytes.readUInt32LE(member + 8);
    const offset = base + (withBitfields ? bits & 0xffffff : bits) / 8;
    if (name === 0) findMembers(bytes, heads, heads[bytes.readUInt32LE(member + 4)]!, offset, tell);
    else tell(name, offset);
  }
}

/** BTF id of one of the kernel's functions that BPF programs may call; throws when there is none. */
export function kernelFunctionId(name: string, file = "/sys/kernel/btf/vmlinux"): number {
  return typeId(name, KIND.function, file);
}

/** BTF id of one of the kernel's structs; throws when there is none. */
export function kernelStructId(name: string, file = "/sys/kernel/btf/vmlinux"): number {
  return typeId(name, KIND.struct, file);
}

function typeId(name: string, kind: number, file: string): number {
  const btf = open(file);
  const { bytes, heads } = btf;
  const wanted = nameAt(btf, name);
  const id = heads.findIndex(
    (at, i) => i > 0 && bytes.readUInt32LE(at) === wanted && informationAt(bytes, at).kind === kind,
  );
  if (id < 0) throw new Error(`This kernel has no ${kind === KIND.struct ? "struct" : "function"} "${name}" for BPF`);
  return id;
}
