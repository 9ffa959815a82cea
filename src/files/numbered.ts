/** Files of a clone get the inode numbers that the primary's have: each is made with its number, and looked at afterwards. */
import { OperatingError } from "../kernel/failure.ts";
import type { InodeNumbers } from "../stage/inode-numbers.ts";
import { showName } from "./names.ts";

/** What stands at a path on the clone's disk. */
export interface Making {
  path: string;
  make(): void;
  /** Number of what was made. */
  found(): number;
  /** Removes it again. */
  undo(): void;
}

export class Numbered {
  readonly #numbers: InodeNumbers;
  readonly #release: (inode: number) => boolean;

  /** @param release lets go of a file without a name that has this number: on the primary it is gone, the clone hears later */
  constructor(numbers: InodeNumbers, release: (inode: number) => boolean = () => false) {
    this.#numbers = numbers;
    this.#release = release;
  }

  /** @param inode undefined: the primary has no such file @throws OperatingError `inode-number-taken` */
  make(making: Making, inode: number | undefined): void {
    const numbers = this.#numbers;
    if (inode === undefined) {
      numbers.spare();
      making.make();
      numbers.own();
      return;
    }
    let found = this.#try(making, inode);
    if (found !== inode && this.#release(inode)) {
      making.undo();
      found = this.#try(making, inode);
    }
    if (found === inode) return;
    making.undo();
    throw new OperatingError(
      "inode-number-taken",
      `"${showName(making.path)}" cannot have inode number ${inode} here, which something else has`,
      { remedy: "None is needed: another clone is made, from the beginning.", details: { path: making.path, inode } },
    );
  }

  /** For what takes a number and shows another: a directory that lies over one of the node's own. */
  around(inode: number, work: () => void): void {
    this.#numbers.next(inode);
    work();
    this.#numbers.own();
  }

  #try(making: Making, inode: number): number {
    this.#numbers.next(inode);
    making.make();
    this.#numbers.own();
    return making.found();
  }
}
