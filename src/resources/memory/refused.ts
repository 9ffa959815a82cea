/** Memory that cannot be copied, told by what it is. */
import { OperatingError } from "../../kernel/failure.ts";
import { AREA_FLAG } from "./area-flags.ts";
import { type Area, hasFlag } from "./layout.ts";

/** @throws OperatingError for the first area that a clone could not have */
export function refuseAreas(areas: readonly Area[]): void {
  refuseHugePages(areas);
  refuseKeys(areas);
}

/** What of it can be kept is told by the layout: a size, and memory that is private or an object's. */
function refuseHugePages(areas: readonly Area[]): void {
  for (const area of areas) {
    const { backing, start, end, huge } = area;
    if (huge === undefined ? !hasFlag(area, AREA_FLAG.hugetlb) : backing.type !== "file") continue;
    const path = backing.type === "file" || backing.type === "shared" ? backing.path : "";
    const what = huge === undefined ? "of a mounted hugetlbfs" : "of a memfd, mapped private";
    throw new OperatingError(
      "unprotectable-huge-pages",
      `The application has huge pages ${what} (${(end - start) / 2 ** 20} MiB), which cannot be copied`,
      {
        remedy: "Use mmap with MAP_HUGETLB, a memfd of huge pages mapped shared, or a System V segment.",
        details: { path, start: start.toString(16) },
      },
    );
  }
}

/** protections: only to run, nothing to read: the kernel gives such memory a key of its own accord, on a clone as well. */
const EXECUTE_ONLY = 4;

function refuseKeys(areas: readonly Area[]): void {
  const keyed = areas.find((area) => hasFlag(area, AREA_FLAG.keys) && area.protection !== EXECUTE_ONLY);
  if (keyed === undefined) return;
  throw new OperatingError(
    "unprotectable-protection-keys",
    `The application has memory under a protection key (pkey_mprotect, ${(keyed.end - keyed.start) >> 10} KiB)`,
    { remedy: "Run it without protection keys.", details: { start: keyed.start.toString(16) } },
  );
}
