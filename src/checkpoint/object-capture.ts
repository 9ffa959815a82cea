/** Files without a name while the application runs: what can be sent before the stop, which then has little to compare. */
import { type Area, isTrackable } from "../resources/memory/layout.ts";
import { firstBehind } from "../resources/memory/regions.ts";
import type { Contents, Found } from "../resources/nameless/contents.ts";
import type { Operation } from "./operations.ts";

/** Smaller ones are compared in the stop. */
const WORTH_BYTES = 2 << 20;

export class ObjectCapture {
  readonly #contents: Contents;
  readonly #inStop: <T>(look: () => T) => T;
  readonly #emit: (operation: Operation) => void;

  /** @param inStop runs a function with all threads stopped */
  constructor(contents: Contents, inStop: <T>(look: () => T) => T, emit: (operation: Operation) => void) {
    this.#contents = contents;
    this.#inStop = inStop;
    this.#emit = emit;
  }

  /** Sends what has changed in large files that `find` finds; a short stop when there are any. Pauses between pieces. */
  *copy(find: () => Found[]): Generator<void> {
    const stale = () => find().filter((found) => found.size >= WORTH_BYTES && !this.#contents.isKnown(found));
    if (stale().length === 0) return;
    // No write is under way in a stop: what comes later gives the file another stamp.
    const found = this.#inStop(() => new Map(stale().map((one) => [one.id, one])));
    for (const one of found.values())
      for (const _piece of this.#contents.copy(one)) {
        this.flush();
        yield;
      }
    this.flush();
  }

  /** Pages of shared memory have gone out as a process's own. */
  forget(areas: readonly Area[], regions: BigUint64Array): void {
    for (const { start, end, backing } of areas.filter(isTrackable)) {
      if (backing.type !== "shared" || backing.path.startsWith("/SYSV")) continue;
      const shift = backing.offset - start;
      for (let i = 3 * firstBehind(regions, BigInt(start)); i < regions.length && regions[i]! < end; i += 3)
        this.#contents.forget(
          backing.id,
          Math.max(start, Number(regions[i])) + shift,
          Math.min(end, Number(regions[i + 1])) + shift,
        );
    }
  }

  flush(): void {
    for (const operation of this.#contents.takeOperations()) this.#emit(operation);
  }
}
