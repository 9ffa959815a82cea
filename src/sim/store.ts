/** The cluster store as one node after the other sees it: slow, cut off, and silent about what it has done. */
import type { View } from "../cluster/spec.ts";
import type { World } from "./world.ts";

export interface StoreRecord {
  view: View | undefined;
  revision: number;
}

const timeoutMs = 150;

export class SimStore {
  record: StoreRecord = { view: undefined, revision: 0 };
  /** Nodes that do not reach it now. */
  readonly cut = new Set<string>();
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  swap(
    node: string,
    expectedRevision: number,
    view: View,
    answer: (result: "unknown" | (StoreRecord & { ok: boolean })) => void,
  ): void {
    const { agenda, faults, random } = this.#world;
    let answered = false;
    const reply = (result: "unknown" | (StoreRecord & { ok: boolean })) => {
      if (!answered) answer(result);
      answered = true;
    };
    agenda.after(timeoutMs, () => reply("unknown"));
    if (this.cut.has(node) || faults.strikes("storeRequestLost")) return;
    const late = faults.strikes("storeRequestLate");
    agenda.after(late ? random.between(timeoutMs, 8 * timeoutMs) : random.between(1, 5), () => {
      const ok = this.#world.bug === "blind-write" || this.record.revision === expectedRevision;
      if (ok) this.#change(view);
      const result = { ok, ...this.record };
      if (faults.strikes("storeAnswerLost") || this.cut.has(node)) return;
      agenda.after(random.between(1, 5), () => reply(result));
    });
  }

  /** Tries until it gets through. */
  read(node: string, answer: (record: StoreRecord) => void): void {
    const { agenda, faults, random } = this.#world;
    if (this.cut.has(node) || faults.strikes("storeRequestLost")) {
      agenda.after(50, () => this.read(node, answer));
      return;
    }
    agenda.after(random.between(1, 5), () => {
      const record = this.record;
      agenda.after(random.between(1, 5), () => answer(record));
    });
  }

  #change(view: View): void {
    this.record = { view, revision: this.record.revision + 1 };
    this.#world.trace?.(`store: revision ${this.record.revision} = ${JSON.stringify(view)}`);
    for (const node of this.#world.nodes) this.#tell(node.name, this.record);
  }

  #tell(node: string, record: StoreRecord): void {
    const { agenda, faults, random } = this.#world;
    if (this.cut.has(node)) {
      agenda.after(60, () => this.#tell(node, record));
      return;
    }
    const delay = faults.strikes("watchDelayed") ? random.between(50, 800) : random.between(1, 30);
    const tell = () =>
      this.#world.node(node).process?.tell({ kind: "viewSeen", view: record.view, revision: record.revision });
    agenda.after(delay, tell);
    if (faults.strikes("watchRepeated")) agenda.after(delay + random.between(0, 300), tell);
  }
}
