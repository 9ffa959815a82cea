/** Processor time that parts of a lab use while something goes on. */
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";

/** Milliseconds, all processors together, of everything in a cgroup since it was made. */
function usedMs(cgroup: string): number {
  const text = readFileSync(join(cgroup, "cpu.stat"), "latin1");
  return Number(/^usage_usec (\d+)/m.exec(text)?.[1] ?? Number.NaN) / 1000;
}

export class ProcessorTime {
  readonly #cgroups: readonly string[];
  readonly #begun: number;
  readonly #before: number;

  /** From now on. */
  constructor(cgroups: readonly string[]) {
    this.#cgroups = cgroups;
    this.#begun = performance.now();
    this.#before = this.#used();
  }

  #used(): number {
    return this.#cgroups.reduce((sum, cgroup) => sum + usedMs(cgroup), 0);
  }

  /** Milliseconds of processor time a second of the clock, and how many there would be. */
  perSecond(): { usedMs: number; thereAreMs: number } {
    const seconds = (performance.now() - this.#begun) / 1000;
    return { usedMs: (this.#used() - this.#before) / seconds, thereAreMs: 1000 * cpus().length };
  }
}
