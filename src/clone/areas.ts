/** The address spaces of a clone that does not live yet: every area where the application has it, of what it has it. */
import { readFileSync } from "node:fs";
import { closeDescriptor, openInRoot, openPath } from "../kernel/calls.ts";
import { checked } from "../kernel/errors.ts";
import { OperatingError } from "../kernel/failure.ts";
import { O_RDONLY, O_RDWR } from "../kernel/files.ts";
import { hugeSizeFlags } from "../kernel/huge-pages.ts";
import { MADV_DONTNEED, MAP, MREMAP_MAYMOVE_FIXED, PAGE_BYTES, PROT } from "../kernel/numbers.ts";
import { parseMaps } from "../kernel/procfs.ts";
import { type RemoteCall, SCRATCH_BYTES } from "../kernel/remote.ts";
import { AREA_FLAG } from "../resources/memory/area-flags.ts";
import { isLackOfHugePages, lackingHugePages } from "../resources/memory/lacking.ts";
import { type Area, hasFlag, isNameless, layoutSteps } from "../resources/memory/layout.ts";
import type { Objects } from "../resources/nameless/objects.ts";
import type { Segments } from "../resources/shm/segments.ts";
import { segmentOf } from "../resources/shm/state.ts";
import { INSTANCE_HANDLE } from "../stage/stage.ts";
import type { SkeletonProcess } from "./skeleton-process.ts";
import type { Window } from "./window.ts";

/** Where kernel areas stand for a moment when their old and new places overlap. */
const ASIDE_AT = 0x10000000;
const SHM_EXEC = 0o100000;
const SHM_RDONLY = 0o10000;

export interface AreasOptions {
  /** The application's root directory. */
  rootFd: number;
  segments: Segments;
  objects: Objects;
  window: Window;
}

export class Areas {
  readonly #rootFd: number;
  readonly #segments: Segments;
  readonly #objects: Objects;
  readonly #window: Window;

  constructor({ rootFd, segments, objects, window }: AreasOptions) {
    this.#rootFd = rootFd;
    this.#segments = segments;
    this.#objects = objects;
    this.#window = window;
  }

