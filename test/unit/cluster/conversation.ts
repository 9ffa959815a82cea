/**
 * Plays a conversation between view machines and a store, told in lines:
 *
 *     NODE EVENT [key=value …]     an event, e.g. `a acknowledged node=b term=1 epoch=3`
 *     NODE store [lost|unanswered] the store serves the node's request: well; not at all; well, but the answer is lost
 *     NODE watch                   the node learns the present record
 *     NODE dies                    its process is gone; the next event is a new one's
 *
 * Told back: what the node does, and what it then is.
 */
import type { View } from "../../../src/cluster/spec.ts";
import {
  describeView,
  initialViewState,
  step,
  type ViewAction,
  type ViewEvent,
  type ViewState,
} from "../../../src/cluster/view.ts";

type Request = ViewAction & { kind: "compareAndSwap" | "readView" };

export class Conversation {
  #record: { view: View | undefined; revision: number } = { view: undefined, revision: 0 };
  readonly #states = new Map<string, ViewState>();
  readonly #requests = new Map<string, Request>();

  say(line: string): string {
    const [node, command, ...words] = line.trim().split(/\s+/);
    if (node === undefined || command === undefined) throw new Error(`Not a line of a conversation: "${line}"`);
    if (command === "store") return this.#serve(node, words[0]);
    if (command === "watch") return this.#tell(node, { kind: "viewSeen", ...this.#record });
    if (command === "dies") {
      this.#states.delete(node);
      this.#requests.delete(node);
      return `${node} is gone`;
    }
    const operands = Object.fromEntries(words.map((word) => parseOperand(word)));
    return this.#tell(node, { kind: command, ...operands } as unknown as ViewEvent);
  }

  #tell(node: string, event: ViewEvent): string {
    const { state, actions } = step(this.#states.get(node) ?? initialViewState(node), event);
    this.#states.set(node, state);
    for (const action of actions) {
      if (action.kind === "compareAndSwap" || action.kind === "readView") this.#requests.set(node, action);
    }
    const { role, state: what, term, inSync } = describeView(state);
    const lines = actions.map((action) => `  ${showAction(action)}`);
    return [...lines, `${node} is ${role}, ${what}, term ${term}, in sync: ${inSync.join(" ") || "nobody"}`].join("\n");
  }

  #serve(node: string, how: string | undefined): string {
    const request = this.#requests.get(node);
    if (request === undefined) throw new Error(`"${node}" has asked the store for nothing`);
    this.#requests.delete(node);
    if (request.kind === "readView") return this.#tell(node, { kind: "viewRead", ...this.#record });
    const { expectedRevision, view } = request;
    const ok = how !== "lost" && this.#record.revision === expectedRevision;
    if (ok) this.#record = { view, revision: expectedRevision + 1 };
    const said = ok
      ? `  store: ${showView(this.#record.view)} at revision ${this.#record.revision}\n`
      : "  store: unchanged\n";
    if (how !== undefined) return said + this.#tell(node, { kind: "swapUnknown", expectedRevision });
    if (ok)
      return said + this.#tell(node, { kind: "swapped", expectedRevision, view, revision: this.#record.revision });
    return said + this.#tell(node, { kind: "swapFailed", expectedRevision, ...this.#record });
  }
}

function parseOperand(word: string): [string, unknown] {
  const [key = "", ...rest] = word.split("=");
  const text = rest.join("=");
  if (/^\d+$/.test(text)) return [key, Number(text)];
  return [key, text === "true" ? true : text === "false" ? false : text];
}

function showView(view: View | undefined): string {
  if (view === undefined) return "nothing";
  const ended = view.ended === undefined ? "" : `, ended: ${view.ended.reason}`;
  return `{term ${view.term}, primary ${view.primary}, in sync: ${view.inSync.join(" ") || "nobody"}${ended}}`;
}

function showAction(action: ViewAction): string {
  if (action.kind === "compareAndSwap") return `compareAndSwap ${action.expectedRevision} → ${showView(action.view)}`;
  const operands = Object.entries(action)
    .filter(([key]) => key !== "kind")
    .map(([key, value]) => ` ${key}=${typeof value === "object" ? Object.values(value).join("/") : value}`);
  return action.kind + operands.join("");
}
