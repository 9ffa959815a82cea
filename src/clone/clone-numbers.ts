/** Inode numbers of a clone's files on a disk of its own: those of the primary's. */
import { Numbered } from "../files/numbered.ts";
import { closeDescriptor } from "../kernel/calls.ts";
import { forgetUnusedNames } from "../kernel/file-systems.ts";
import { O_NOFOLLOW, O_PATH, Status, tryOpenBelow } from "../kernel/files.ts";
import type { NamelessNumbers } from "../resources/nameless/objects.ts";
import type { InodeNumbers } from "../stage/inode-numbers.ts";

export interface MissedNumber {
  path: string;
  inode: number;
}

/** In memory, or made by the kernel: never on the disk. */
const ELSEWHERE = ["/dev", "/proc", "/sys", "/memfd:"];

export class CloneNumbers implements NamelessNumbers {
  readonly #numbers: InodeNumbers;
  readonly #rootFd: number;
  readonly #elsewhere: readonly string[];
  readonly #status = new Status();
  /** The clone shall live: it does with other numbers, too. */
  isRising = false;
  /** Files that have other numbers than on the primary for good. */
  readonly misses: MissedNumber[] = [];

  /** @param rootFd of the clone's root @param mounts paths at which something else lies over its layer */
  constructor(numbers: InodeNumbers, rootFd: number, mounts: readonly string[]) {
    this.#numbers = numbers;
    this.#rootFd = rootFd;
    this.#elsewhere = [...ELSEWHERE, ...mounts.map((path) => Buffer.from(path).toString("latin1"))];
  }

  get last(): number {
    return this.#numbers.last;
  }

  /** @param release as `NumberedOptions` has it */
  files(release: (inode: number) => boolean): Numbered {
    const missed = (path: string, inode: number) => this.missed(path, inode);
    const forget = () => forgetUnusedNames(this.#rootFd);
    return new Numbered(this.#numbers, { release, missed, forget, isRising: () => this.isRising });
  }

  covers(path: string): boolean {
    return !this.#elsewhere.some(
      (other) => path === other || path.startsWith(other.endsWith(":") ? other : `${other}/`),
    );
  }

  with<T>(inode: number | undefined, make: () => T): T {
    if (inode === undefined || inode > this.last) this.#numbers.spare();
    else this.#numbers.next(inode);
    try {
      return make();
    } finally {
      this.#numbers.own();
    }
  }

  missed(path: string, inode: number): void {
    this.misses.push({ path, inode });
  }

  /** While the clone comes to life: what is made with another number is told, for it shall live all the same. */
  make<T>(path: string, inode: number, make: () => T): T {
    if (!this.covers(path) || inode > this.last) return make();
    const made = this.with(inode, make);
    const fd = tryOpenBelow(this.#rootFd, path, O_PATH | O_NOFOLLOW);
    if (fd >= 0 && this.#status.read(fd, "") >= 0 && this.#status.inode !== inode) this.missed(path, inode);
    closeDescriptor(fd);
    return made;
  }
}
