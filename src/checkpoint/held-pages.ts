/**
 * Pages that a new clone may have from an earlier time: they are named to it instead of sent. Found by digest, so where and in
 * which process it had them does not matter.
 */
import { PAGE_BYTES } from "../kernel/numbers.ts";
import { NOT_FOUND } from "../kernel/page-digests.ts";

/** So many at a time are named: taking them over is some milliseconds' work. */
export const MOST_KEPT_PAGES = 1024;

/** Pages that follow each other at an address, and in what the clone has put aside. */
export interface KeptRun {
  address: number;
  place: number;
  pages: number;
}

/** What the primary knows of it. */
export interface HeldByNewcomer {
  /** For each of the leading pages its place, or `NOT_FOUND`. */
  find(bytes: Buffer, pages: number): Uint32Array;
  /** Names them to the clone, in the turn in which they were looked at: what is written later must come later. */
  take(pid: number, runs: KeptRun[]): void;
}

/** The clone that gets everything while the application runs. */
export interface MemoryNewcomer {
  /** No other clone follows, so no checkpoint is made meanwhile. */
  readonly alone: boolean;
  /** Awaited between the pieces. */
  pause(): Promise<void>;
  progress(leftBytes: number, keptBytes: number): void;
  readonly held?: HeldByNewcomer | undefined;
}

export interface Divided {
  kept: KeptRun[];
  /** Ranges [from, to) of pages in the staging memory. */
  held: Array<[number, number]>;
  lacking: Array<[number, number]>;
}

/** Pages that are held and those that are not, neighbours joined. */
export function divide(found: Uint32Array, addresses: BigUint64Array): Divided {
  const divided: Divided = { kept: [], held: [], lacking: [] };
  for (let i = 0; i < found.length; i++) {
    const place = found[i]!;
    const isHeld = place !== NOT_FOUND;
    const ranges = isHeld ? divided.held : divided.lacking;
    const range = ranges.at(-1);
    if (range?.[1] === i) range[1]++;
    else ranges.push([i, i + 1]);
    if (!isHeld) continue;
    const address = Number(addresses[i]);
    const run = divided.kept.at(-1);
    if (run && run.place + run.pages === place && run.address + run.pages * PAGE_BYTES === address) run.pages++;
    else divided.kept.push({ address, place, pages: 1 });
  }
  return divided;
}
