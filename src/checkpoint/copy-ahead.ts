/** Whether memory is worth being copied ahead of a stop, by what became of that before. Pure. */

/** So few pages are copied in the stop rather than before it: a pass has a price of its own. */
const WORTH_PAGES = 600;
/** After so long without a checkpoint the one before says nothing about the next, but for what was found to be in vain. */
const RECENT_MS = 100;
/** Of what was copied ahead, the stop found more than this part written again: in vain, and not tried again for so many checkpoints. */
const VAIN = 0.5;
const VAIN_FOR = 20;
const VAIN_MS = 500;
/** More than the stop should copy by itself: then it is tried all the same. */
const MOST_IN_STOP = 2500;

export interface AheadState {
  /** Written before the last checkpoint, about; and when that was, milliseconds of a monotonic clock. */
  pages: number;
  at: number;
  /** For so many checkpoints more it is not tried. */
  skips: number;
}

export const nothingKnown: AheadState = { pages: 0, at: Number.NEGATIVE_INFINITY, skips: 0 };

export function isWorthAhead({ pages, at, skips }: AheadState, now: number): boolean {
  if (now - at < RECENT_MS && pages < WORTH_PAGES) return false;
  return !(skips > 0 && now - at < VAIN_MS && pages < MOST_IN_STOP);
}

/** @param ahead pages that the first pass copied ahead, 0: there was none @param inStop those that the stop found */
export function afterDump(before: AheadState, now: number, ahead: number, inStop: number): AheadState {
  const skips = ahead > 0 ? (inStop > VAIN * ahead ? VAIN_FOR : 0) : Math.max(0, before.skips - 1);
  return { pages: Math.max(ahead, inStop), at: now, skips };
}
