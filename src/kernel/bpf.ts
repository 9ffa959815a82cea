/** bpf(2) for small programs assembled here: no compiler, no loader, no file. */
import { addon } from "./addon.ts";
import { checked } from "./errors.ts";
import { NR } from "./numbers.ts";
import { closeSocket } from "./socket.ts";

const COMMAND = {
  mapCreate: 0,
  mapLookup: 1,
  mapUpdate: 2,
  mapDelete: 3,
  programLoad: 5,
  programAttach: 8,
  programDetach: 9,
  programRun: 10,
  programById: 13,
  openTracepoint: 17,
  mapLookupBatch: 24,
  linkCreate: 28,
  mapById: 14,
  infoByFd: 15,
  programQuery: 16,
} as const;

const ATTRIBUTE_BYTES = 144;
const MAP_TYPE_HASH = 1;
const MAP_TYPE_ARRAY = 2;
const MAP_TYPE_RECENT_HASH = 9;
const MAP_NO_PREALLOC = 1;
const MAP_MAPPABLE = 1024;
const PROGRAM_TYPE_SCHED_CLS = 3;
const PROGRAM_TYPE_CGROUP_SOCK = 9;
const PROGRAM_TYPE_RAW_TRACEPOINT = 17;
const PROGRAM_TYPE_TRACING = 26;
const ATTACH_RAW_TRACEPOINT = 23;
/** Where a traffic program sits on an interface (tcx, kernel 6.6). It stays until the interface goes or it is detached. */
export const TCX = { ingress: 46, egress: 47 } as const;

function bpf(command: number, attributes: Buffer): number {
  return addon.syscall(NR.bpf, command, attributes, attributes.length);
}

function pointer(into: Buffer, offset: number, target: Buffer): void {
  into.writeBigUInt64LE(BigInt(addon.addressOf(target)), offset);
}

function createMap(type: number, keyBytes: number, valueBytes: number, entries: number, flags = 0): number {
  const attributes = Buffer.alloc(ATTRIBUTE_BYTES);
  attributes.writeUInt32LE(type, 0);
  attributes.writeUInt32LE(keyBytes, 4);
  attributes.writeUInt32LE(valueBytes, 8);
  attributes.writeUInt32LE(entries, 12);
  attributes.writeUInt32LE(flags, 16);
  return checked(bpf(COMMAND.mapCreate, attributes), "bpf", "map");
}

/** An array map; keys are 0 to `entries` − 1. */
export function createArrayMap(valueBytes: number, entries: number): number {
  return createMap(MAP_TYPE_ARRAY, 4, valueBytes, entries);
}

/** As `createValueMap`; the value can be mapped (`mapShared`). */
export function createMappableMap(valueBytes: number): number {
  return createMap(MAP_TYPE_ARRAY, 4, valueBytes, 1, MAP_MAPPABLE);
}

/** A hash map whose elements take memory only while they exist. */
export function createSparseMap(keyBytes: number, valueBytes: number, entries: number): number {
  return createMap(MAP_TYPE_HASH, keyBytes, valueBytes, entries, MAP_NO_PREALLOC);
}

/** A hash map that gives up what was not used for longest when it is full. */
export function createRecentMap(keyBytes: number, valueBytes: number, entries: number): number {
  return createMap(MAP_TYPE_RECENT_HASH, keyBytes, valueBytes, entries);
}

/** An array map of one value. */
export function createValueMap(valueBytes: number): number {
  return createMap(MAP_TYPE_ARRAY, 4, valueBytes, 1);
}

export function createHashMap(keyBytes: number, valueBytes: number, entries: number): number {
  return createMap(MAP_TYPE_HASH, keyBytes, valueBytes, entries);
}

function element(command: number, mapFd: number, key: Buffer, value: Buffer | null): number {
  const attributes = Buffer.alloc(32);
  attributes.writeUInt32LE(mapFd, 0);
  pointer(attributes, 8, key);
  if (value !== null) pointer(attributes, 16, value);
  return bpf(command, attributes);
}

export function readMap(mapFd: number, key: Buffer, value: Buffer): void {
  checked(element(COMMAND.mapLookup, mapFd, key, value), "bpf", "map lookup");
}

