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
  /** By term, the newest epoch that each node has acknowledged. */
  readonly #acknowledged = new Map<number, Map<string, number>>();
  /** Terms whose application has crashed. */
  readonly #crashed = new Set<number>();
  /** Terms that went on from an older state, or none, after a crash, and the one that had crashed. */
  readonly #forgot = new Map<number, number>();
  /** So many nodes beside the speaker must have acknowledged what leaves. */
  readonly #holdBelow: number;
  releases = 0;
  /** Releases by an old primary of what the new one has too: packets that were late, as in any network. */
  echoes = 0;
  lastReleaseAt = 0;
  /** Terms of which output was seen that a restart after a crash has forgotten. */
  forgotten = 0;

  constructor(holdBelow: number) {
    this.#holdBelow = holdBelow;
  }

  acknowledges(node: string, term: number, epoch: number): void {
    const known = this.#acknowledged.get(term) ?? new Map<string, number>();
    this.#acknowledged.set(term, known.set(node, Math.max(epoch, known.get(node) ?? 0)));
  }

  crashes(term: number): void {
    this.#crashed.add(term);
  }

  /**
   * The application begins to run as `term`, from `base`.
   * @param byPolicy it shall go on from an older state, or none: only after a crash may what was seen be forgotten
   */
  begins(node: string, term: number, base: Checkpoint | undefined, byPolicy: boolean): void {
    if (this.#bases.has(term)) throw new Violation(`Term ${term} began twice, now on ${node}`);
    const before = Math.max(0, ...[...this.#bases.keys()].filter((other) => other < term));
    this.#bases.set(term, base);
    const mayForget = byPolicy && this.#crashed.has(before);
    if (mayForget) this.#forgot.set(term, before);
    // Who was frozen meanwhile begins when others have gone on since: what those contain is not forgotten.
    const isLate = term < this.#newest;
    this.#newest = Math.max(this.#newest, term);
    for (const [released, { node: by, epoch }] of this.#released) {
      if (released < term && !this.#contains(term, { term: released, epoch })) {
        if (mayForget) {
          if (isLate) continue;
          // Nothing that comes later can contain it.
          this.#released.delete(released);
          this.forgotten++;
          continue;
        }
        const from = base === undefined ? "nothing" : `${base.term}/${base.epoch}`;
        throw new Violation(
          `${node} goes on as term ${term} from ${from}, but ${by} has released ${released}/${epoch}`,
        );
      }
    }
  }

  /** `last`: the application has ended, and nobody takes over any more. */
  releasesOutput(node: string, term: number, epoch: number, now: number, last: boolean): void {
    this.releases++;
    this.lastReleaseAt = now;
    const before = this.#released.get(term);
    if (before !== undefined && before.node !== node)
      throw new Violation(`${before.node} and ${node} both speak in term ${term}`);
    const output = { term, epoch };
    const isKept = term >= this.#newest || this.#contains(this.#newest, output);
    if (term < this.#newest) {
      if (!isKept && !this.#wasForgotten(output)) {
        throw new Violation(`${node} released ${term}/${epoch}, which term ${this.#newest} does not contain`);
      }
      this.echoes++;
    }
    const holders = [...(this.#acknowledged.get(term) ?? [])].filter(
      ([other, newest]) => other !== node && newest >= epoch,
    );
    if (holders.length < this.#holdBelow && !last) {
      throw new Violation(`${node} released ${term}/${epoch}, which ${holders.length} of ${this.#holdBelow} hold`);
    }
    // Nothing that comes later can contain what was forgotten.
    if (isKept && (before === undefined || before.epoch < epoch)) this.#released.set(term, { node, epoch });
  }

  /** What a crash has lost, by its owner's wish: it comes as late as packets may, and might as well have come before. */
  #wasForgotten(output: Checkpoint): boolean {
    return [...this.#forgot].some(([term, crashed]) => output.term < term && this.#contains(crashed, output));
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
