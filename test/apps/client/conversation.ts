/** What a client of a server under test does, connection by connection. */
import type { Target } from "./wire.ts";

export interface Conversation {
  /** One question and its answer. Throws when the answer is wrong, or the connection has broken. */
  turn(): Promise<void>;
  /** After the last turn: is all there that was said to be? Throws when not. */
  verify?(): Promise<void>;
  close(): void;
}

/** Opens the connection of this index. */
export type Opening = (target: Target, index: number) => Promise<Conversation>;

export function expect(found: string, wanted: string, of: string): void {
  if (found === wanted) return;
  throw new Error(`${of}: ${JSON.stringify(found.slice(0, 200))} instead of ${JSON.stringify(wanted.slice(0, 200))}`);
}
