/** Large writes to files by a thread of their own, while this one goes on with what comes next. */
import { addon } from "./addon.ts";
import { checked } from "./errors.ts";

/** So much may wait for the disk's cache, bytes: what is written soon is still in the processor's. */
const MOST_WAITING_BYTES = 4 << 20;

export interface LargeWrite {
  /** For the error message. */
  path: string;
  bytes: Buffer;
  at: number;
  /** Called once the bytes are free again, whether they were written or not. */
  release?: (() => void) | undefined;
}

export class WriteBehind {
  readonly #queue = addon.writeBehindNew(MOST_WAITING_BYTES);
  readonly #failed = new Float64Array(1);
  /** Oldest first; their bytes must stay where they are. */
  #waiting: LargeWrite[] = [];
  /** Of all writes so far. */
  #finished = 0;

  get isIdle(): boolean {
    return this.#waiting.length === 0;
  }

  /** The descriptor must stay open until `settle`. Waits while too much is waiting. */
  write(fd: number, write: LargeWrite): void {
    this.#waiting.push(write);
    const { bytes, at } = write;
    this.#finish(addon.writeBehindPush(this.#queue, fd, bytes, bytes.length, at));
  }

  /** Waits until all is written. @throws SystemCallError for the first that could not be; what came after it is not written either */
  settle(): void {
    if (this.isIdle) return;
    const first = this.#finished;
    const waited = this.#waiting;
    const result = addon.writeBehindWait(this.#queue, this.#failed);
    this.#finish(first + waited.length);
    if (result < 0) checked(result, "pwrite64", waited[this.#failed[0]! - first]!.path);
  }

  /** Ends the thread, when all is written. An error of what nobody has waited for is not told. */
  close(): void {
    addon.writeBehindEnd(this.#queue);
    this.#finish(this.#finished + this.#waiting.length);
  }

  #finish(finished: number): void {
    const done = this.#waiting.slice(0, finished - this.#finished);
    this.#waiting = this.#waiting.slice(done.length);
    this.#finished = finished;
    for (const { release } of done) release?.();
  }
}
