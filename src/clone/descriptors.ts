/** Gives a process of the clone its descriptors: each at its number, then what is set by calls in the process. */
import type { Resource } from "../checkpoint/operations.ts";
import { OperatingError } from "../kernel/failure.ts";
import { O_CLOEXEC } from "../kernel/files.ts";
import type { RemoteCall } from "../kernel/remote.ts";
import { lockCalls } from "../resources/descriptor/locks.ts";
import { noticeCalls } from "../resources/descriptor/notice.ts";
import type { DescriptorEntry } from "../resources/descriptor/table.ts";
import { kindNamed } from "../resources/kinds.ts";
import { INSTANCE_HANDLE } from "../stage/stage.ts";
import type { SkeletonProcess } from "./skeleton-process.ts";

const F_SETFD = 2;
const LAST = 0xffffffff;
/** Calls in the process, and descriptors, between two pauses: some milliseconds. */
const CALLS_AT_ONCE = 1000;
const CONNECTED_AT_ONCE = 100;

type States = ReadonlyMap<string, Resource>;

export interface Wanted {
  /** Its number in the process. */
  fd: number;
  /** This program's descriptor of the same description. */
  source: number;
  closeOnExec: boolean;
}

/** Calls that fill a table of descriptors. */
export interface Placing {
  calls: RemoteCall[];
  /** What some of them return, by their place among the calls. */
  numbers: Map<number, number>;
}

/**
 * Puts each at its number with no room for a second table: an application may have as many as its limit allows, less the one for
 * the handle by which they are fetched. In ascending order the number that a new descriptor gets, the lowest that is free, is never
 * above the wanted one.
 * @param handle where the process has the handle; it is moved out of the way and closed at the end, like all else that is there
 */
export function placing(wanted: readonly Wanted[], handle: number): Placing {
  const taken = new Set(wanted.map(({ fd }) => fd));
  let home = 0;
  while (taken.has(home)) home++;
  const calls: RemoteCall[] = [];
  const numbers = new Map<number, number>();
  if (home !== handle) calls.push(["dup3", handle, home, O_CLOEXEC]);
  if (home > 0) calls.push(["close_range", 0, home - 1, 0]);
  calls.push(["close_range", home + 1, LAST, 0]);
  const filled = new Set([home]);
  let free = 0;
  for (const { fd, source, closeOnExec } of wanted.toSorted((a, b) => a.fd - b.fd)) {
    while (filled.has(free)) free++;
    filled.add(fd);
    numbers.set(calls.length, free);
    calls.push(["pidfd_getfd", home, source, 0]);
    // Fetched ones are closed by exec.
    if (free !== fd) calls.push(["dup3", free, fd, closeOnExec ? O_CLOEXEC : 0], ["close", free]);
    else if (!closeOnExec) calls.push(["fcntl", fd, F_SETFD, 0]);
  }
  calls.push(["close", home]);
  return { calls, numbers };
}

/**
 * With pauses for other work.
 * @param own this program's descriptors, by description
 */
export function* installDescriptors(
  process: SkeletonProcess,
  states: States,
  own: ReadonlyMap<string, number>,
): Generator<void, void> {
  const entries = (states.get(`descriptors/${process.virtualPid}`)?.state ?? []) as DescriptorEntry[];
  const wanted = entries.map(({ fd, description, closeOnExec }) => {
    const source = own.get(description);
    if (source === undefined)
      throw new OperatingError("checkpoint-inconsistent", `Descriptor ${fd} has no description`);
    return { fd, source, closeOnExec };
  });
  yield;
  const { calls, numbers } = placing(wanted, INSTANCE_HANDLE);
  yield;
  const results: number[] = [];
  for (let at = 0; at < calls.length; at += CALLS_AT_ONCE) {
    results.push(...process.remote.batchChecked(calls.slice(at, at + CALLS_AT_ONCE)));
    yield;
  }
  for (const [i, number] of numbers)
    if (results[i] !== number)
      throw new Error(`A descriptor came as ${results[i]}, ${number} was the lowest that was free`);
  yield* connect(process, states, entries);
}

/** What kinds do in the process, its locks, its wishes to be told. */
function* connect(process: SkeletonProcess, states: States, entries: DescriptorEntry[]): Generator<void, void> {
  const { remote } = process;
  const connects: RemoteCall[] = [];
  const flush = () => {
    remote.batchChecked(connects.splice(0));
    remote.reset();
  };
  remote.reset();
  const connected = new Set<string>();
  let untilPause = CONNECTED_AT_ONCE;
  for (const entry of entries) {
    const resource = states.get(`description/${entry.description}`)!;
    const kind = kindNamed(resource.kind);
    if (!kind?.connect && !entry.locks && !entry.notice) continue;
    const put = (bytes: Buffer) => {
      if (remote.room() < bytes.length + 16) throw new RangeError("Too much data for one descriptor's calls");
      return remote.put(bytes);
    };
    const again = connected.has(entry.description);
    connected.add(entry.description);
    const context = { put, virtualPid: process.virtualPid };
    if (!again || kind?.connectsEach) connects.push(...(kind?.connect?.(resource.state, entry.fd, context) ?? []));
    if (entry.locks) connects.push(...lockCalls(entry.fd, entry.locks, put));
    if (entry.notice) connects.push(...noticeCalls(entry.fd, entry.notice, put));
    flush();
    if (--untilPause > 0) continue;
    untilPause = CONNECTED_AT_ONCE;
    yield;
  }
}
