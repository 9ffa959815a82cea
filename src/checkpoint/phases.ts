/**
 * The phases of an application's life as a protected one, and how tests let each of them fail. Real failures (a thread that does
 * not stop, memory that cannot be had, a socket that is refused) may happen anywhere in a phase; here each has one place, at the
 * end of its work, where most has to be put back. Armed by the instance's control socket only (`fail` in instance/control.ts).
 *
 * | phase | where it ends | what a failure must come to |
 * |---|---|---|
 * | preDump | before the stop, all copied ahead | the next checkpoint has it all |
 * | dump | in the stop, all taken | the application runs on; the next checkpoint has it all |
 * | postDump | pages encoded, the checkpoint not closed | the same |
 * | abortDump | the application runs on | the same |
 * | preRestore | the address taken, kept checkpoints in the skeleton | the clone is given up; the old primary goes on |
 * | restore | everything created, registers set | the same |
 * | postRestore | sockets speak, all stopped | the same |
 * | abortRestore | the clone is destroyed | the instance ends; the old primary goes on |
 * | preSwitch | nothing under way any more | the application runs on where it is |
 * | switch | stopped, the final checkpoint sent | the same |
 * | postSwitch | the record is changed, the old primary silent | the instance ends; the new primary goes on |
 * | abortSwitch | resumed | the instance ends; another attaches, or the standby takes over |
 */
import { OperatingError } from "../kernel/failure.ts";

export const PHASES = [
  "preDump",
  "dump",
  "postDump",
  "abortDump",
  "preRestore",
  "restore",
  "postRestore",
  "abortRestore",
  "preSwitch",
  "switch",
  "postSwitch",
  "abortSwitch",
] as const;

export type Phase = (typeof PHASES)[number];

/** Where an instance can be halted, for tests that bring a fault at that very instant. */
export type Place = Phase | "acknowledge";

const armed = new Map<Phase, () => void>();
const halts = new Set<Place>();

/** The process stops (SIGSTOP) the next time it comes to that place, once; whoever armed it lets it go on (SIGCONT). */
export function armHalt(place: Place): void {
  halts.add(place);
}

/** The calling thread stops in the system call itself: nothing after this line happens before SIGCONT. */
export function placeReached(place: Place): void {
  if (halts.delete(place)) process.kill(process.pid, "SIGSTOP");
}

/** The phase fails the next time it is gone through, once. @param onFailure called when it does */
export function armFailure(phase: Phase, onFailure: () => void): void {
  armed.set(phase, onFailure);
}

/** The end of a phase's work. @throws OperatingError `injected`, when a test wants it so */
export function phaseEnd(phase: Phase): void {
  placeReached(phase);
  const onFailure = armed.get(phase);
  if (onFailure === undefined) return;
  armed.delete(phase);
  onFailure();
  throw new OperatingError("injected", `A test lets the phase "${phase}" fail`);
}
