/** What the outside world sees of the application, and what must hold at every step. */
import type { Checkpoint } from "../cluster/view.ts";

export class Violation extends Error {
  override readonly name = "Violation";
}

/**
 * Output is named by the term and epoch that produced it; a state contains an output when its epoch, or one it went on
 * from, is at least that one.
 */
export class Judge {
  /** What each term went on from; undefined for a start from nothing. */
  readonly #bases = new Map<number, Checkpoint | undefined>();
  readonly #released = new Map<number, { node: string; epoch: number }>();
  #newest = 0;
  releases = 0;
  /** Releases by an old primary of what the new one has too: packets that were late, as in any network. */
  echoes = 0;
  lastReleaseAt = 0;

  /** The application begins to run as `term`, from `base`. */
  begins(node: string, term: number, base: Checkpoint | undefined): void {
    if (this.#bases.has(term)) throw new Violation(`Term ${term} began twice, now on ${node}`);
    this.#bases.set(term, base);
    this.#newest = Math.max(this.#newest, term);
    for (const [released, { node: by, epoch }] of this.#released) {
      if (released < term && !this.#contains(term, { term: released, epoch })) {
        const from = base === undefined ? "nothing" : `${base.term}/${base.epoch}`;
        throw new Violation(
          `${node} goes on as term ${term} from ${from}, but ${by} has released ${released}/${epoch}`,
        );
      }
    }
  }

  releasesOutput(node: string, term: number, epoch: number, now: number): void {
    this.releases++;
    this.lastReleaseAt = now;
    const before = this.#released.get(term);
    if (before !== undefined && before.node !== node)
      throw new Violation(`${before.node} and ${node} both speak in term ${term}`);
    if (term < this.#newest) {
      if (!this.#contains(this.#newest, { term, epoch })) {
        throw new Violation(`${node} released ${term}/${epoch}, which term ${this.#newest} does not contain`);
      }
      this.echoes++;
    }
    if (before === undefined || before.epoch < epoch) this.#released.set(term, { node, epoch });
  }

  #contains(term: number, output: Checkpoint): boolean {
    let at = term;
    let epoch = Number.POSITIVE_INFINITY;
    while (at > output.term) {
      const base = this.#bases.get(at);
      if (base === undefined) return false;
      at = base.term;
      epoch = base.epoch;
    }
    return at === output.term && epoch >= output.epoch;
  }
}
