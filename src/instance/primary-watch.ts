/** Watches over a term's primary: its stream's heartbeats, and a suspicion that is told again while it lasts. */
import { type DetectorState, heartbeat, startDetector, tick } from "../cluster/detector.ts";
import type { Link } from "../replication/link.ts";
import type { ViewShell } from "./view-shell.ts";

const SUSPECT_AGAIN_MS = 100;

export interface Silence {
  /** Of what could have been heard, milliseconds. */
  silenceMs: number;
  /** The primary's machine did not answer either. */
  unanswered: boolean;
}

export class PrimaryWatch {
  readonly #view: ViewShell;
  #detector: DetectorState | undefined;
  /** 0: nobody. */
  #term = 0;
  #suspectedAt = 0;
  #loss: { at: number; silenceMs: number } | undefined;
  #primary = "";
  #told = false;
  readonly #silent: (primary: string, how: Silence) => void;

  /** @param silent told once for each silence that is taken for a failure */
  constructor(view: ViewShell, silent: (primary: string, how: Silence) => void) {
    this.#view = view;
    this.#silent = silent;
  }

  follow(primary: string, term: number): void {
    this.#term = term;
    this.#primary = primary;
    this.#told = false;
    this.#loss = undefined;
    this.#detector = startDetector(performance.now());
  }

  /** When the primary that is missed was found to be, and after how much silence; undefined while it is not missed. */
  get loss(): { at: number; silenceMs: number } | undefined {
    return this.#loss;
  }

  stop(): void {
    this.#term = 0;
  }

  /** It comes to life, and had more to do: it is waited for as from the beginning. Says nothing of anybody else, or of another term. */
  rising(primary: string, term: number): void {
    if (this.#term !== term || this.#primary !== primary || this.#detector?.lastArrival !== undefined) return;
    this.#detector = startDetector(performance.now());
  }

  beat(): void {
    this.#told = false;
    this.#loss = undefined;
    if (this.#detector) this.#detector = heartbeat(this.#detector, performance.now());
  }

  suspect(): void {
    const at = performance.now();
    this.#suspectedAt = at;
    this.#loss ??= { at, silenceMs: at - (this.#detector?.lastArrival ?? at) };
    if (this.#term) this.#view.tell({ kind: "suspected", term: this.#term });
  }

  /** @param stream the primary's, where there is one */
  tick(stream: Link | undefined): void {
    if (!this.#term || !this.#detector) return;
    const now = performance.now();
    const { lastArrival, options } = this.#detector;
    const isQuiet = now - (lastArrival ?? now) >= options.tickMs;
    const unanswered = isQuiet && (stream?.isUnanswered(now) ?? false);
    const { state, suspected, ask } = tick(this.#detector, now, unanswered);
    this.#detector = state;
    if (ask) stream?.send({ type: "heartbeat" });
    if (suspected && now - this.#suspectedAt >= SUSPECT_AGAIN_MS) this.suspect();
    if (!suspected || this.#told) return;
    this.#told = true;
    this.#silent(this.#primary, { silenceMs: Math.round(state.silenceMs), unanswered });
  }
}
