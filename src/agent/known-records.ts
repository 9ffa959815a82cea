/**
 * The applications' records as the store's watch tells them: what a node looks at again and again without asking, so that its
 * talk with the store does not grow with what others run. It may be a moment old, or not be complete yet; before anything is
 * done by it, the one application is asked for (reconcile.ts).
 */
import { type ApplicationSpec, completeSpec, type View } from "../cluster/spec.ts";
import type { Placement } from "../cluster/standbys.ts";
import { type Change, type ClusterStore, storeKeys } from "../cluster/store.ts";
import type { ApplicationRecord } from "./records.ts";

export class KnownRecords {
  readonly #records = new Map<string, ApplicationRecord>();

  /** `changed` is called after each change. */
  follow(store: ClusterStore, changed: () => void, signal: AbortSignal): void {
    store.watch(
      storeKeys.applications,
      (change) => {
        this.#take(change);
        changed();
      },
      signal,
    );
  }

  get(name: string): ApplicationRecord | undefined {
    return this.#records.get(name);
  }

  all(): ApplicationRecord[] {
    return [...this.#records.values()];
  }

  names(): Iterable<string> {
    return this.#records.keys();
  }

  #take({ key, value, revision }: Change): void {
    const [, name, part] = key.split("/");
    if (name === undefined) return;
    const { spec, view, placement } = this.#records.get(name) ?? {};
    const is = value === undefined ? undefined : { value, revision };
    const newSpec = part === "spec" ? is && { ...is, value: completeSpec(is.value as ApplicationSpec) } : spec;
    const newView = part === "view" ? is && { ...is, value: is.value as View } : view;
    const newPlacement = part === "placement" ? is && { ...is, value: is.value as Placement } : placement;
    if (newSpec === undefined && newView === undefined) this.#records.delete(name);
    else
      this.#records.set(name, {
        name,
        ...(newSpec && { spec: newSpec }),
        ...(newView && { view: newView }),
        ...(newPlacement && { placement: newPlacement }),
      });
  }
}
