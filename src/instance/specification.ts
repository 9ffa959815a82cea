/**
 * Follows the application's specification in the store. Only keys that can change under a running application ever change in
 * the record of one (`keyChanges` in cluster/application.ts); an application of the same name that was created later is none of
 * this instance's.
 */
import { type ApplicationSpec, completeSpec } from "../cluster/spec.ts";
import { type ClusterStore, storeKeys } from "../cluster/store.ts";

export class SpecificationWatch {
  readonly #stop = new AbortController();
  /** Of the store, when the newest specification known here was written; 0: none has been seen yet. */
  revision = 0;

  /** `configure` is called with every specification that differs from the one before. */
  constructor(store: ClusterStore, known: ApplicationSpec, configure: (application: ApplicationSpec) => void) {
    let last = JSON.stringify(completeSpec(known));
    const follow = (value: unknown, revision: number) => {
      if (value === undefined || (value as ApplicationSpec).createdAt !== known.createdAt) return;
      const application = completeSpec(value as ApplicationSpec);
      const text = JSON.stringify(application);
      if (text !== last) configure(application);
      last = text;
      this.revision = revision;
    };
    const key = storeKeys.specification(known.name);
    store.watch(key, (change) => change.key === key && follow(change.value, change.revision), this.#stop.signal);
  }

  close(): void {
    this.#stop.abort();
  }
}