  layOut(process: SkeletonProcess, areas: Area[], fresh: Array<[number, number]>): void {
    const { remote } = process;
    if (!process.placed) this.#placeKernelAreas(process, areas);
    const plain = (list: Area[]) => list.filter((area) => area.backing.type !== "kernel");
    const steps = layoutSteps(plain(process.areas), plain(areas), fresh);
    const before: RemoteCall[] = [];
    const maps: Area[] = [];
    for (const step of steps) {
      if (step.step === "unmap") before.push(["munmap", step.start, step.end - step.start]);
      else if (step.step === "map") maps.push(step.area);
    }
    remote.batchChecked(before);
    const isSegment = ({ backing }: Area) => backing.type === "shared" && segmentOf(backing) !== undefined;
    this.#map(
      process,
      maps.filter((area) => !isSegment(area)),
    );
    for (const area of maps.filter(isSegment)) this.#attach(process, area);
    remote.batchChecked(
      steps.flatMap((step): RemoteCall[] =>
        step.step === "protect" ? [["mprotect", step.start, step.end - step.start, step.protection]] : [],
      ),
    );
    process.areas = areas;
  }

  #map(process: SkeletonProcess, areas: Area[]): void {
    const own: number[] = [];
    try {
      const sources = areas.map((area) => this.#source(area, own));
      const fetched = this.#fetch(
        process,
        sources.map(({ fd }) => fd).filter((fd) => fd >= 0),
      );
      let next = 0;
      const calls = areas.map((area, i): RemoteCall => {
        const { flags, offset, fd } = sources[i]!;
        const theirs = fd >= 0 ? fetched[next++]! : -1;
        return ["mmap", area.start, area.end - area.start, area.protection, flags | MAP.fixedNoReplace, theirs, offset];
      });
      const results = process.remote.batch([...calls, ...fetched.map((fd): RemoteCall => ["close", fd])]);
      areas.forEach((area, i) => {
        if (area.huge !== undefined && isLackOfHugePages(results[i]!))
          throw lackingHugePages(area.huge, area.end - area.start);
        checked(results[i]!, "mmap in the clone", calls[i]!.slice(1).join(", "));
      });
    } finally {
      for (const fd of own) closeDescriptor(fd);
    }
  }

  /** Attaches a System V segment; where only a part of it is wanted, that is moved to its place. */
  #attach({ remote }: SkeletonProcess, { start, end, protection, backing, readOnly, huge }: Area): void {
    if (backing.type !== "shared") return;
    const id = segmentOf(backing)!;
    const bytes = this.#segments.bytes(id);
    if (bytes === undefined)
      throw new OperatingError("checkpoint-inconsistent", `The checkpoint has no segment ${id}, which is attached`);
    const unit = huge ?? PAGE_BYTES;
    const whole = Math.ceil(bytes / unit) * unit;
    const flags = (protection & PROT.exec ? SHM_EXEC : 0) | (readOnly ? SHM_RDONLY : 0);
    if (backing.offset === 0 && end - start === whole) remote.call("shmat", id, start, flags);
    else {
      const at = remote.call("shmat", id, 0, flags);
      const [from, size] = [at + backing.offset, end - start];
      remote.call("mremap", from, size, size, MREMAP_MAYMOVE_FIXED, start);
      if (from > at) remote.call("munmap", at, from - at);
      if (from + size < at + whole) remote.call("munmap", from + size, at + whole - from - size);
    }
    if (!readOnly && protection !== (PROT.read | PROT.write)) remote.call("mprotect", start, end - start, protection);
  }

  /** What to map for an area; descriptors opened for it go to `own`. */
  #source(area: Area, own: number[]): { flags: number; offset: number; fd: number } {
    const { backing } = area;
    switch (backing.type) {
      case "anonymous":
      case "kernel": {
        if (area.huge !== undefined) return { flags: hugeFlags(area, area.huge), offset: 0, fd: -1 };
        const kind = hasFlag(area, AREA_FLAG.droppable) ? MAP.droppable : MAP.private;
        const grows = hasFlag(area, AREA_FLAG.growsDown) ? MAP.growsDown : 0;
        return { flags: kind | grows | MAP.anonymous | MAP.noReserve, offset: 0, fd: -1 };
      }
      case "stack":
        return { flags: MAP.private | MAP.anonymous | MAP.noReserve | MAP.growsDown | MAP.stack, offset: 0, fd: -1 };
      case "file": {
        const writes = backing.shared && (area.protection & 2) !== 0;
        // Nobody may be a writer of what is executed (ETXTBSY), not even by a mapping.
        const fd = isNameless(area)
          ? readOnly(this.#objects.behind(area.backing.id), own)
          : this.#open(backing.path, writes ? O_RDWR : O_RDONLY, own);
        return { flags: (backing.shared ? MAP.shared : MAP.private) | MAP.noReserve, offset: backing.offset, fd };
      }
      case "shared": {
        const object = this.#objects.map(backing.id, backing.path, backing.offset + area.end - area.start, area.huge);
        return {
          flags: MAP.shared | reserving(area),
          offset: backing.offset,
          fd: area.readOnly ? readOnly(object, own) : object,
        };
      }
    }
  }

  #open(path: string, flags: number, own: number[]): number {
    own.push(openInRoot(this.#rootFd, Buffer.from(path, "latin1"), flags));
    return own.at(-1)!;
  }

  /** Descriptors of this process, fetched into the clone's: their numbers there, lowest free ones. */
  #fetch(process: SkeletonProcess, fds: number[]): number[] {
    return process.remote.batchChecked(fds.map((fd): RemoteCall => ["pidfd_getfd", INSTANCE_HANDLE, fd, 0]));
  }

  drop(process: SkeletonProcess, ranges: Array<[number, number]>): void {
    const inside = ranges.flatMap(([start, end]) =>
      process.areas
        .filter((area) => area.start < end && area.end > start)
        .map((area): [number, number] => [Math.max(start, area.start), Math.min(end, area.end)]),
    );
    process.remote.batchChecked(
      inside.map(([start, end]): RemoteCall => ["madvise", start, end - start, MADV_DONTNEED]),
    );
  }

  /** Removes what the process was born with and moves the kernel's own areas to where the application has them. */
  #placeKernelAreas(process: SkeletonProcess, areas: Area[]): void {
    const { remote, pid } = process;
    const scratch = remote.scratch;
    const here = parseMaps(readFileSync(`/proc/${pid}/maps`, "latin1")).filter((entry) => entry.path !== "[vsyscall]");
    const wanted = areas.filter((area) => area.backing.type === "kernel");
    const isKernel = (path: string) => path.startsWith("[v");
    const rubbish = here.filter(
      (entry) => !isKernel(entry.path) && !(entry.start >= scratch && entry.end <= scratch + SCRATCH_BYTES),
    );
    remote.batchChecked(rubbish.map((entry): RemoteCall => ["munmap", entry.start, entry.end - entry.start]));
    const moves: RemoteCall[] = [];
    const back: RemoteCall[] = [];
    let aside = ASIDE_AT;
    for (const area of wanted) {
      const name = area.backing.type === "kernel" ? area.backing.name : "";
      const from = here.find((entry) => entry.path === name);
      const bytes = area.end - area.start;
      if (!from || from.end - from.start !== bytes)
        throw new OperatingError("kernel-differs", `This node's kernel has another ${name} than the primary's`, {
          remedy: "Use the same kernel on all nodes of an application.",
        });
      if (from.start === area.start) continue;
      moves.push(["mremap", from.start, bytes, bytes, MREMAP_MAYMOVE_FIXED, aside]);
      back.push(["mremap", aside, bytes, bytes, MREMAP_MAYMOVE_FIXED, area.start]);
      aside += bytes;
    }
    remote.batchChecked([...moves, ...back]);
    process.placed = true;
    process.window = this.#window.mapInto(remote);
  }
}

/** Huge pages are set aside as the application had them set aside, so that they are there when they are written. */
function hugeFlags(area: Area, bytes: number): number {
  return (MAP.private | MAP.anonymous | MAP.huge | reserving(area)) + hugeSizeFlags(bytes);
}

function reserving(area: Area): number {
  return hasFlag(area, AREA_FLAG.noReserve) ? MAP.noReserve : 0;
}

/** Through such a descriptor no mapping can ever be made writable. */
function readOnly(fd: number, own: number[]): number {
  own.push(openPath(`/proc/self/fd/${fd}`, O_RDONLY));
  return own.at(-1)!;
}
