/** Which fault is brought in which phase to whom: all of it follows from a seed, so that a failing one can be brought again. */
import type { Place } from "../../src/checkpoint/phases.ts";

/** What is done to the cluster; the value says it to a reader of the page. */
export const FAULTS = {
  "power-off": "a node dies in one instant, with its member of the store, and comes back",
  "capture killed": "SIGKILL of the instance that plays the primary's part",
  "clone killed": "SIGKILL of an instance that plays a standby's part",
  "agent killed": "SIGKILL of a node's agent",
  "capture frozen": "SIGSTOP of the primary's instance, later SIGCONT",
  "clone frozen": "SIGSTOP of a standby's instance, later SIGCONT",
  "agent frozen": "SIGSTOP of a node's agent, later SIGCONT",
  "link cut": "nothing passes between the primary and one standby, both ways, until it is healed",
  "link cut one way": "the same for one direction only",
  "link down":
    "`ip link set eth0 down` on a node: no other node, no client and no store is reached, until it is up again",
  "store member lost": "one member of the cluster store is killed, and started again later",
  "store majority lost": "two of the three members at once",
  "disk full":
    "not a byte and not a file more fits on the disk of a node's state, its store member's among it, until room is made",
} as const;
export type FaultName = keyof typeof FAULTS;
export const FAULT_NAMES = Object.keys(FAULTS) as FaultName[];

export const PHASES = {
  "first synchronisation": "while a new clone is copied to one of the two standbys",
  dump: "the application is stopped, all of a checkpoint is taken",
  transfer: "the checkpoint is on its way and not closed",
  acknowledge: "a standby holds the checkpoint and has not said so",
  switch: "in one of six places of a planned switch, three on either side, or at a moment of chance in it",
  "after the switch": "within a second after one",
} as const;
export type PhaseName = keyof typeof PHASES;
export const PHASE_NAMES = Object.keys(PHASES) as PhaseName[];

export type Victim = "primary" | "standby";

export interface Plan {
  seed: number;
  fault: FaultName;
  phase: PhaseName;
  /** Where faults strike that can strike either. */
  victim: Victim;
  /** One way: what the primary sends is lost, else what it is sent. */
  outward: boolean;
  /** Who is halted where, so that the fault meets it just there; else the fault comes at a moment of chance. */
  halt: { who: Victim; place: Place } | undefined;
  /** From the phase's beginning to the fault, at a moment of chance, ms. */
  delayMs: number;
  /** From the fault (and, where the rules promise it, the first answer after it) to its repair. */
  lastsMs: number;
}

const AFTER_SWITCH_MS = 1000;
/** A first synchronisation and a switch last about as long. */
const IN_PHASE_MS = 150;
const LASTS_MS = 1200;

const SWITCH_PLACES: readonly { who: Victim; place: Place }[] = [
  { who: "primary", place: "preSwitch" },
  { who: "primary", place: "switch" },
  { who: "primary", place: "postSwitch" },
  { who: "standby", place: "preRestore" },
  { who: "standby", place: "restore" },
  { who: "standby", place: "postRestore" },
];

const NEEDS_ETCD: ReadonlySet<FaultName> = new Set(["store member lost", "store majority lost"]);

export interface Choice {
  store: "sqlite" | "etcd";
  faults?: readonly string[] | undefined;
  phases?: readonly string[] | undefined;
}

interface Pair {
  fault: FaultName;
  phase: PhaseName;
}

export function pairs({ store, faults, phases }: Choice): Pair[] {
  return FAULT_NAMES.filter((fault) => store === "etcd" || !NEEDS_ETCD.has(fault))
    .filter((fault) => faults?.includes(fault) ?? true)
    .flatMap((fault) =>
      PHASE_NAMES.filter((phase) => phases?.includes(phase) ?? true).map((phase) => ({ fault, phase })),
    );
}

/** mulberry32 (public domain): numbers from 0 up to 1. */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** How many faults in a switch come at a moment of chance. */
const CHANCE = 0.4;
/**
 * Whom a switch goes to is silent for a while and comes back: at a moment of chance it may have lived for too short a time to be
 * got over, which no rule promises.
 */
const SILENCES: ReadonlySet<string> = new Set(["link down standby", "clone frozen primary", "clone frozen standby"]);

/**
 * Whom a switch goes to dies in it at a moment of chance. It must not live by then: from then on nobody is in sync with it for
 * an instant, and no rule promises that it is got over.
 */
export function endsDestination({ fault, phase, victim, halt }: Plan): boolean {
  if (phase !== "switch" || halt !== undefined) return false;
  return fault === "clone killed" || (fault === "power-off" && victim === "standby");
}

/**
 * What one seed stands for. As many consecutive seeds as there are pairs of fault and phase bring each of them once, in an order
 * that mixes them.
 */
export function planOf(seed: number, choice: Choice): Plan {
  const all = pairs(choice);
  const next = random(seed);
  const pick = <T>(from: readonly T[]): T => from[Math.floor(next() * from.length)]!;
  const { fault, phase } = all[shuffled(all.length, Math.floor(seed / all.length))[seed % all.length]!]!;
  const victim = pick<Victim>(["primary", "standby"]);
  return {
    seed,
    fault,
    phase,
    victim,
    outward: next() < 0.5,
    halt:
      phase === "switch" && !SILENCES.has(`${fault} ${victim}`) && next() < CHANCE ? undefined : haltIn(phase, pick),
    delayMs: Math.round(next() * (phase === "after the switch" ? AFTER_SWITCH_MS : IN_PHASE_MS)),
    lastsMs: Math.round(next() * LASTS_MS),
  };
}

function shuffled(length: number, seed: number): number[] {
  const next = random(seed);
  return Array.from({ length }, (_, i) => ({ i, at: next() }))
    .sort((a, b) => a.at - b.at)
    .map(({ i }) => i);
}

function haltIn(phase: PhaseName, pick: <T>(from: readonly T[]) => T): Plan["halt"] {
  switch (phase) {
    case "dump":
      return { who: "primary", place: "dump" };
    case "transfer":
      return { who: "primary", place: "postDump" };
    case "acknowledge":
      return { who: "standby", place: "acknowledge" };
    case "switch":
      return pick(SWITCH_PLACES);
    case "first synchronisation":
    case "after the switch":
      return undefined;
  }
}

/**
 * Without a majority of the store nobody may become primary, and who has a standby to drop or a switch under way waits for it:
 * then answers are promised only once it is back. Everything else must be got over while the fault lasts.
 */
export function isAnsweredMeanwhile({ fault, phase }: Plan): boolean {
  return fault !== "store majority lost" || phase === "dump" || phase === "transfer" || phase === "acknowledge";
}

/** The new primary lives by the time of the fault: from then on it needs a standby of its own to be got over. */
export function hasSwitched({ phase, halt }: Plan): boolean {
  return phase === "after the switch" || (halt?.who === "primary" && halt.place === "postSwitch");
}

export function planText({ seed, fault, phase, victim, halt, delayMs, lastsMs }: Plan): string {
  const at = halt === undefined ? `after ${delayMs} ms` : `${halt.who} at ${halt.place}`;
  return `${seed}: ${fault} (${victim}), ${phase} (${at}), for ${lastsMs} ms`;
}