export function writeMap(mapFd: number, key: Buffer, value: Buffer): void {
  checked(element(COMMAND.mapUpdate, mapFd, key, value), "bpf", "map update");
}

/** 0 or −errno. */
export function tryReadMap(mapFd: number, key: Buffer, value: Buffer): number {
  return element(COMMAND.mapLookup, mapFd, key, value);
}

/** 0 or −errno. */
export function tryWriteMap(mapFd: number, key: Buffer, value: Buffer): number {
  return element(COMMAND.mapUpdate, mapFd, key, value);
}

/** 0 or −errno. */
export function tryDeleteFromMap(mapFd: number, key: Buffer): number {
  return element(COMMAND.mapDelete, mapFd, key, null);
}

/** Elements `first` to `first + count` − 1 of an array map, in one call (kernel 5.6). */
export function readArray(mapFd: number, first: number, count: number, values: Buffer): void {
  const before = Buffer.alloc(4);
  const after = Buffer.alloc(4);
  const keys = Buffer.allocUnsafe(4 * count);
  const attributes = Buffer.alloc(56);
  if (first > 0) {
    before.writeUInt32LE(first - 1);
    pointer(attributes, 0, before);
  }
  pointer(attributes, 8, after);
  pointer(attributes, 16, keys);
  pointer(attributes, 24, values);
  attributes.writeUInt32LE(count, 32);
  attributes.writeUInt32LE(mapFd, 36);
  const result = bpf(COMMAND.mapLookupBatch, attributes);
  // ENOENT: these were the array's last.
  const ENOENT = -2;
  if (result !== ENOENT) checked(result, "bpf", "map lookup batch");
}

/** Instructions of eight bytes: opcode, registers, jump offset, constant. */
export type Instruction = readonly [
  code: number,
  destination: number,
  source: number,
  offset: number,
  constant: number,
];

/** The two slots that put the address of a value map's content, plus `at` bytes, into a register. */
export function loadMapValue(register: number, mapFd: number, at = 0): Instruction[] {
  const BPF_PSEUDO_MAP_VALUE = 2;
  return [
    [0x18, register, BPF_PSEUDO_MAP_VALUE, 0, mapFd],
    [0, 0, 0, 0, at],
  ];
}

const LOG_BYTES = 65536;
const EAGAIN = -11;
const LOAD_TRIES = 32;

/** Loads a traffic program; throws with the verifier's last words. */
export function loadTrafficProgram(name: string, instructions: readonly Instruction[]): number {
  return loadProgram(PROGRAM_TYPE_SCHED_CLS, name, instructions, () => {});
}

/** Loads a program for a typed raw tracepoint, given by the BTF id of its `btf_trace_…` type. */
export function loadTracingProgram(name: string, instructions: readonly Instruction[], btfId: number): number {
  return loadProgram(PROGRAM_TYPE_TRACING, name, instructions, (attributes) => {
    attributes.writeUInt32LE(ATTACH_RAW_TRACEPOINT, 68);
    attributes.writeUInt32LE(btfId, 108);
  });
}

/** Loads a program that runs when it is asked to, see `tracepointRun`. */
export function loadTracepointProgram(name: string, instructions: readonly Instruction[]): number {
  return loadProgram(PROGRAM_TYPE_RAW_TRACEPOINT, name, instructions, () => {});
}

/** What runs it: each time its context are the words of `args` as they are then. */
export function tracepointRun(programFd: number, args: Buffer): () => void {
  const attributes = Buffer.alloc(80);
  attributes.writeUInt32LE(programFd, 0);
  attributes.writeUInt32LE(args.length, 40);
  pointer(attributes, 48, args);
  return () => {
    checked(bpf(COMMAND.programRun, attributes), "bpf", "run");
  };
}

/** Runs a traffic program on a packet that nobody sends, in the calling thread's network namespace. */
export function runTrafficProgram(programFd: number): void {
  const packet = Buffer.alloc(64);
  const attributes = Buffer.alloc(80);
  attributes.writeUInt32LE(programFd, 0);
  attributes.writeUInt32LE(packet.length, 8);
  pointer(attributes, 16, packet);
  checked(bpf(COMMAND.programRun, attributes), "bpf", "run");
}

const ATTACH_ITERATOR = 28;

