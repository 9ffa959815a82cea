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

export interface NumberedOptions {
  /** Lets go of a file without a name that has this number: on the primary it is gone, the clone hears later. */
  release?: (inode: number) => boolean;
  /** Whether the clone shall come to life now: then a file with another number is better than none. */
  isRising?: () => boolean;
  missed?: (path: string, inode: number) => void;
  /** Makes the clone's root forget names that nobody uses. */
  forget?: () => void;
}

/**
 * What is removed goes a moment later where the kernel looks at it just now (a sync of the whole machine, pages that are written for
 * another cgroup).
 */
const PATIENCE_MS = 10_000;
const RISING_PATIENCE_MS = 20;
const PAUSE_MS = 2;
/** A directory that was removed through an overlay stays for good, now and then, because the overlay remembers its name (Linux 6.18). */
const FORGET_EVERY = 100;
const pause = new Int32Array(new SharedArrayBuffer(4));

export class Numbered {
  readonly #numbers: InodeNumbers;
  readonly #options: NumberedOptions;

  constructor(numbers: InodeNumbers, options: NumberedOptions = {}) {
    this.#numbers = numbers;
    this.#options = options;
  }

  /** With pauses while the number is not free. @param inode undefined: the primary has no such file @throws OperatingError `inode-number-taken` */
  *make(making: Making, inode: number | undefined): Generator<void, void> {
    if (inode === undefined || this.#try(making, inode)) {
      if (inode === undefined) this.#makeSpare(making);
      return;
    }
    const { release, isRising, missed, forget } = this.#options;
    release?.(inode);
    const deadline = performance.now() + (isRising?.() ? RISING_PATIENCE_MS : PATIENCE_MS);
    for (let failures = 0; !this.#try(making, inode); failures++) {
      if (failures % FORGET_EVERY === 0) forget?.();
      if (performance.now() < deadline) {
        Atomics.wait(pause, 0, 0, PAUSE_MS);
        yield;
        continue;
      }
      if (!isRising?.()) throw taken(making.path, inode);
      this.#makeSpare(making);
      missed?.(making.path, inode);
      return;
    }
  }

  /** For what takes a number and shows another: a directory that lies over one of the node's own. */
  around(inode: number, work: () => void): void {
    this.#numbers.next(inode);
    work();
    this.#numbers.own();
  }

  #try(making: Making, inode: number): boolean {
    this.around(inode, making.make);
    if (making.found() === inode) return true;
    making.undo();
    return false;
  }

  #makeSpare(making: Making): void {
    this.#numbers.spare();
    making.make();
    this.#numbers.own();
  }
}

function taken(path: string, inode: number): OperatingError {
  return new OperatingError(
    "inode-number-taken",
    `"${showName(path)}" cannot have inode number ${inode} here, which something else has`,
    { remedy: "None is needed: another clone is made, from the beginning.", details: { path: showName(path), inode } },
  );
}
