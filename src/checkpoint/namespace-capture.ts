/** The application's IPC namespace as the capture follows it. */
import type { Member } from "../resources/namespace-kind.ts";
import { NAMESPACE_KINDS } from "../resources/namespace-kinds.ts";
import { SegmentWatch } from "../resources/shm/index.ts";
import type { Operation, Resource } from "./operations.ts";

export class NamespaceCapture {
  readonly #watches;

  constructor(namespaceFd: number) {
    this.#watches = NAMESPACE_KINDS.map((kind) => ({ kind, watch: kind.watch(namespaceFd) }));
  }

  /** While the application runs, ahead of layouts: what they may need. */
  announce(): Operation[] {
    return this.#segments((watch) => watch.announce());
  }

  /** In the stop, ahead of layouts and pages. */
  dump(resources: Map<string, Resource>, members: Iterable<Member>): Operation[] {
    for (const { kind, watch } of this.#watches)
      for (const [id, state] of watch.dump(members))
        resources.set(`${kind.kind}/${id}`, { kind: kind.kind, version: kind.version, state });
    return this.#segments(() => {});
  }

  #segments(before: (watch: SegmentWatch) => void): Operation[] {
    return this.#watches.flatMap(({ watch }) => {
      if (!(watch instanceof SegmentWatch)) return [];
      before(watch);
      return watch.takeOperations();
    });
  }

  reset(): void {
    for (const { watch } of this.#watches) watch.reset();
  }

  close(): void {
    for (const { watch } of this.#watches) watch.close();
  }
}