/** Loads a program that runs for each object of a walk, given by the BTF id of the kernel's `bpf_iter_…` function (kernel 5.8). */
export function loadIteratorProgram(name: string, instructions: readonly Instruction[], btfId: number): number {
  return loadProgram(PROGRAM_TYPE_TRACING, name, instructions, (attributes) => {
    attributes.writeUInt32LE(ATTACH_ITERATOR, 68);
    attributes.writeUInt32LE(btfId, 108);
  });
}

/**
 * The walk over one process's objects (its threads, its open files), each time it is read: see `readWalk`. `only`: over the thread
 * of that id alone.
 */
export function linkIterator(programFd: number, pid: number, only: "process" | "thread" = "process"): number {
  const target = Buffer.alloc(12);
  target.writeUInt32LE(pid, only === "thread" ? 0 : 4);
  const attributes = Buffer.alloc(ATTRIBUTE_BYTES);
  attributes.writeUInt32LE(programFd, 0);
  attributes.writeUInt32LE(ATTACH_ITERATOR, 8);
  pointer(attributes, 16, target);
  attributes.writeUInt32LE(target.length, 24);
  return checked(bpf(COMMAND.linkCreate, attributes), "bpf", `walk over process ${pid}`);
}

const PROGRAM_TYPE_CGROUP_SOCKOPT = 25;
const ATTACH_CGROUP_SETSOCKOPT = 22;
const ATTACH_CGROUP_SOCKET_RELEASE = 34;

/** Loads a program that sees sockets of a cgroup being closed for good. */
export function loadReleaseProgram(name: string, instructions: readonly Instruction[]): number {
  return loadProgram(PROGRAM_TYPE_CGROUP_SOCK, name, instructions, (attributes) => {
    attributes.writeUInt32LE(ATTACH_CGROUP_SOCKET_RELEASE, 68);
  });
}

/** Attaches it to a cgroup until the returned descriptor is closed. */
export function linkRelease(cgroupFd: number, programFd: number): number {
  return linkToCgroup(cgroupFd, programFd, ATTACH_CGROUP_SOCKET_RELEASE);
}

/** Loads a program that sees setsockopt on sockets of a cgroup. */
export function loadSetsockoptProgram(name: string, instructions: readonly Instruction[]): number {
  return loadProgram(PROGRAM_TYPE_CGROUP_SOCKOPT, name, instructions, (attributes) => {
    attributes.writeUInt32LE(ATTACH_CGROUP_SETSOCKOPT, 68);
  });
}

/** Attaches it to a cgroup until the returned descriptor is closed. */
export function linkSetsockopt(cgroupFd: number, programFd: number): number {
  return linkToCgroup(cgroupFd, programFd, ATTACH_CGROUP_SETSOCKOPT);
}

function linkToCgroup(cgroupFd: number, programFd: number, where: number): number {
  const attributes = Buffer.alloc(ATTRIBUTE_BYTES);
  attributes.writeUInt32LE(programFd, 0);
  attributes.writeUInt32LE(cgroupFd, 4);
  attributes.writeUInt32LE(where, 8);
  return checked(bpf(COMMAND.linkCreate, attributes), "bpf", "link to a cgroup");
}

/** Runs a tracing program at its tracepoint until the returned descriptor is closed. */
export function attachTracing(programFd: number): number {
  const attributes = Buffer.alloc(ATTRIBUTE_BYTES);
  attributes.writeUInt32LE(programFd, 8);
  return checked(bpf(COMMAND.openTracepoint, attributes), "bpf", "attach to a tracepoint");
}

/** The verifier gives up when a signal is pending (kernel/bpf/verifier.c): then it is asked again. */
function tryLoad(attributes: Buffer): number {
  let result = EAGAIN;
  for (let i = 0; i < LOAD_TRIES && result === EAGAIN; i++) result = bpf(COMMAND.programLoad, attributes);
  return result;
}

