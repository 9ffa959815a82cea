/** Measures of one role's life: recent samples for medians, counts since the beginning. */
import type { CheckpointEnd } from "../checkpoint/operations.ts";
import type { CheckpointSummary, InstanceFigures } from "./control.ts";

const SAMPLES = 4096;

class Samples {
  readonly #values: number[] = [];
  #next = 0;
  #max = 0;

  add(value: number): void {
    this.#values[this.#next] = value;
    this.#next = (this.#next + 1) % SAMPLES;
    this.#max = Math.max(this.#max, value);
  }

  summary(): { median: number; p99: number; max: number } {
    const sorted = [...this.#values].sort((a, b) => a - b);
    const at = (share: number) =>
      Math.round(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0);
    return { median: at(0.5), p99: at(0.99), max: Math.round(this.#max) };
  }
}

const KEPT_SUMMARIES = 100;

export class Figures {
  readonly #begun = performance.now();
  readonly #stops = new Samples();
  readonly #commits = new Samples();
  readonly #pages = new Samples();
  readonly #bytes = new Samples();
  readonly #recent: CheckpointSummary[] = [];
  #checkpoints = 0;
  heldPackets = 0;
  residentBytes = 0;

  checkpoint(end: CheckpointEnd): void {
    this.#checkpoints++;
    this.#stops.add(end.stopUs);
    this.#pages.add(end.pages);
    this.#bytes.add(end.bytes);
    const { epoch, term, at, stopUs, pages, bytes } = end;
    this.#recent.push({ epoch, term, at, stopUs, pages, bytes });
    if (this.#recent.length > KEPT_SUMMARIES) this.#recent.shift();
  }

  committed(epoch: number, us: number): void {
    this.#commits.add(us);
    const summary = this.#recent.findLast((one) => one.epoch === epoch);
    if (summary) summary.commitUs = Math.round(us);
  }

  recent(): CheckpointSummary[] {
    return [...this.#recent];
  }

  summary(): InstanceFigures {
    const seconds = (performance.now() - this.#begun) / 1000;
    return {
      checkpoints: this.#checkpoints,
      checkpointsPerSecond: Number((this.#checkpoints / Math.max(seconds, 0.001)).toFixed(2)),
      stopUs: this.#stops.summary(),
      commitUs: this.#commits.summary(),
      pagesPerCheckpoint: this.#pages.summary().median,
      bytesPerCheckpoint: this.#bytes.summary().median,
      heldPackets: this.heldPackets,
      residentBytes: this.residentBytes,
    };
  }
}
