/** The resources of the previous checkpoint, to send only those that changed. */
import { pack } from "msgpackr";
import type { Resource } from "./operations.ts";

export class States {
  #previous = new Map<string, Buffer>();

  /** Compares a whole new set with the previous one and takes its place. */
  advance(now: Map<string, Resource>): { changed: Array<[string, Resource]>; gone: string[] } {
    const changed: Array<[string, Resource]> = [];
    const next = new Map<string, Buffer>();
    for (const [key, resource] of now) {
      const bytes = pack(resource);
      const before = this.#previous.get(key);
      if (!before?.equals(bytes)) changed.push([key, resource]);
      next.set(key, bytes);
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
