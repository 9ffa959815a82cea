/** How much memory processes have. */
import { SystemCallError } from "../kernel/errors.ts";
import { PAGE_BYTES } from "../kernel/numbers.ts";
import { readSmall } from "../kernel/procfs.ts";

/** Resident memory of processes, bytes; one that has just ended counts nothing. */
export function residentBytes(pids: Iterable<number>): number {
  let pages = 0;
  for (const pid of pids) {
    try {
      pages += Number(readSmall(`/proc/${pid}/statm`).split(" ")[1]);
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
    }
  }
  return pages * PAGE_BYTES;
}
