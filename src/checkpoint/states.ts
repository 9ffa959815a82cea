/** The resources of the previous checkpoint, to send only those that changed. */
import { pack } from "msgpackr";
import type { Resource } from "./operations.ts";

export class States {
  #previous = new Map<string, { state: unknown; bytes: Buffer }>();

  /** Compares a whole new set with the previous one and takes its place. */
  advance(now: Map<string, Resource>): { changed: Array<[string, Resource]>; gone: string[] } {
    const changed: Array<[string, Resource]> = [];
    const next = new Map<string, { state: unknown; bytes: Buffer }>();
    for (const [key, resource] of now) {
      const { state } = resource;
      const before = this.#previous.get(key);
      // The very same object has not changed: kinds with much content give it again.
      const same = before !== undefined && before.state === state && typeof state === "object";
      const bytes = same ? before.bytes : pack(resource);
      if (!same && !before?.bytes.equals(bytes)) changed.push([key, resource]);
      next.set(key, { state, bytes });
    }
    const gone = [...this.#previous.keys()].filter((key) => !now.has(key));
    this.#previous = next;
    return { changed, gone };
  }

  /** The next set counts as new as a whole: somebody joined who has none. */
  reset(): void {
    this.#previous = new Map();
  }
}
