/** Nodes that are emptied or empty for maintenance: nothing is placed there, nothing wanted there (`drained/NODE` in the store). */
import { type ClusterStore, storeKeys } from "../cluster/store.ts";

/** Keeps the set as the store has it; `changed` is called after each change. */
export function followDrained(
  drained: Set<string>,
  store: ClusterStore,
  changed: () => void,
  signal: AbortSignal,
): void {
  const prefix = storeKeys.drained("");
  store.watch(
    prefix,
    ({ key, value }) => {
      if (value === undefined) drained.delete(key.slice(prefix.length));
      else drained.add(key.slice(prefix.length));
      changed();
    },
    signal,
  );
}
