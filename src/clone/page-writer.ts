/** Streams of pages are written into a clone's processes, also where the memory is closed to writing or not laid out yet. */
import { tryCall } from "../kernel/calls.ts";
import { MAP, PAGE_BYTES, PROT } from "../kernel/numbers.ts";
import { applyPages } from "../kernel/pages.ts";
import type { RemoteCall } from "../kernel/remote.ts";
import { lackingHugePages } from "../resources/memory/lacking.ts";
import type { Area, HugeArea } from "../resources/memory/layout.ts";
import { wholePages } from "./page-stream.ts";
import type { SkeletonProcess } from "./skeleton-process.ts";
import type { Window } from "./window.ts";

export class PageWriter {
  readonly #window: Window;

  constructor(window: Window) {
    this.#window = window;
  }

  write(process: SkeletonProcess, bytes: Buffer): void {
    const { pid, memoryFd, remote, window } = process;
    if (window && this.#window.write(remote, bytes)) return;
    const closed = closedAreas(process.areas, bytes);
    remote.batchChecked(closed.map(({ start, end }) => ["mprotect", start, end - start, PROT.read | PROT.write]));
    try {
      if (!window || !this.#writeSingly(process, bytes)) applyPages(pid, memoryFd, bytes);
    } catch (error) {
      throw lackOfPages(process.areas, bytes, error) ?? error;
    }
    remote.batchChecked(closed.map(({ start, end, protection }) => ["mprotect", start, end - start, protection]));
  }

  /**
   * Where memory was met that may not be written: the running application has put other memory over a private file mapping
   * (as the loader does at a library's end), and its pages came before the layout that says so. Behind the file's end they
   * need memory of their own until then. False when there is none of that kind.
   */
  #writeSingly(process: SkeletonProcess, stream: Buffer): boolean {
    const behind = [...wholePages(stream)].filter(({ address }) => {
      const area = process.areas.find(({ start, end }) => start <= address && address < end);
      return area?.backing.type === "file" && !area.backing.shared && !canRead(process.memoryFd, address);
    });
    if (behind.length === 0) return false;
    const flags = MAP.private | MAP.anonymous | MAP.fixed;
    process.remote.batchChecked(
      behind.map(({ address }): RemoteCall => {
        const area = process.areas.find(({ start, end }) => start <= address && address < end)!;
        return ["mmap", address, PAGE_BYTES, area.protection, flags, -1, 0];
      }),
    );
    applyPages(process.pid, process.memoryFd, stream);
    return true;
  }
}

/** Shared memory and huge pages in a stream's way that are not writable now: not even from outside can they be written so. */
function closedAreas(areas: Area[], stream: Buffer): Area[] {
  const closed = areas.filter(
    ({ backing, protection, readOnly, huge }) =>
      (backing.type === "shared" || huge !== undefined) && !readOnly && (protection & PROT.write) === 0,
  );
  if (closed.length === 0) return closed;
  const addresses = [...wholePages(stream)].map(({ address }) => address);
  return closed.filter(({ start, end }) => addresses.some((address) => start <= address && address < end));
}

/** Huge pages that nobody set aside for the mapping (MAP_NORESERVE) are not to be had when they are written. */
function lackOfPages(areas: Area[], stream: Buffer, cause: unknown): Error | undefined {
  const huge = areas.filter((area): area is HugeArea => area.huge !== undefined);
  const area =
    huge.length > 0 &&
    [...wholePages(stream)]
      .map(({ address }) => huge.find(({ start, end }) => start <= address && address < end))
      .find((found) => found !== undefined);
  return area ? lackingHugePages(area.huge, area.huge, cause) : undefined;
}

const probe = Buffer.alloc(1);

function canRead(memoryFd: number, address: number): boolean {
  return tryCall("pread64", memoryFd, probe, 1, address) === 1;
}
