/** The resources side of a capture, in the stop: threads, descriptors, ended processes, and what each process consists of. */
import { clocksAhead } from "../kernel/clocks.ts";
import { readStatus, statFields, statusField } from "../kernel/procfs.ts";
import {
  dumpThreads,
  guardUnderWay,
  interruptedCall,
  pendingSignals,
  RECORD_BYTES,
  recordLength,
  signalMask,
  waitsForFutex,
} from "../kernel/trace.ts";
import { DescriptorTables } from "../resources/descriptor/table.ts";
import { KINDS, kindNamed } from "../resources/kinds.ts";
import { Contents, type Found } from "../resources/nameless/contents.ts";
import { namelessAt, namelessBehind, namelessProgram } from "../resources/nameless/find.ts";
import { MappedFiles } from "../resources/nameless/mapped.ts";
import { fatalSignal } from "../resources/process/fatal.ts";
import { isHaltTold } from "../resources/process/halt.ts";
import type { TracedThread, Tracees } from "../tree/tracees.ts";
import { DescriptionGroups } from "./description-groups.ts";
import type { Resource, ZombieState } from "./operations.ts";
import type { ProcessCapture, TimedWait } from "./process-capture.ts";
import type { ResourceGroup } from "./states.ts";

type Resources = Map<string, Resource>;
/** Told of once the application runs again: see `DescriptionGroups`. */
type Later = Array<() => ResourceGroup[]>;
type Processes = ReadonlyMap<number, ProcessCapture>;

/** A thread that has stood at the same place for so long is likely to stay there. */
const SLEEPER_MS = 1000;

interface TakenThread {
  thread: TracedThread;
  record: Buffer;
  /** Time of the first stop that found it so, ms. */
  since: number;
  /** What else is known of it: another object when anything of it has changed. */
  facts: unknown;
  key: string;
  resource: Resource;
}

export class ResourceCapture {
  readonly #tracees: Tracees;
  readonly #descriptors = new DescriptorTables();
  /** Of files without a name. */
  readonly contents = new Contents();
  readonly mapped = new MappedFiles();
  readonly #groups = new DescriptionGroups();
  readonly #inFlight = new DescriptionGroups();
  #records = Buffer.alloc(0);
  /** The application's CLOCK_MONOTONIC is ahead of this program's by so many nanoseconds. */
  #clockAhead: bigint | undefined;
  /** As of the last stop, by thread. */
  #threads: ReadonlyMap<number, TakenThread> = new Map();

  readonly #onFatal: (signal: number) => void;

  /** @param onFatal a signal waits that will end a process as soon as it runs; may throw */
  constructor(tracees: Tracees, onFatal: (signal: number) => void) {
    this.#tracees = tracees;
    this.#onFatal = onFatal;
    for (const { prepare } of KINDS) prepare?.();
  }

  /** As of the last checkpoint; while the application runs. */
  nameless(): Found[] {
    const open = this.#descriptors.ofKind("nameless").flatMap((description) => namelessAt(description) ?? []);
    return [...open, ...this.mapped.held()];
  }

  /** Shortly before a stop, so that it takes less time. */
  warm(): void {
    this.#descriptors.warm();
  }

  close(): void {
    this.#descriptors.close();
    this.mapped.close();
    for (const { forget } of KINDS) forget?.();
  }