function loadProgram(
  type: number,
  name: string,
  instructions: readonly Instruction[],
  complete: (attributes: Buffer) => void,
): number {
  const code = Buffer.alloc(instructions.length * 8);
  instructions.forEach(([opcode, destination, source, offset, constant], i) => {
    code.writeUInt8(opcode, i * 8);
    code.writeUInt8(destination | (source << 4), i * 8 + 1);
    code.writeInt16LE(offset, i * 8 + 2);
    code.writeInt32LE(constant | 0, i * 8 + 4);
  });
  const licence = Buffer.from("Dual MIT/GPL\0");
  const log = Buffer.alloc(LOG_BYTES);
  const attributes = Buffer.alloc(ATTRIBUTE_BYTES);
  attributes.writeUInt32LE(type, 0);
  attributes.writeUInt32LE(instructions.length, 4);
  pointer(attributes, 8, code);
  pointer(attributes, 16, licence);
  attributes.write(name.slice(0, 15), 48, "latin1");
  complete(attributes);
  let result = tryLoad(attributes);
  if (result < 0) {
    // Its words may be more than fit even when it has nothing to object, so they are asked for only now.
    attributes.writeUInt32LE(1, 24);
    attributes.writeUInt32LE(LOG_BYTES, 28);
    pointer(attributes, 32, log);
    result = tryLoad(attributes);
  }
  const end = log.indexOf(0);
  return checked(
    result,
    "bpf",
    result < 0 ? `load ${name}: ${log.toString("latin1", Math.max(0, end - 300), end)}` : name,
  );
}

/** Puts a traffic program on an interface of the calling thread's network namespace. */
export function attachTraffic(interfaceIndex: number, where: number, programFd: number): void {
  const attributes = Buffer.alloc(ATTRIBUTE_BYTES);
  attributes.writeUInt32LE(interfaceIndex, 0);
  attributes.writeUInt32LE(programFd, 4);
  attributes.writeUInt32LE(where, 8);
  checked(bpf(COMMAND.programAttach, attributes), "bpf", `attach to interface ${interfaceIndex}`);
}

export function detachTraffic(interfaceIndex: number, where: number, programFd: number): number {
  const attributes = Buffer.alloc(ATTRIBUTE_BYTES);
  attributes.writeUInt32LE(interfaceIndex, 0);
  attributes.writeUInt32LE(programFd, 4);
  attributes.writeUInt32LE(where, 8);
  return bpf(COMMAND.programDetach, attributes);
}

const MOST_PROGRAMS = 64;

/** The map of the traffic program called `name` on an interface; undefined when there is none. The caller closes it. */
export function mapOfTrafficProgram(interfaceIndex: number, where: number, name: string): number | undefined {
  const ids = Buffer.alloc(MOST_PROGRAMS * 4);
  const query = Buffer.alloc(ATTRIBUTE_BYTES);
  query.writeUInt32LE(interfaceIndex, 0);
  query.writeUInt32LE(where, 4);
  pointer(query, 16, ids);
  query.writeUInt32LE(MOST_PROGRAMS, 24);
  checked(bpf(COMMAND.programQuery, query), "bpf", `query interface ${interfaceIndex}`);
  for (let i = 0; i < query.readUInt32LE(24); i++) {
    const programFd = byId(COMMAND.programById, ids.readUInt32LE(i * 4));
    if (programFd < 0) continue;
    try {
      const map = mapOfProgram(programFd, name);
      if (map !== undefined) return map;
    } finally {
      closeSocket(programFd);
    }
  }
  return undefined;
}

function byId(command: number, id: number): number {
  const attributes = Buffer.alloc(16);
  attributes.writeUInt32LE(id, 0);
  return bpf(command, attributes);
}

const PROGRAM_INFO_BYTES = 232;

function mapOfProgram(programFd: number, name: string): number | undefined {
  const mapIds = Buffer.alloc(16);
  const info = Buffer.alloc(PROGRAM_INFO_BYTES);
  info.writeUInt32LE(4, 52);
  pointer(info, 56, mapIds);
  const attributes = Buffer.alloc(16);
  attributes.writeUInt32LE(programFd, 0);
  attributes.writeUInt32LE(info.length, 4);
  pointer(attributes, 8, info);
  checked(bpf(COMMAND.infoByFd, attributes), "bpf", "program info");
  const found = info.toString("latin1", 64, 80).replace(/\0.*$/, "");
  if (found !== name.slice(0, 15) || info.readUInt32LE(52) === 0) return undefined;
  const map = byId(COMMAND.mapById, mapIds.readUInt32LE(0));
  return map < 0 ? undefined : map;
}
