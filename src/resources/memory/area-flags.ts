/**
 * What a process has asked for its areas (madvise, mlock, mmap's rarer flags): /proc/PID/smaps tells, but counts all pages on the
 * way. So the flags are read where the kernel has them; that an area changed shows in a counter of the address space's lock.
 */
import { KernelFields } from "../../kernel/kernel-fields.ts";
import { type Address, GATHERED_BYTES, isNothingThere, KernelMemory } from "../../kernel/kernel-memory.ts";

const FIELDS = new KernelFields(
  "task_struct.mm",
  "mm_struct.mm_mt",
  "mm_struct.mm_lock_seq",
  "mm_struct.def_flags",
  "maple_tree.ma_root",
  "vm_area_struct.vm_start",
  "vm_area_struct.vm_flags",
);

/** As in include/linux/mm.h, the same from Linux 6.7 to 6.18. */
export const AREA_FLAG = {
  growsDown: 0x100n,
  locked: 0x2000n,
  sequential: 0x8000n,
  random: 0x10000n,
  dontFork: 0x20000n,
  lockOnFault: 0x80000n,
  /** Kept of huge pages alone: elsewhere it makes no difference. */
  noReserve: 0x200000n,
  hugetlb: 0x400000n,
  wipeOnFork: 0x2000000n,
  dontDump: 0x4000000n,
  hugePage: 0x20000000n,
  noHugePage: 0x40000000n,
  /** The number of a protection key (VM_PKEY_BIT0 to 3); 0 is everybody's. */
  keys: 0xfn << 32n,
  mergeable: 0x80000000n,
  droppable: 1n << 40n,
  sealed: 1n << 42n,
} as const;

const KEPT = Object.values(AREA_FLAG).reduce((all, flag) => all | flag, 0n) & ~AREA_FLAG.noReserve;
const KEPT_HUGE = KEPT | AREA_FLAG.noReserve;
const LOCKING = AREA_FLAG.locked | AREA_FLAG.lockOnFault;

/** Maple tree nodes (include/linux/maple_tree.h): 256 bytes each. */
const NODE_BYTES = 256;
const NODE_MASK = 0xffn;
/** More levels no tree of areas has: it was changed while it was read. */
const DEEPEST = 8;
const NODE = { leaf: 1, range: 2, allocation: 3 } as const;
const SLOTS: Record<number, number> = { [NODE.leaf]: 16, [NODE.range]: 16, [NODE.allocation]: 10 };

export interface FlagsNow {
  /** Of areas that have any, by where they begin. */
  areas: Map<number, bigint>;
  /** Of areas to come: see mlockall(2), MCL_FUTURE. */
  future: bigint;
}

/** The address space of a process's task; 0n: it has none any more. */
function spaceOf(memory: KernelMemory, task: Address): Address {
  return memory.pointer(task + FIELDS.offset("task_struct.mm"));
}

/** Whether somebody may have changed the areas between two looks at the sequence: it is odd while somebody does. */
function isChanging(before: number | undefined, after: number): boolean {
  return before !== after || (after & 1) === 1;
}

export class AreaFlags {
  readonly #memory: KernelMemory;
  readonly #pid: number;
  readonly #task: Address;
  readonly #space: Address;
  #sequence = -1;

  private constructor(memory: KernelMemory, pid: number, task: Address) {
    this.#memory = memory;
    this.#pid = pid;
    this.#task = task;
    this.#space = spaceOf(memory, task);
  }

  /** The process is traced by this thread and stands still. Undefined where the kernel's memory cannot be read. */
  static of(pid: number): AreaFlags | undefined {
    const memory = KernelMemory.tryOpen();
    const task = memory?.task(pid);
    if (!memory || !task) return undefined;
    return new AreaFlags(memory, pid, task);
  }

  /** Undefined: as at the last look; or the process runs, and changes its areas at this moment or has another memory. */
  look(): FlagsNow | undefined {
    let sequence: number | undefined;
    try {
      sequence = this.sequence();
      if (sequence === this.#sequence) return undefined;
      const now = this.#read();
      if (!this.#isSame() || this.sequence() !== sequence) return undefined;
      this.#sequence = sequence;
      return now;
    } catch (error) {
      if (isNothingThere(error) && (!this.#isSame() || isChanging(sequence, this.sequence()))) return undefined;
      throw error;
    }
  }

  /** Whether what is read here is the process's memory still: none since it ended, another since an exec. */
  #isSame(): boolean {
    const memory = this.#memory;
    return memory.isTraced(this.#task, this.#pid) && spaceOf(memory, this.#task) === this.#space;
  }

  /** Another number after each change of the areas, whoever made it; says nothing of the names of mapped files. */
  sequence(): number {
    return this.#memory.read(this.#space + FIELDS.offset("mm_struct.mm_lock_seq"), 4).readInt32LE();
  }

  #read(): FlagsNow {
    const memory = this.#memory;
    const start = FIELDS.at("vm_area_struct.vm_start");
    const flagsAt = FIELDS.at("vm_area_struct.vm_flags");
    if (flagsAt + 8 > GATHERED_BYTES) throw new RangeError("The kernel's areas have their flags too far behind");
    const areas = new Map<number, bigint>();
    for (const area of memory.gather([...this.#entries()])) {
      const all = area.readBigUInt64LE(flagsAt);
      const flags = all & ((all & AREA_FLAG.hugetlb) === 0n ? KEPT : KEPT_HUGE);
      if (flags !== 0n) areas.set(Number(area.readBigUInt64LE(start)), flags);
    }
    return { areas, future: memory.pointer(this.#space + FIELDS.offset("mm_struct.def_flags")) & LOCKING };
  }

  /** Addresses of all areas. */
  *#entries(): Generator<Address> {
    const root = this.#space + FIELDS.offset("mm_struct.mm_mt") + FIELDS.offset("maple_tree.ma_root");
    yield* this.#walk(this.#memory.pointer(root), 2n ** 64n - 1n, DEEPEST);
  }

  *#walk(encoded: Address, last: bigint, deeper: number): Generator<Address> {
    if (deeper === 0) return;
    const type = Number((encoded >> 3n) & 0xfn);
    const slots = SLOTS[type];
    if (slots === undefined) return;
    const node = this.#memory.read(encoded & ~NODE_MASK, NODE_BYTES);
    const slotsAt = 8 * slots;
    for (let i = 0; i < slots; i++) {
      const pivot = i < slots - 1 ? node.readBigUInt64LE(8 + 8 * i) : last;
      // The last one goes to the node's end.
      const end = pivot === 0n && i > 0 ? last : pivot;
      const slot = node.readBigUInt64LE(slotsAt + 8 * i);
      if (slot !== 0n) {
        if (type === NODE.leaf) yield slot;
        else yield* this.#walk(slot, end, deeper - 1);
      }
      if (end >= last) return;
    }
  }
}
