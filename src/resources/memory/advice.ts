/** Calls that ask a clone's areas for what the application asked for: madvise(2), mlock2(2), mlockall(2). */
import { checked } from "../../kernel/errors.ts";
import type { Remote, RemoteCall } from "../../kernel/remote.ts";
import { AREA_FLAG } from "./area-flags.ts";
import type { Area } from "./layout.ts";

const ADVICE: Array<[flag: bigint, advice: number]> = [
  [AREA_FLAG.sequential, 2],
  [AREA_FLAG.random, 1],
  [AREA_FLAG.dontFork, 10],
  [AREA_FLAG.dontDump, 16],
  [AREA_FLAG.wipeOnFork, 18],
  [AREA_FLAG.mergeable, 12],
  [AREA_FLAG.hugePage, 14],
  [AREA_FLAG.noHugePage, 15],
];
const MADV_GUARD_INSTALL = 102;
const MLOCK_ONFAULT = 1;
const MCL_FUTURE = 2;
const MCL_ONFAULT = 4;
/** Locked, but there is no page that could be: nothing may be read there. */
const ENOMEM = -12;

function callsFor({ start, end, flags = 0, backing }: Area): RemoteCall[] {
  if (flags === 0 || backing.type === "kernel") return [];
  const has = (flag: bigint) => (BigInt(flags) & flag) !== 0n;
  const bytes = end - start;
  // What may be dropped at any time implies some of these, and takes none of them.
  const calls = has(AREA_FLAG.droppable)
    ? []
    : ADVICE.flatMap(([flag, advice]): RemoteCall[] => (has(flag) ? [["madvise", start, bytes, advice]] : []));
  if (has(AREA_FLAG.locked)) calls.push(["mlock2", start, bytes, has(AREA_FLAG.lockOnFault) ? MLOCK_ONFAULT : 0]);
  // Last: afterwards nothing of it can be changed.
  if (has(AREA_FLAG.sealed)) calls.push(["mseal", start, bytes, 0]);
  return calls;
}

/**
 * Before the process gets its limits and credentials: to lock memory needs both.
 * @param guards [start, end] each
 */
export function giveAdvice(remote: Remote, areas: readonly Area[], guards: ReadonlyArray<[number, number]>): void {
  // First: what is locked or sealed takes no guard.
  const guarding = guards.map(([start, end]): RemoteCall => ["madvise", start, end - start, MADV_GUARD_INSTALL]);
  const calls = [...guarding, ...areas.flatMap(callsFor)];
  remote.batch(calls).forEach((result, i) => {
    const [name, start] = calls[i]!;
    if (name !== "mlock2" || result !== ENOMEM) checked(result, `${name} in the clone`, start!.toString(16));
  });
}

/** @param future flags of areas to come */
export function lockFuture(future: number): RemoteCall[] {
  const flags = BigInt(future);
  if ((flags & AREA_FLAG.locked) === 0n) return [];
  return [["mlockall", MCL_FUTURE | ((flags & AREA_FLAG.lockOnFault) !== 0n ? MCL_ONFAULT : 0)]];
}
