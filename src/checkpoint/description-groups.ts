/** What the kinds of descriptors have dumped, in groups that stay the same objects as long as nothing in them changes. */
import type { Description } from "../resources/kind.ts";
import type { ResourceGroup } from "./states.ts";

/** In a group; one that has changed is made anew and compared as a whole. */
const TOGETHER = 128;

interface Kept {
  descriptions: readonly Description[];
  states: readonly unknown[];
  groups: ResourceGroup[];
}

export class DescriptionGroups {
  readonly #kept = new Map<string, Kept>();

  /**
   * @param descriptions the same array as before when they are the same
   * @param states in their order, each the same object as before if it has not changed
   */
  of(kind: string, version: number, descriptions: readonly Description[], states: readonly unknown[]): ResourceGroup[] {
    const kept = this.#kept.get(kind);
    const before = kept?.descriptions === descriptions ? kept : undefined;
    if (before?.states === states) return before.groups;
    const groups: ResourceGroup[] = [];
    for (let from = 0; from < descriptions.length; from += TOGETHER) {
      const to = Math.min(from + TOGETHER, descriptions.length);
      const old = before?.groups[from / TOGETHER];
      groups.push(old && isSame(before!.states, states, from, to) ? old : group(from, to));
    }
    this.#kept.set(kind, { descriptions, states, groups });
    return groups;

    function group(from: number, to: number): ResourceGroup {
      const entries = descriptions.slice(from, to).map(({ id }, i) => {
        return [`description/${id}`, { kind, version, state: states[from + i] }] as const;
      });
      return new Map(entries);
    }
  }
}

function isSame(before: readonly unknown[], now: readonly unknown[], from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (before[i] !== now[i] || typeof now[i] !== "object") return false;
  return true;
}
