/** Where a process is: its working directory and root, which nothing tells of when they change, or get another name. */
import { cString, tryCall } from "../../kernel/calls.ts";

const AT_FDCWD = -100;
/** Longer ones are told as far as that: the kernel's own limit of a path. */
const MOST_BYTES = 4096;

export class Places {
  readonly #links: ReadonlyArray<{ path: Buffer; before: Buffer }>;
  static readonly #now = Buffer.alloc(MOST_BYTES);

  constructor(pid: number) {
    this.#links = ["cwd", "root"].map((name) => ({ path: cString(`/proc/${pid}/${name}`), before: Buffer.alloc(0) }));
  }

  /** Whether they are others than at the last look; about two microseconds. */
  changed(): boolean {
    let changed = false;
    for (const link of this.#links) {
      const length = tryCall("readlinkat", AT_FDCWD, link.path, Places.#now, MOST_BYTES);
      const now = Places.#now.subarray(0, Math.max(0, length));
      if (now.equals(link.before)) continue;
      link.before = Buffer.from(now);
      changed = true;
    }
    return changed;
  }
}
