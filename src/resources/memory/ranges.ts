/** A layout's trackable areas, sorted by how they are asked for. */
import { type Area, isTrackable, trackableRanges } from "./layout.ts";
import { wordsOf } from "./regions.ts";

/** Each as [start, end] words, neighbours joined. */
export interface Ranges {
  all: BigUint64Array;
  /** `all` as the kernel takes it to be watched: huge pages one area at a time. */
  watched: BigUint64Array;
  /** `all` without and with only what `isReserved`. */
  open: BigUint64Array;
  reserved: BigUint64Array;
  private: BigUint64Array;
  /** Memory that other mappings may write too. */
  shared: BigUint64Array;
  /** Private memory over a file. */
  mapped: BigUint64Array;
  /** Private memory of huge pages, which is not in `private`. */
  huge: BigUint64Array;
  /** Shared memory of huge pages. */
  hugeShared: BigUint64Array;
}

const NONE = new BigUint64Array(0);
export const noRanges: Ranges = {
  all: NONE,
  watched: NONE,
  open: NONE,
  reserved: NONE,
  private: NONE,
  shared: NONE,
  mapped: NONE,
  huge: NONE,
  hugeShared: NONE,
};

/**
 * Memory reserved without access: from so many bytes on it is asked only for pages that are there. To protect what was never
 * touched, the kernel would have to make page tables for all of it.
 */
const RESERVED_BYTES = 1 << 20;

export function isReserved(area: Area): boolean {
  return isTrackable(area) && area.protection === 0 && area.end - area.start >= RESERVED_BYTES;
}

export function rangesOf(areas: Area[]): Ranges {
  const all = wordsOf(trackableRanges(areas));
  const reserved = only(areas, isReserved);
  const open = reserved.length
    ? wordsOf(trackableRanges(areas, (area) => isTrackable(area) && !isReserved(area)))
    : all;
  const mapped = only(areas, ({ backing }) => backing.type === "file");
  // One call over holes and all costs less than one for each area, where no shared memory must be left out.
  const hasHuge = areas.some(({ huge }) => huge !== undefined);
  if (!hasHuge && !areas.some(({ backing }) => backing.type === "shared"))
    return { all, watched: all, open, reserved, mapped, private: all, shared: NONE, huge: NONE, hugeShared: NONE };
  const shared = only(areas, ({ backing }) => backing.type === "shared");
  const own = only(areas, ({ backing, huge }) => backing.type !== "shared" && huge === undefined);
  const rest = { all, open, reserved, mapped, shared, private: own };
  if (!hasHuge) return { ...rest, watched: all, huge: NONE, hugeShared: NONE };
  const hugeShared = only(areas, ({ backing, huge }) => backing.type === "shared" && huge !== undefined);
  const huge = only(areas, ({ backing, huge }) => backing.type !== "shared" && huge !== undefined);
  return { ...rest, watched: watchedWith(areas), huge, hugeShared };
}

/** A range to watch must not begin in front of huge pages. */
function watchedWith(areas: Area[]): BigUint64Array {
  const isHuge = (area: Area) => isTrackable(area) && area.huge !== undefined;
  const plain = trackableRanges(areas, (area) => isTrackable(area) && area.huge === undefined);
  const huge = areas.filter(isHuge).map(({ start, end }): [number, number] => [start, end]);
  return wordsOf([...plain, ...huge]);
}

function only(areas: Area[], wanted: (area: Area) => boolean): BigUint64Array {
  const words: bigint[] = [];
  for (const area of areas) {
    if (!isTrackable(area) || !wanted(area)) continue;
    if (words.length && words.at(-1) === BigInt(area.start)) words[words.length - 1] = BigInt(area.end);
    else words.push(BigInt(area.start), BigInt(area.end));
  }
  return new BigUint64Array(words);
}
