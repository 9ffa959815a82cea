/** Which areas the kernel watches for writes. */

import { checked } from "../../kernel/errors.ts";
import { ERRNO, PAGE_BYTES, PAGE_IS, PM_SCAN, PROT } from "../../kernel/numbers.ts";
import { scanPages } from "../../kernel/pages.ts";
import type { Remote } from "../../kernel/remote.ts";
import { type Area, isTrackable } from "./layout.ts";
import { Userfault } from "./userfault.ts";

const probed = new BigUint64Array(3);

export class PageWatch {
  readonly #pid: number;
  readonly #pagemapFd: number;
  readonly #probe = new BigUint64Array(2);
  #userfault: Userfault | undefined;

  constructor(pid: number, pagemapFd: number) {
    this.#pid = pid;
    this.#pagemapFd = pagemapFd;
  }

  get isOn(): boolean {
    return this.#userfault !== undefined;
  }

  /** @param remote a stopped thread of the process. Errors: EBUSY (the application watches its own memory) */
  open(remote: Remote): void {
    this.#userfault = Userfault.open(this.#pid, remote);
  }

  /** The kernel takes all protection off by itself. */
  close(): void {
    this.#userfault?.close();
    this.#userfault = undefined;
  }

  /** @returns false when an area is not what it was taken for; `surely`: that is an error */
  register(ranges: BigUint64Array, surely = false): boolean {
    for (let i = 0; i < ranges.length; i += 2) {
      const start = ranges[i]!;
      const r = this.#userfault!.register(start, ranges[i + 1]!);
      if ((r === ERRNO.perm || r === ERRNO.invalid) && !surely) return false;
      checked(r, "ioctl(UFFDIO_REGISTER)", `pid ${this.#pid}, 0x${start.toString(16)}`);
    }
    return true;
  }

  /**
   * Shared memory as a whole, pages that are not in this process's table included: else a page that it only reads would count
   * as written. Whoever is watched from now on is asked for what is there, not for what was written.
   */
  protectShared({ start, end, backing, readOnly }: Area): void {
    if (backing.type !== "shared" || readOnly) return;
    this.#userfault?.protect(start, end);
  }

  /** All of a range counts as written. */
  unprotect(start: number, end: number): void {
    this.#userfault?.unprotect(start, end);
  }

  /** Of these areas those that are not watched yet. */
  unwatched(areas: readonly Area[]): Array<[number, number]> {
    return areas
      .filter((area) => isTrackable(area) && !this.#isWatched(area.start))
      .map(({ start, end }) => [start, end]);
  }

  /** Shared memory that may never be written can be told by trying only: the kernel does not watch it. */
  isReadOnly({ start, end, protection, backing }: Area): boolean {
    if (!this.#userfault || backing.type !== "shared" || (protection & PROT.write) !== 0) return false;
    if (this.#isWatched(start)) return false;
    if (this.#userfault.register(BigInt(start), BigInt(end)) === ERRNO.perm) return true;
    // It is watched from the next registration on, like everything new.
    this.#userfault.unregister();
    return false;
  }

  /** Whether the area that begins there is registered. */
  #isWatched(start: number): boolean {
    const { written } = PAGE_IS;
    this.#probe[0] = BigInt(start);
    this.#probe[1] = BigInt(start + PAGE_BYTES);
    const r = scanPages(this.#pagemapFd, this.#probe, PM_SCAN.checkWpAsync, 0, written, 0, written, probed);
    if (r === ERRNO.perm) return false;
    checked(r, "ioctl(PAGEMAP_SCAN)", `pid ${this.#pid}`);
    return true;
  }
}
