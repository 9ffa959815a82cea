/** The verdict on one fault, from what clients and observers wrote down: pure. */
import type { CounterResult } from "../../workload/messages.ts";

/** Who says at one moment that he is the application's primary. */
export interface Claim {
  node: string;
  term: number;
}

/** Who only starts does not know yet whether he is. */
export function claims({ role, state }: { role: string; state: string }): boolean {
  return role === "primary" && state !== "starting";
}

/** Everything that was seen of one application over all its faults: a term has one primary, for ever. */
export class Terms {
  readonly #primaryOf = new Map<number, string>();

  /** @returns what is wrong with it, in words */
  claimed({ node, term }: Claim): string | undefined {
    const other = this.#primaryOf.get(term);
    this.#primaryOf.set(term, other ?? node);
    return other === undefined || other === node
      ? undefined
      : `"${other}" and "${node}" both are primary in term ${term}`;
  }

  /** The application was begun anew: its terms begin again. */
  clear(): void {
    this.#primaryOf.clear();
  }
}

/** What clients were told and is not so, in words; empty when all is well. */
export function wrongIn(history: CounterResult): string[] {
  const counted = {
    "acknowledged writes missing": history.writesMissing,
    "acknowledged writes that nobody could look for": history.writesUnverified,
    "values that nobody wrote then, or twice": history.valuesUnexpected,
    "connections broken": history.connectionsBroken,
    "error replies": history.errorReplies,
  };
  const wrong = Object.entries(counted).flatMap(([what, count]) => (count > 0 ? [`${count} ${what}`] : []));
  if (history.writesAcknowledged === 0) wrong.push("no write was acknowledged");
  return wrong.length === 0 ? [] : [...wrong, ...history.findings.slice(0, 3)];
}

/** The longest time in which no client got an answer, from the window `from` on. */
export function worstSilenceMs({ windows }: CounterResult, from: string): number {
  const first = windows.findIndex(({ name }) => name === from);
  return Math.round(Math.max(...windows.slice(first).map(({ silenceMs }) => silenceMs)));
}
