/** How bad a life is: every run draws its own mix, so that some are rough at sea and calm on land, others the reverse. */
import type { Random } from "./random.ts";

export const faultKinds = [
  "messageDelayed",
  "messageDuplicated",
  "messageReordered",
  "streamReset",
  "linkCut",
  "machineCrashed",
  "processCrashed",
  "starved",
  "clockJumped",
  "storeRequestLost",
  "storeAnswerLost",
  "storeRequestLate",
  "storeCut",
  "watchDelayed",
  "watchRepeated",
  "checkpointFailed",
  "goLiveFailed",
  "cloneLost",
  "applicationCrashed",
  "standbyDropped",
] as const;
export type FaultKind = (typeof faultKinds)[number];

/** Probability per opportunity (a message, a request, a node's turn of 50 ms …). */
const usual: Record<FaultKind, number> = {
  messageDelayed: 0.06,
  messageDuplicated: 0.12,
  messageReordered: 0.12,
  streamReset: 0.0006,
  linkCut: 0.006,
  machineCrashed: 0.001,
  processCrashed: 0.002,
  starved: 0.008,
  clockJumped: 0.02,
  storeRequestLost: 0.08,
  storeAnswerLost: 0.1,
  storeRequestLate: 0.1,
  storeCut: 0.004,
  watchDelayed: 0.2,
  watchRepeated: 0.2,
  checkpointFailed: 0.02,
  goLiveFailed: 0.04,
  cloneLost: 0.0015,
  applicationCrashed: 0.008,
  standbyDropped: 0.004,
};

export class Faults {
  readonly counts = new Map<FaultKind, number>();
  readonly #random: Random;
  readonly #rates = new Map<FaultKind, number>();
  enabled = true;
  total = 0;

  constructor(random: Random) {
    this.#random = random;
    for (const kind of faultKinds) this.#rates.set(kind, usual[kind] * random.pick([0, 0.3, 1, 1, 2]));
  }

  /** Whether this fault happens now. */
  strikes(kind: FaultKind): boolean {
    if (!this.enabled || !this.#random.chance(this.#rates.get(kind)!)) return false;
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
    this.total++;
    return true;
  }
}
