/** The view machine's shell: brings it events in order, does its requests to the store, hands its other actions on. */
import type { ApplicationSpec, View } from "../cluster/spec.ts";
import { type ClusterStore, storeKeys } from "../cluster/store.ts";
import { initialViewState, step, type ViewAction, type ViewEvent, type ViewState } from "../cluster/view.ts";

const READ_AGAIN_MS = 50;

/** With fewer standbys in sync output waits. */
export function holdBelow({ minInSync, onTooFew }: Pick<ApplicationSpec, "minInSync" | "onTooFew">): number {
  return onTooFew === "hold" ? minInSync : 0;
}

export class ViewShell {
  state: ViewState;
  readonly #store: ClusterStore;
  readonly #key: string;
  readonly #act: (action: ViewAction) => void | Promise<void>;
  readonly #seen: () => void;
  readonly #stop = new AbortController();
  readonly #queue: ViewEvent[] = [];
  /** Of the last step, those not begun yet. */
  #actions: ViewAction[] = [];
  /** The last step brought another record. */
  #news = false;
  #stepping = false;
  /** An action that takes its time. */
  #underWay: Promise<void> | undefined;

  /** `seen` is called after each change of the record, when the actions that follow from it are done: there may be none. */
  constructor(
    node: string,
    application: ApplicationSpec,
    store: ClusterStore,
    act: (action: ViewAction) => void | Promise<void>,
    seen: () => void = () => {},
  ) {
    this.state = initialViewState(node, { holdBelow: holdBelow(application) });
    this.#store = store;
    this.#key = storeKeys.view(application.name);
    this.#act = act;
    this.#seen = seen;
  }

  /** Begins to follow the store; the first event must have been told before. */
  watch(): void {
    this.#store.watch(
      this.#key,
      (change) => {
        if (change.key === this.#key)
          this.tell({ kind: "viewSeen", view: change.value as View | undefined, revision: change.revision });
      },
      this.#stop.signal,
    );
  }

  close(): void {
    this.#stop.abort();
  }

  /** Resolves when no action is under way. */
  async settled(): Promise<void> {
    while (this.#underWay) await this.#underWay;
  }

  /** Steps the machine. Events wait until the actions of the step before are all begun, and done where one takes its time. */
  tell(event: ViewEvent): void {
    this.#queue.push(event);
    if (!this.#stepping && !this.#underWay) this.#step();
  }

  #step(): void {
    this.#stepping = true;
    try {
      while (this.#doActions()) {
        if (this.#news) this.#seen();
        this.#news = false;
        const next = this.#queue.shift();
        if (!next) return;
        const { state, actions } = step(this.state, next);
        this.#news = state.confirmed?.revision !== this.state.confirmed?.revision;
        this.state = state;
        this.#actions = actions;
      }
    } catch (error) {
      this.#actions = [];
      throw error;
    } finally {
      this.#stepping = false;
    }
  }

  /** False: one takes its time, the others wait for it. */
  #doActions(): boolean {
    for (let next = this.#actions.shift(); next; next = this.#actions.shift()) {
      const rest = this.#do(next);
      if (!rest) continue;
      this.#underWay = rest.then(() => {
        this.#underWay = undefined;
        this.#step();
      });
      return false;
    }
    return true;
  }

  #do(action: ViewAction): void | Promise<void> {
    if (action.kind === "compareAndSwap") void this.#swap(action.expectedRevision, action.view);
    else if (action.kind === "readView") void this.#read();
    else return this.#act(action);
  }

  async #swap(expectedRevision: number, view: View): Promise<void> {
    try {
      const result = await this.#store.compareAndSwap(this.#key, expectedRevision, view);
      if (result.ok) this.tell({ kind: "swapped", expectedRevision, view, revision: result.revision });
      else {
        const { current } = result;
        this.tell({
          kind: "swapFailed",
          expectedRevision,
          view: current?.value as View | undefined,
          revision: current?.revision ?? 0,
        });
      }
    } catch {
      // The store gave no answer: whether the swap was done is found out by reading again.
      this.tell({ kind: "swapUnknown", expectedRevision });
    }
  }

  async #read(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        const found = await this.#store.get<View>(this.#key);
        this.tell({ kind: "viewRead", view: found?.value, revision: found?.revision ?? 0 });
        return;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, READ_AGAIN_MS));
      }
    }
  }
}
