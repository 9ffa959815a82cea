/** The resources of the previous checkpoint, to send only those that changed. */
import { pack } from "msgpackr";
import type { Resource } from "./operations.ts";

/** Resources that come together. Another object whenever any of them is another. */
export type ResourceGroup = ReadonlyMap<string, Resource>;

export class States {
  #groups: ReadonlySet<ResourceGroup> = new Set();
  readonly #previous = new Map<string, { state: unknown; bytes: Buffer }>();

  /** Compares a whole new set with the previous one and takes its place. No key is in two groups. */
  advance(groups: Iterable<ResourceGroup>): { changed: Array<[string, Resource]>; gone: string[] } {
    const before = this.#groups;
    const now = new Set(groups);
    this.#groups = now;
    const other = [...now].filter((group) => !before.has(group));
    const changed = other.flatMap((group) => [...group].filter(([key, resource]) => this.#take(key, resource)));
    const gone: string[] = [];
    for (const group of before) {
      if (now.has(group)) continue;
      for (const key of group.keys()) if (!other.some((one) => one.has(key))) gone.push(key);
    }
    for (const key of gone) this.#previous.delete(key);
    return { changed, gone };
  }

  /** Returns whether it has changed. */
  #take(key: string, resource: Resource): boolean {
    const { state } = resource;
    const before = this.#previous.get(key);
    // The very same object has not changed: kinds with much content give it again.
    if (before !== undefined && before.state === state && typeof state === "object") return false;
    const bytes = pack(resource);
    this.#previous.set(key, { state, bytes });
    return !before?.bytes.equals(bytes);
  }

  /** The next set counts as new as a whole: somebody joined who has none. */
  reset(): void {
    this.#groups = new Set();
    this.#previous.clear();
  }
}
