/**
 * What every test program is put through, in this order. Each event begins with the application protected and checked, and
 * leaves it so; the program must not notice anything. Power-off is not here: it takes all applications of a node (run.ts).
 */
import type { Phase } from "../../src/checkpoint/phases.ts";
import type { Application } from "./application.ts";
import { Wrong } from "./cluster.ts";

export interface Event {
  /** Stable; what programs say they are not suited for. */
  name: string;
  /** What happens, as a sentence for the page. */
  about: string;
  /** Notes of the application that this event brings about by intent; any other note of a failure is one. */
  brings: readonly string[];
  run(application: Application): Promise<void>;
}

export const POWER_OFF = "power-off";
const DUMPS = 3;

async function dumps(application: Application): Promise<void> {
  for (let i = 0; i < DUMPS; i++) {
    await application.checkpoint();
    await application.check();
  }
}

async function planned(application: Application): Promise<void> {
  await application.switch();
  await application.check();
  await application.check();
  await application.protected();
}

async function thereAndBack(application: Application): Promise<void> {
  for (let i = 0; i < 2; i++) {
    await application.checkpoint();
    await application.switch();
    await application.check();
    await application.protected();
  }
  await application.check();
}

/** A dump that fails: the program goes on, the next one succeeds and has all that the failed one had taken. */
async function dumpFails(application: Application, phases: Phase[]): Promise<void> {
  const { primary } = await application.protected();
  using failing = await application.fail(primary, phases);
  await failing.made;
  await application.check();
  await application.checkpoint();
  await application.check();
}

/** It goes on wherever it is, and is protected again. */
async function goesOn(application: Application): Promise<void> {
  await application.check();
  await application.protected();
  await application.check();
}

/** A switch that fails on one of its nodes: it goes on at the old primary. */
async function switchIsOff(application: Application, phases: Phase[], where: "primary" | "standby"): Promise<void> {
  const { primary, standbys } = await application.protected();
  const to = standbys[0]!.node;
  using failing = await application.fail(where === "primary" ? primary : to, phases);
  const failure = await application.switchFailing(to);
  await failing.made.catch((late: Error) => {
    throw new Error(`${late.message}; the switch: ${failure instanceof Error ? failure.message : "made"}`, {
      cause: late,
    });
  });
  if (failure === undefined) throw new Wrong("the switch was made although it failed");
  await application.runsOn(primary);
  await goesOn(application);
}

/** A hand-over that the old primary gives up. */
const switchFails = (application: Application, phases: Phase[]) => switchIsOff(application, phases, "primary");

/** The clone does not come to life; the old primary, which stood aside, goes on. */
const restoreFails = (application: Application, phases: Phase[]) => switchIsOff(application, phases, "standby");

/** The old primary's instance ends in the middle of the switch: whoever has it then, it goes on. */
async function instanceEnds(application: Application, phases: Phase[]): Promise<void> {
  const { primary, standbys } = await application.protected();
  using failing = await application.fail(primary, phases);
  await application.switchFailing(standbys[0]!.node);
  await failing.made;
  await goesOn(application);
}

function failing(
  phase: Phase,
  about: string,
  run: (application: Application, phases: Phase[]) => Promise<void>,
  more: { first?: Phase; brings?: string[] } = {},
): Event {
  const phases = more.first === undefined ? [phase] : [more.first, phase];
  return { name: phase, about, brings: ["injected", ...(more.brings ?? [])], run: (one) => run(one, phases) };
}

const GIVEN_UP = ["go-live-failed", "state-lost"];

export const EVENTS: readonly Event[] = [
  { name: "dumps", about: "checkpoints and nothing else: it must not notice", brings: [], run: dumps },
  failing("preDump", "the pre-copy fails", dumpFails),
  failing("dump", "the stop fails, all taken", dumpFails),
  failing("postDump", "encoding fails, the application runs again", dumpFails),
  failing("abortDump", "the stop fails, and its abort too", dumpFails, { first: "dump" }),
  { name: "planned switch", about: "to the other node", brings: [], run: planned },
  { name: "there and back", about: "checkpoint, switch, checkpoint, switch back", brings: [], run: thereAndBack },
  failing("preSwitch", "the hand-over fails before the last checkpoint", switchFails),
  failing("switch", "the hand-over fails with the last checkpoint sent", switchFails),
  failing("abortSwitch", "the same, and resuming fails too", instanceEnds, { first: "switch", brings: ["failed"] }),
  failing("postSwitch", "the old primary fails once the record names the new one", instanceEnds, {
    brings: ["failed"],
  }),
  failing("preRestore", "the clone fails with its memory in place", restoreFails, { brings: GIVEN_UP }),
  failing("restore", "the clone fails with everything created", restoreFails, { brings: GIVEN_UP }),
  failing("postRestore", "the clone fails with its sockets speaking", restoreFails, { brings: GIVEN_UP }),
  failing("abortRestore", "the clone fails, and giving it up too", restoreFails, {
    first: "restore",
    brings: [...GIVEN_UP, "failed"],
  }),
];