  /**
   * @param nowMs time of the stop
   * @returns what is left to do once the application runs again; nothing, when this stop fails. It returns the descriptions.
   */
  take(
    resources: Resources,
    processes: Processes,
    nowMs: number,
    parentOf: (pid: number) => number,
  ): () => ResourceGroup[] {
    const later: Later = [];
    this.#takeThreads(resources, processes, nowMs);
    this.#takeDescriptors(resources, processes, later);
    this.#takeZombies(resources);
    const leaders = [...processes.values()];
    const pending = pendingSignals(
      Int32Array.from(leaders, (process) => process.traced.threads.keys().next().value!),
      true,
    );
    for (const [i, process] of leaders.entries()) {
      const { virtualPid } = process.traced;
      const waiting = pending.get(i);
      if (waiting) this.#lookForFatal(waiting, process, this.#threads.get(process.pid)?.record);
      const own = process.state(parentOf, nowMs, waiting ?? []);
      if (own.executableId !== undefined && !this.mapped.has(own.executableId)) this.#takeProgram(process.pid);
      const isHalted = this.#tracees.isHalted(process.traced);
      const state = isHalted ? { ...own, halted: { told: isHaltTold(process.pid) } } : own;
      resources.set(`process/${virtualPid}`, { kind: "process", version: 1, state });
    }
    return () => later.flatMap((rest) => rest());
  }

