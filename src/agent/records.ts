/** The cluster's records, typed: applications with specification and view, and nodes. */
import { type ApplicationSpec, completeSpec, type View } from "../cluster/spec.ts";
import type { Placement } from "../cluster/standbys.ts";
import { type ClusterStore, storeKeys, type Versioned } from "../cluster/store.ts";
import { OperatingError } from "../kernel/failure.ts";

export interface ApplicationRecord {
  name: string;
  spec?: Versioned<ApplicationSpec>;
  view?: Versioned<View>;
  placement?: Versioned<Placement>;
}

export interface NodeRecord {
  name: string;
  api: string;
  labels: Record<string, string>;
  /** It has the authority's key and signs certificates. */
  authority?: boolean;
}

/** A change of the view is tried again so often when another change came between. */
const SWAP_ATTEMPTS = 10;

export class Records {
  readonly #store: ClusterStore;

  constructor(store: ClusterStore) {
    this.#store = store;
  }

  async applications(): Promise<Map<string, ApplicationRecord>> {
    const records = new Map<string, ApplicationRecord>();
    for (const { key, value, revision } of await this.#store.list(storeKeys.applications)) {
      const [, name, part] = key.split("/");
      if (name === undefined) continue;
      const record = records.get(name) ?? { name };
      if (part === "spec") record.spec = { value: completeSpec(value as ApplicationSpec), revision };
      if (part === "placement") record.placement = { value: value as Placement, revision };
      if (part === "view") record.view = { value: value as View, revision };
      records.set(name, record);
    }
    return records;
  }

  async application(name: string): Promise<ApplicationRecord> {
    const [spec, view, placement] = await Promise.all([
      this.#store.get<ApplicationSpec>(storeKeys.specification(name)),
      this.#store.get<View>(storeKeys.view(name)),
      this.#store.get<Placement>(storeKeys.placement(name)),
    ]);
    return {
      name,
      ...(spec && { spec: { ...spec, value: completeSpec(spec.value) } }),
      ...(view && { view }),
      ...(placement && { placement }),
    };
  }

  /** @throws OperatingError `application-unknown` */
  async known(name: string): Promise<ApplicationRecord & { spec: Versioned<ApplicationSpec> }> {
    const record = await this.application(name);
    if (record.spec) return { ...record, spec: record.spec };
    throw new OperatingError("application-unknown", `There is no application "${name}"`, {
      remedy: "List the applications: understudy ps",
      details: { application: name },
    });
  }

  async nodes(): Promise<NodeRecord[]> {
    return (await this.#store.list<NodeRecord>(storeKeys.nodes)).map(({ value }) => value);
  }

  /** @throws OperatingError `node-unknown`, with the names there are */
  async node(name: string): Promise<NodeRecord> {
    const record = await this.#store.get<NodeRecord>(storeKeys.node(name));
    if (record) return record.value;
    const names = (await this.nodes()).map((node) => node.name);
    throw new OperatingError("node-unknown", `There is no node "${name}"`, {
      remedy: `Choose one of: ${names.join(", ")}`,
      details: { node: name, nodes: names },
    });
  }

  async register(node: NodeRecord): Promise<void> {
    const key = storeKeys.node(node.name);
    for (let attempt = 0; attempt < SWAP_ATTEMPTS; attempt++) {
      const current = await this.#store.get(key);
      if (current && JSON.stringify(current.value) === JSON.stringify(node)) return;
      if ((await this.#store.compareAndSwap(key, current?.revision ?? 0, node)).ok) return;
    }
  }

  /**
   * Marks the application as ended for good; what this node started in `term`, if that is given and still holds.
   * Returns the view as it was, or undefined when there was nothing to end.
   */
  async end(name: string, reason: string, term?: number): Promise<View | undefined> {
    for (let attempt = 0; attempt < SWAP_ATTEMPTS; attempt++) {
      const current = await this.#store.get<View>(storeKeys.view(name));
      if (!current || current.value.ended || (term !== undefined && current.value.term !== term)) return undefined;
      const ended = { reason, at: new Date().toISOString() };
      const swap = await this.#store.compareAndSwap(storeKeys.view(name), current.revision, {
        ...current.value,
        ended,
      });
      if (swap.ok) return current.value;
    }
    throw new OperatingError("view-contended", `The view of "${name}" changes too fast to be ended`, {
      remedy: "Try again.",
    });
  }

  /** Removes view and specification of the application that was created at `createdAt`, and of no other. */
  async forget(name: string, createdAt: string): Promise<void> {
    for (let attempt = 0; attempt < SWAP_ATTEMPTS; attempt++) {
      const { spec, view, placement } = await this.application(name);
      if (spec?.value.createdAt !== createdAt) return;
      if (placement && !(await this.#store.delete(storeKeys.placement(name), placement.revision)).ok) continue;
      if (view && !(await this.#store.delete(storeKeys.view(name), view.revision)).ok) continue;
      if ((await this.#store.delete(storeKeys.specification(name), spec.revision)).ok) return;
    }
  }
}
