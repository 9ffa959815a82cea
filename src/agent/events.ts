/** What happened on this node: the last events, and those to come for whoever follows. */
import { limits } from "./limits.ts";

export interface AgentEvent {
  /** Grows by one on each node; starts again when the agent does. */
  sequence: number;
  /** RFC 3339 */
  at: string;
  node: string;
  /** Stable, kebab-case. */
  kind: string;
  message: string;
  application?: string;
  details?: Record<string, unknown>;
}

export interface NewEvent {
  kind: string;
  message: string;
  at?: string;
  application?: string;
  details?: Record<string, unknown>;
}

export class EventLog {
  readonly #node: string;
  readonly #events: AgentEvent[] = [];
  readonly #followers = new Set<(event: AgentEvent) => void>();
  #sequence = 0;

  constructor(node: string) {
    this.#node = node;
  }

  add({ at, ...event }: NewEvent): AgentEvent {
    const full = { sequence: ++this.#sequence, at: at ?? new Date().toISOString(), node: this.#node, ...event };
    this.#events.push(full);
    if (this.#events.length > limits.eventsKept) this.#events.shift();
    for (const follower of this.#followers) follower(full);
    return full;
  }

  /** Oldest first. */
  list(application?: string): AgentEvent[] {
    return this.#events.filter((event) => application === undefined || event.application === application);
  }

  /** Calls back for every event to come, until the signal aborts. */
  follow(listener: (event: AgentEvent) => void, signal: AbortSignal): void {
    if (signal.aborted) return;
    this.#followers.add(listener);
    signal.addEventListener("abort", () => this.#followers.delete(listener), { once: true });
  }
}