  /** A program's file that has no name and that it has not mapped any more. */
  #takeProgram(pid: number): void {
    const found = namelessProgram(pid);
    if (found) this.contents.settle(found);
  }

  #takeThreads(resources: Resources, processes: Processes, nowMs: number): void {
    const tids = this.#tracees.tids();
    if (this.#records.length < tids.length * RECORD_BYTES) this.#records = Buffer.alloc(tids.length * RECORD_BYTES);
    dumpThreads(tids, this.#records);
    const pending = pendingSignals(tids, false);
    const taken = new Map<number, TakenThread>();
    tids.forEach((tid, i) => {
      const own = this.#records.subarray(i * RECORD_BYTES, (i + 1) * RECORD_BYTES);
      const record = own.subarray(0, recordLength(own));
      const thread = this.#tracees.thread(tid)!;
      const waiting = pending.get(i);
      if (waiting) this.#lookForFatal(waiting, processes.get(thread.process.pid), record);
      const guard = guardUnderWay(record);
      if (guard) processes.get(thread.process.pid)?.tracker.letGuard(...guard);
      taken.set(tid, this.#takeThread(thread, record, waiting ?? [], processes, nowMs));
    });
    for (const thread of this.#tracees.threads())
      if (thread.asleep) taken.set(thread.tid, this.#takeSleeper(thread, processes));
    for (const { key, resource } of taken.values()) resources.set(key, resource);
    this.#threads = taken;
  }

  #lookForFatal(pending: Buffer[], process: ProcessCapture | undefined, record: Buffer | undefined): void {
    if (process === undefined || record === undefined) return;
    const signal = fatalSignal(pending, process.actions, signalMask(record));
    if (signal !== undefined) this.#onFatal(signal);
  }

  #takeThread(thread: TracedThread, now: Buffer, pending: Buffer[], processes: Processes, nowMs: number): TakenThread {
    const before = this.#threads.get(thread.tid);
    const same = before?.thread === thread && pending.length === 0 && before.record.equals(now);
    const record = same ? before.record : Buffer.from(now);
    const since = same ? before.since : nowMs;
    if (nowMs - since > SLEEPER_MS && waitsForFutex(record)) this.#tracees.letSleep(thread.tid);
    return this.#taken(thread, record, pending, processes, since, this.#waitOf(thread, record));
  }

  /** Of a thread that this stop has found in a call. */
  #waitOf(thread: TracedThread, record: Buffer): TimedWait | undefined {
    const interrupted = interruptedCall(record);
    const { call } = interrupted;
    const end = this.#tracees.waitEnd(thread, interrupted);
    if (end === undefined) return undefined;
    this.#clockAhead ??= clocksAhead(thread.process.pid).monotonic;
    return { call, untilUs: Number((end + this.#clockAhead) / 1000n) };
  }

  /** Nothing has happened to it since its last record. */
  #takeSleeper(thread: TracedThread, processes: Processes): TakenThread {
    const before = this.#threads.get(thread.tid)!;
    if (before.facts === processes.get(thread.process.pid)!.factsOf(thread.tid)) return before;
    return this.#taken(thread, before.record, [], processes, before.since, undefined);
  }

  #taken(
    thread: TracedThread,
    record: Buffer,
    pending: Buffer[],
    processes: Processes,
    since: number,
    wait: TimedWait | undefined,
  ): TakenThread {
    const process = processes.get(thread.process.pid)!;
    const state = process.threadState(thread, record, pending, wait);
    const resource = { kind: "thread", version: 1, state };
    const key = `thread/${state.process}/${state.tid}`;
    return { thread, record, since, facts: process.factsOf(thread.tid), key, resource };
  }

  #takeDescriptors(resources: Resources, processes: Processes, later: Later): void {
    const pids = [...processes.keys()];
    this.#descriptors.refresh(pids);
    for (const process of processes.values()) {
      const state = this.#descriptors.entries(process.pid);
      resources.set(`descriptors/${process.traced.virtualPid}`, { kind: "descriptors", version: 1, state });
    }
    this.#descriptors.dump((byKind, context) => {
      for (const [name, descriptions] of byKind) {
        const kind = kindNamed(name)!;
        const states = kind.dump(descriptions, context);
        // What is in flight is another array each time.
        const groups = descriptions[0]?.pid === process.pid ? this.#inFlight : this.#groups;
        later.push(() => groups.of(name, kind.version, descriptions, typeof states === "function" ? states() : states));
      }
    }, this.contents);
    for (const { kind, version, dumpOwnerless } of KINDS) {
      const ownerless = dumpOwnerless?.(pids) ?? [];
      // Behind those that have an owner: clones make them in this order.
      if (ownerless.length === 0) continue;
      later.push(() => [new Map(ownerless.map(([id, state]) => [`description/${id}`, { kind, version, state }]))]);
    }
    this.#takeMapped(processes);
    this.#takeReadOnly(processes);
  }

  #takeMapped(processes: Processes): void {
    for (const { pid, tracker } of processes.values())
      for (const found of this.mapped.of({ pid, areas: tracker.areas }))
        if (!this.contents.isSettled(found.id)) this.contents.settle(found);
    this.mapped.sweep([...processes.values()].map(({ tracker }) => tracker.areas));
  }

  /** Memory that those who map it may never write: nobody's pages bring it. */
  #takeReadOnly(processes: Processes): void {
    const mapped = new Set<string>();
    for (const { pid, tracker } of processes.values()) {
      if (tracker.shared.length === 0 && !tracker.areas.some(({ readOnly }) => readOnly)) continue;
      for (const area of tracker.areas) {
        if (area.backing.type !== "shared") continue;
        const { id } = area.backing;
        if (area.readOnly && !mapped.has(id) && !this.contents.isSettled(id)) {
          const found = namelessBehind(pid, area);
          if (found) this.contents.settle(found);
        }
        mapped.add(id);
      }
    }
    this.contents.sweep((id) => mapped.has(id));
  }

  /** Ended processes that their parents have not collected: their pids and exit codes. */
  #takeZombies(resources: Resources): void {
    const { endings, processes } = this.#tracees;
    for (const { pid, virtualPid, code, signal } of endings.values()) {
      const parent = zombieParent(pid);
      const known = parent === undefined ? undefined : processes.get(parent);
      if (!known) {
        endings.delete(pid);
        continue;
      }
      const status = readStatus(pid);
      const inner = (field: string) => Number(statusField(status, field).split(/\s+/).at(-1));
      const state: ZombieState = {
        pid: virtualPid,
        parent: known.virtualPid,
        code: code ?? 0,
        signal: signal ?? 0,
        group: inner("NSpgid"),
        session: inner("NSsid"),
      };
      resources.set(`zombie/${virtualPid}`, { kind: "zombie", version: 1, state });
    }
  }
}

/** The parent (as this program sees it) of a process that has ended and is there still. */
function zombieParent(pid: number): number | undefined {
  try {
    const [state, parent] = statFields(pid);
    return state === "Z" ? Number(parent) : undefined;
  } catch {
    return undefined;
  }
}
