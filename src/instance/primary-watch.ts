/** Watches over a term's primary: its stream's heartbeats, and a suspicion that is told again while it lasts. */
import { type DetectorState, heartbeat, startDetector, tick } from "../cluster/detector.ts";
import type { ViewShell } from "./view-shell.ts";

const SUSPECT_AGAIN_MS = 100;

export class PrimaryWatch {
  readonly #view: ViewShell;
  #detector: DetectorState | undefined;
  /** 0: nobody. */
  #term = 0;
  #suspectedAt = 0;
  #primary = "";
  #told = false;
  readonly #silent: (primary: string) => void;

  /** @param silent told once for each silence that is taken for a failure */
  constructor(view: ViewShell, silent: (primary: string) => void) {
    this.#view = view;
    this.#silent = silent;
  }

  follow(primary: string, term: number): void {
    this.#term = term;
    this.#primary = primary;
    this.#told = false;
    this.#detector = startDetector(performance.now());
  }

  stop(): void {
    this.#term = 0;
  }

  beat(): void {
    this.#told = false;
    if (this.#detector) this.#detector = heartbeat(this.#detector, performance.now());
  }

  suspect(): void {
    this.#suspectedAt = performance.now();
    if (this.#term) this.#view.tell({ kind: "suspected", term: this.#term });
  }

  tick(): void {
    if (!this.#term || !this.#detector) return;
    const now = performance.now();
    const { state, suspected } = tick(this.#detector, now);
    this.#detector = state;
    if (suspected && now - this.#suspectedAt >= SUSPECT_AGAIN_MS) this.suspect();
    if (!suspected || this.#told) return;
    this.#told = true;
    this.#silent(this.#primary);
  }
}
