/**
 * The gate of an application's network: two small BPF programs, one on each end of its veth, that read one shared value.
 * Chosen over the bridge port's own state because the kernel itself sets that to forwarding on carrier events and when the
 * bridge comes up, and because a change here takes one microsecond and no rtnetlink lock, which a dying node's teardown may
 * hold for long. What leaves is judged on the node's end, which the application cannot reach; what arrives is judged on the
 * application's end, so that a tap there still sees what comes before the clone lives.
 */
import {
  attachTraffic,
  createValueMap,
  type Instruction,
  loadMapValue,
  loadTrafficProgram,
  mapOfTrafficProgram,
  readMap,
  TCX,
  writeMap,
} from "../kernel/bpf.ts";
import { closeSocket } from "../kernel/socket.ts";

/** What may pass. `neighbours`: ARP and IPv6 neighbour discovery; both ways. `free`: what leaves need not be held. */
export const PASS = { out: 1, in: 2, neighbours: 4, free: 8 } as const;

/** Packets with this mark are not held (the rule of `hold.ts` spares them). */
export const FREE_MARK = 0x75500000;
export const FREE_MARK_MASK = 0xfff00000;

const VALUE_BYTES = 24;
const DROPPED_OUT = 8;
const DROPPED_IN = 16;
const OUT_NAME = "understudy_out";
const IN_NAME = "understudy_in";
const KEY = Buffer.alloc(4);

const TCX_NEXT = -1;
const TCX_DROP = 2;
/** Ethernet types as a little-endian machine reads them. */
const ETHERTYPE = { ipv4: 0x0008, ipv6: 0xdd86, arp: 0x0608 } as const;
const HELPER_SKB_LOAD_BYTES = 26;
const SKB = { mark: 8, protocol: 16, vlanPresent: 20 } as const;

type Line = Instruction | { label: string } | { jump: string; code: number; register: number; constant: number };

/** Resolves labels to offsets. */
function assemble(lines: readonly Line[]): Instruction[] {
  const labels = new Map<string, number>();
  let at = 0;
  for (const line of lines) {
    if ("label" in line) labels.set(line.label, at);
    else at++;
  }
  const out: Instruction[] = [];
  for (const line of lines) {
    if ("label" in line) continue;
    if (!("jump" in line)) out.push(line);
    else out.push([line.code, line.register, 0, labels.get(line.jump)! - out.length - 1, line.constant]);
  }
  return out;
}

const JEQ = 0x15;
const JNE = 0x55;
const JSET = 0x45;
const JA = 0x05;
const jump = (code: number, register: number, constant: number, to: string): Line => ({
  jump: to,
  code,
  register,
  constant,
});

/** Loads the byte at `offset` of the frame into r1; too short a frame is dropped. */
function loadByte(offset: number): Line[] {
  return [
    [0xbf, 1, 6, 0, 0],
    [0xb7, 2, 0, 0, offset],
    [0xbf, 3, 10, 0, 0],
    [0x07, 3, 0, 0, -8],
    [0xb7, 4, 0, 0, 1],
    [0x85, 0, 0, 0, HELPER_SKB_LOAD_BYTES],
    jump(JNE, 0, 0, "drop"),
    [0x71, 1, 10, -8, 0],
  ];
}

/**
 * r6 = frame, r7 = the value, r8 = its flags. Only IPv4, IPv6 and ARP pass at all: another protocol, or a VLAN tag, would
 * not go through the rule that holds output.
 */
function program(mapFd: number, direction: number, counter: number, marks: boolean): Instruction[] {
  return assemble([
    [0xbf, 6, 1, 0, 0],
    ...loadMapValue(7, mapFd),
    [0x61, 8, 7, 0, 0],
    [0x61, 1, 6, SKB.vlanPresent, 0],
    jump(JNE, 1, 0, "drop"),
    [0x61, 1, 6, SKB.protocol, 0],
    jump(JEQ, 1, ETHERTYPE.arp, "neighbours"),
    jump(JEQ, 1, ETHERTYPE.ipv4, "internet"),
    jump(JNE, 1, ETHERTYPE.ipv6, "drop"),
    ...loadByte(20),
    jump(JNE, 1, 58, "internet"),
    ...loadByte(54),
    jump(JEQ, 1, 135, "neighbours"),
    jump(JEQ, 1, 136, "neighbours"),
    { label: "internet" },
    jump(JSET, 8, direction, "allowed"),
    jump(JA, 0, 0, "drop"),
    { label: "allowed" },
    ...(marks ? [jump(JSET, 8, PASS.free, "free"), [0x62, 6, 0, SKB.mark, 0] as Instruction] : []),
    [0xb7, 0, 0, 0, TCX_NEXT],
    [0x95, 0, 0, 0, 0],
    { label: "neighbours" },
    jump(JSET, 8, PASS.neighbours, "free"),
    { label: "drop" },
    [0xb7, 1, 0, 0, 1],
    [0xdb, 7, 1, counter, 0],
    [0xb7, 0, 0, 0, TCX_DROP],
    [0x95, 0, 0, 0, 0],
    { label: "free" },
    ...(marks ? [[0x62, 6, 0, SKB.mark, FREE_MARK] as Instruction] : []),
    [0xb7, 0, 0, 0, TCX_NEXT],
    [0x95, 0, 0, 0, 0],
  ]);
}

export class Gate {
  readonly #map: number;
  #flags = 0;

  private constructor(map: number) {
    this.#map = map;
  }

  /** A closed gate, in no place yet. */
  static create(): Gate {
    return new Gate(createValueMap(VALUE_BYTES));
  }

  /** The gate that already stands on the node's end of a veth, with the flags it has; undefined when there is none. */
  static find(nodeEnd: number): Gate | undefined {
    const map = mapOfTrafficProgram(nodeEnd, TCX.ingress, OUT_NAME);
    if (map === undefined) return undefined;
    const gate = new Gate(map);
    const value = Buffer.alloc(VALUE_BYTES);
    readMap(map, KEY, value);
    gate.#flags = value.readUInt32LE(0);
    return gate;
  }

  /** On the node's end of the veth, in the node's network namespace. */
  guardOutput(nodeEnd: number): void {
    this.#attach(nodeEnd, OUT_NAME, program(this.#map, PASS.out, DROPPED_OUT, true));
  }

  /** On the application's end, in the application's network namespace. */
  guardInput(applicationEnd: number): void {
    this.#attach(applicationEnd, IN_NAME, program(this.#map, PASS.in, DROPPED_IN, false));
  }

  #attach(interfaceIndex: number, name: string, instructions: Instruction[]): void {
    const programFd = loadTrafficProgram(name, instructions);
    attachTraffic(interfaceIndex, TCX.ingress, programFd);
    closeSocket(programFd);
  }

  get flags(): number {
    return this.#flags;
  }

  /** Takes effect on every packet that comes after the call (one microsecond). */
  set(flags: number): void {
    const value = Buffer.alloc(VALUE_BYTES);
    value.writeUInt32LE(flags, 0);
    writeMap(this.#map, KEY, value);
    this.#flags = flags;
  }

  /** Packets that the gate refused since the last `set`. */
  dropped(): { out: number; in: number } {
    const value = Buffer.alloc(VALUE_BYTES);
    readMap(this.#map, KEY, value);
    return { out: Number(value.readBigUInt64LE(DROPPED_OUT)), in: Number(value.readBigUInt64LE(DROPPED_IN)) };
  }

  close(): void {
    closeSocket(this.#map);
  }
}
