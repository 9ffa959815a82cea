/** Memory that cannot be copied, told by what it is. */
import { OperatingError } from "../../kernel/failure.ts";
import { AREA_FLAG } from "./area-flags.ts";
import { type Area, hasFlag } from "./layout.ts";

/** @throws OperatingError for the first area that a clone could not have */
export function refuseAreas(areas: readonly Area[]): void {
  refuseHugePages(areas);
  refuseKeys(areas);
}

function refuseHugePages(areas: readonly Area[]): void {
  for (const area of areas) {
    const { backing, start, end } = area;
    const path = backing.type === "file" || backing.type === "shared" ? backing.path : "";
    if (!path.startsWith("/anon_hugepage") && !hasFlag(area, AREA_FLAG.hugetlb)) continue;
    throw hugePages(`${(end - start) >> 20} MiB mapped`, { path, start: start.toString(16) });
  }
}

/** Memory of huge pages that somebody has set aside (not the kernel's own, transparent ones). */
export function hugePages(what: string, details: Record<string, unknown>): OperatingError {
  return new OperatingError(
    "unprotectable-huge-pages",
    `The application has huge pages (${what}), which cannot be copied`,
    {
      remedy: "Run it without hugetlb memory; transparent huge pages are kept.",
      details,
    },
  );
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
