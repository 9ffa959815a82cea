/** A node that has too few huge pages for a clone says so by name. */
import { OperatingError } from "../../kernel/failure.ts";
import { freeHugePages, hugeSizeName } from "../../kernel/huge-pages.ts";
import { ERRNO } from "../../kernel/numbers.ts";

/** Of mmap, shmget and memfd_create: there are not enough, or none of that size. */
export function isLackOfHugePages(result: number): boolean {
  return result === ERRNO.noMemory || result === ERRNO.noDevice || result === ERRNO.invalid;
}

/** @param wanted bytes that could not be had at once */
export function lackingHugePages(pageBytes: number, wanted: number, cause?: unknown): OperatingError {
  const { free, all } = freeHugePages(pageBytes);
  const [name, needed] = [hugeSizeName(pageBytes), Math.ceil(wanted / pageBytes)];
  return new OperatingError(
    "huge-pages-lacking",
    `This node has too few huge pages of ${name} for a clone: ${needed} more are needed, ${free} of ${all} are free`,
    {
      remedy: `Set more of them aside (sysctl vm.nr_hugepages, or /sys/kernel/mm/hugepages/hugepages-${pageBytes / 1024}kB).`,
      details: { pageBytes, needed, free, all },
      ...(cause === undefined ? {} : { cause }),
    },
  );
}
