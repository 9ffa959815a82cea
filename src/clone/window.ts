/**
 * A piece of memory shared between this process and the clone's stopped processes, through which page streams get into their
 * memory: code in their scratch copies from it, which costs a fraction of writing from outside page by page.
 */
import { call, closeDescriptor, makeMemory } from "../kernel/calls.ts";
import { MAP, PROT } from "../kernel/numbers.ts";
import { fillWindow, mapShared } from "../kernel/pages.ts";
import { APPLY_AT, type Remote, SCRATCH_BYTES } from "../kernel/remote.ts";
import { INSTANCE_HANDLE } from "../stage/stage.ts";

/** Behind the scratch, before where programs with fixed addresses begin. */
const WINDOW_AT = 0x100000;
const WINDOW_BYTES = 2 << 20;

export class Window {
  readonly #fd: number;
  readonly #bytes: Buffer;
  readonly #state = new Float64Array(2);

  constructor() {
    this.#fd = makeMemory("understudy");
    call("ftruncate", this.#fd, WINDOW_BYTES);
    this.#bytes = mapShared(this.#fd, WINDOW_BYTES);
  }

  /** Maps it into a clone's process. False when the application has memory there: then pages are written from outside. */
  mapInto(remote: Remote): boolean {
    const [theirs] = remote.batchChecked([["pidfd_getfd", INSTANCE_HANDLE, this.#fd, 0]]);
    const [at] = remote.batch([
      ["mmap", WINDOW_AT, WINDOW_BYTES, PROT.read | PROT.write, MAP.shared | MAP.fixedNoReplace, theirs!, 0],
      ["close", theirs!],
    ]);
    return at === WINDOW_AT;
  }

  unmapFrom(remote: Remote): void {
    remote.batchChecked([["munmap", WINDOW_AT, WINDOW_BYTES]]);
  }

  /** Writes a page stream into the process. False when it met memory that may not be written: nothing of it may be relied on. */
  write(remote: Remote, stream: Buffer): boolean {
    this.#state[1] = 0;
    for (let at = 0; at < stream.length; ) {
      at = fillWindow(stream, at, this.#bytes, this.#state);
      const end = WINDOW_AT + this.#state[0]!;
      const stack = remote.scratch + SCRATCH_BYTES - 64;
      if (remote.run(remote.scratch + APPLY_AT, WINDOW_AT, end, stack) !== 0) return false;
    }
    return true;
  }

  close(): void {
    closeDescriptor(this.#fd);
  }
}
