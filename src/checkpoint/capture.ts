/**
 * The primary's side of a checkpoint, from the running application to operations for its clones. Pre-copy while it runs, one
 * stop in which what is left is taken, encoding after it runs again. See ARCHITECTURE.md, "The way of one checkpoint".
 */
import { openPath, Reader } from "../kernel/calls.ts";
import { SystemCallError } from "../kernel/errors.ts";
import { OperatingError } from "../kernel/failure.ts";
import { O_RDONLY } from "../kernel/files.ts";
import { PAGE_BYTES, PROT } from "../kernel/numbers.ts";
import { makeShadow } from "../kernel/pages.ts";
import { parentOf, readStatus, statusField } from "../kernel/procfs.ts";
import { type Area, parseLayout } from "../resources/memory/layout.ts";
import type { FileNames } from "../resources/memory/layout-reader.ts";
import { namelessOf } from "../resources/nameless/find.ts";
import type { ObjectOperation } from "../resources/nameless/state.ts";
import { ThreadFacts } from "../resources/process/thread-facts.ts";
import { controllingTerminal } from "../resources/pty/controlling.ts";
import type { SegmentOperation } from "../resources/shm/state.ts";
import { LimitsWatch } from "../stage/limits.ts";
import type { Stage } from "../stage/stage.ts";
import { MappedPrograms, type Program } from "../tree/programs.ts";
import { Sharing } from "../tree/sharing.ts";
import { Surroundings } from "../tree/surroundings.ts";
import type { TracedProcess, TracedThread, Tracees } from "../tree/tracees.ts";
import { afterDump, isWorthAhead, nothingKnown } from "./copy-ahead.ts";
import type { MemoryNewcomer } from "./held-pages.ts";
import { MemoryCapture, type MemorySurroundings, unlessEnded } from "./memory-capture.ts";
import { NamespaceCapture } from "./namespace-capture.ts";
import { ObjectCapture } from "./object-capture.ts";
import { type CheckpointEnd, IMAGE_VERSION, type Operation, type Resource } from "./operations.ts";
import { phaseEnd } from "./phases.ts";
import { ProcessCapture } from "./process-capture.ts";
import { ResourceCapture } from "./resource-capture.ts";
import { type ResourceGroup, States } from "./states.ts";

/** The application's files, as the capture needs them: see files/capture.ts. */
export interface FileSource extends FileNames {
  /** Returns whether more is left to send. */
  preDump(emit: (operation: Operation) => void, hints: { mapped: Iterable<string> }): boolean;
  cut(hints: { mapped: Iterable<string> }): Operation[];
  /** After the cut: whether it could tell of everything. */
  checkPaths(): void;
  /** After the cut, in the stop: the files that are mapped shared. */
  mappingsKnown(paths: readonly string[]): void;
}

export interface CaptureOptions {
  /** Undefined: files are not the capture's matter (tests). */
  files?: FileSource | undefined;
  stage: Stage;
  /** Paths at which the stage has mounted something for the application: volumes, scratch space. */
  mounts?: readonly string[];
  /** The application's own layer; undefined: clones share this node's files (tests). */
  layer?: string;
  tracees: Tracees;
  /** Where operations go, in order. */
  emit: (operation: Operation) => void;
  /** In the stop: a signal waits that will end a process as soon as it runs. What it throws gives the dump up. */
  onFatal?: (signal: number) => void;
  /** Longest wait for all threads to stop. */
  stopTimeoutUs: number;
  /** Memory for the last sent content of pages, bytes; pages beyond it are sent whole each time. */
  shadowBytes: number;
}

/** So many found by a pass: many will have been written again meanwhile, another pass is worth it. */
const PRECOPY_AGAIN_PAGES = 1500;
const PRECOPY_PASSES = 3;
/** Parts in which much of changed files goes ahead; an application that writes faster than they are sent is stopped for the rest. */
const FILE_PASSES = 64;
/** So long work may take for which all stand still, but which need not be done at once; twice as long as it took to stop them. */
const SHORT_STOP_MS = 10;
/** Fewer new processes are asked in the checkpoint's own stop. */
const FEW_PROCESSES = 4;
/** So long of each stop goes to asking processes for what has only become old. */
const SLOW_FACTS_MS = 1;

export interface Dump {
  end: CheckpointEnd;
  /** Every resource, for a clone for which this is the first checkpoint. */
  all: () => Array<[string, Resource]>;
  /** Likewise all that `end.programs` would tell. */
  programs: () => Program[];
}

export interface LastSeen {
  epoch: number;
  term: number;
  /** RFC 3339 */
  at: string;
  resources: ReadonlyMap<string, Resource>;
  areas: ReadonlyMap<number, Area[]>;
}

export class Capture {
  readonly #options: CaptureOptions;
  readonly #processes = new Map<number, ProcessCapture>();
  readonly #memory: MemoryCapture;
  readonly #resources: ResourceCapture;
  readonly #objects: ObjectCapture;
  readonly #states = new States();
  readonly #namespace: NamespaceCapture;
  readonly #surroundings: Surroundings;
  readonly #programs: MappedPrograms | undefined;
  readonly #limits: LimitsWatch;
  readonly #threadFacts = ThreadFacts.tryOpen<TracedThread>();
  readonly #sharing = this.#threadFacts && new Sharing(this.#threadFacts);
  #ahead = nothingKnown;
  /** Of the checkpoint that is being made: pages that the first pass copied, and all of them. */
  #firstPass = 0;
  #copiedAhead = 0;
  #bytes = 0;
  #restUntil = 0;
  readonly #pendingFirst: Operation[] = [];
  /** What the last checkpoint found, for those who ask what the application consists of. */
  #last: (Omit<LastSeen, "resources"> & { resources: () => LastSeen["resources"] }) | undefined;
  epoch = 0;

  constructor(options: CaptureOptions) {
    this.#options = options;
    this.#namespace = new NamespaceCapture(options.stage.ipcFd);
    this.#resources = new ResourceCapture(options.tracees, (signal) => options.onFatal?.(signal));
    this.#surroundings = new Surroundings(options.stage.init, options.mounts ?? []);
    this.#limits = new LimitsWatch(options.stage.cgroup);
    const { layer, mounts = [], stage } = options;
    this.#programs = layer === undefined ? undefined : new MappedPrograms({ rootFd: stage.rootFd, layer, mounts });
    this.#objects = new ObjectCapture(
      this.#resources.contents,
      (look) => this.#inStop(look),
      (operation) => this.#emit(operation),
    );
    const shadowPages = Math.floor(options.shadowBytes / PAGE_BYTES);
    const around: MemorySurroundings = {
      emit: (operation) => this.#emit(operation),
      flushFirst: () => this.#flushFirst(),
      aheadOfLayout: (process) => this.#aheadOfLayout(process),
      announceMapped: (process) => this.#announceMapped(process),
      sharedSent: ({ tracker }, regions) => this.#objects.forget(tracker.areas, regions),
      writtenUnseen: (id) => this.#resources.contents.touch(id),
      isKnownFile: (id) => this.#resources.contents.isSent(id),
    };
    this.#memory = new MemoryCapture(around, shadowPages);
    options.tracees.onExiting = (traced) => this.#beforeEnd(traced);
  }

  /** A receiver reads along that does not have the shadow's content. */
  get whole(): boolean {
    return this.#memory.whole;
  }

  set whole(whole: boolean) {
    this.#memory.whole = whole;
  }

  get processCount(): number {
    return this.#processes.size;
  }

  /** Everything is new for the clones: the next operations build it from nothing. */
  reset(): void {
    for (const process of this.#processes.values()) process.close();
    this.#processes.clear();
    this.#states.reset();
    this.#ahead = nothingKnown;
    this.#namespace.reset();
    this.#memory.forgetShared();
    this.#memory.hugeObjects.reset();
    this.#programs?.reset();
    this.#resources.contents.reset();
    this.#memory.pages = 0;
    this.#bytes = 0;
  }

  /** Ends all watching; the application goes on as if it had never been watched. */
  close(): void {
    this.reset();
    this.#pendingFirst.length = 0;
    this.#resources.close();
    this.#namespace.close();
    this.#surroundings.close();
  }

  #emit(operation: Operation): void {
    if (operation.op === "pages" || operation.op === "object-bytes") this.#bytes += operation.bytes.length;
    else if (operation.op === "file" && operation.change.type === "write") this.#bytes += operation.change.bytes.length;
    if (isContent(operation)) this.#memory.hugeObjects.note(operation);
    this.#options.emit(operation);
  }

  /** New processes are watched from here on; when there are many, in short stops (see `restMs`). Returns those that are new. */
  *attachNew(): Generator<void, ProcessCapture[]> {
    const { processes } = this.#options.tracees;
    const added: ProcessCapture[] = [];
    this.#forgetEnded();
    const isNew = (pid: number) => processes.has(pid) && !this.#processes.has(pid);
    for (let left = [...processes.keys()].filter(isNew); left.length > 0; ) {
      const watched = this.#inShortStop((until) => {
        this.#changedThreads();
        return this.#watchNew(until);
      });
      added.push(...watched);
      left = left.filter(isNew);
      if (left.length > 0) yield;
    }
    return added;
  }

  /** All in one stop made a long one. All stand still all the same: others could end or stop a process while it makes calls. */
  *#askAhead(): Generator<void, void> {
    const now = Date.now();
    const unasked = () => this.captured().filter((process) => process.isUnasked(now));
    let left = unasked().length;
    if (left < FEW_PROCESSES) return;
    for (let before = left + 1; left > 0 && left < before; ) {
      this.#inShortStop((until) => this.#ask(unasked(), now, until));
      yield;
      before = left;
      left = unasked().length;
    }
  }

  /** @param until one at least, and no more after this instant */
  #ask(processes: readonly ProcessCapture[], now: number, until: number): void {
    const changedThreads = this.#changedThreads();
    let asked = 0;
    for (const process of processes) {
      const { traced, image } = process;
      // Who has ended, or runs another program by now, is no process of before.
      if (this.#options.tracees.processes.get(traced.pid) !== traced || traced.image !== image) continue;
      if (asked++ > 0 && performance.now() > until) return;
      process.refreshInner(now, false, changedThreads, true);
    }
  }

  #readAhead(now: number): void {
    for (const process of this.#processes.values()) process.readAhead(now, (pid) => this.#parentOf(pid));
    this.#surroundings.lookAhead(this.#options.tracees.processes.values(), now);
    this.#limits.look(now);
  }

  #inStop<T>(look: () => T): T {
    const { tracees, stopTimeoutUs } = this.#options;
    tracees.stop(stopTimeoutUs);
    try {
      return look();
    } finally {
      tracees.release();
    }
  }

  /** One of several. @param look is to come to an end at the instant that it is told */
  #inShortStop<T>(look: (until: number) => T): T {
    const begun = performance.now();
    try {
      return this.#inStop(() => {
        const stopped = performance.now();
        return look(stopped + Math.max(SHORT_STOP_MS, 2 * (stopped - begun)));
      });
    } finally {
      const now = performance.now();
      this.#restUntil = now + (now - begun);
    }
  }

  /** At a pause of `preDump` or `attachNew`: so long the application is to run before it goes on, for it has stood still as long. */
  get restMs(): number {
    return Math.max(0, this.#restUntil - performance.now());
  }

  /** Nothing to do unless somebody who stays may have the same memory mapped. */
  #beforeEnd(traced: TracedProcess): void {
    if (!this.captured().some((process) => process.tracker.shared.length > 0)) return;
    const known = this.#processes.get(traced.pid);
    const same = known && known.traced === traced && known.image === traced.image;
    unlessEnded(() => this.#memory.sharedWrites.noteEnd(traced.pid, same ? known.tracker : undefined));
  }

  #forgetEnded(): void {
    for (const [pid, process] of this.#processes) {
      const traced = this.#options.tracees.processes.get(pid);
      if (traced && traced === process.traced && traced.image === process.image) continue;
      // By exec: its old memory is gone, with the note of what it wrote.
      if (traced) this.#memory.sharedWrites.noteUnmapped(process.tracker.areas);
      process.close();
      this.#processes.delete(pid);
      this.#emit({ op: "process-end", pid: process.traced.virtualPid });
    }
  }

  /** @param until one at least, and no more after this instant */
  #watchNew(until = Number.POSITIVE_INFINITY): ProcessCapture[] {
    const added: ProcessCapture[] = [];
    for (const traced of this.#options.tracees.processes.values()) {
      if (this.#processes.has(traced.pid)) continue;
      if (added.length > 0 && performance.now() > until) break;
      const process = new ProcessCapture(traced, this.#options.files, this.#memory.hugeObjects);
      try {
        process.watch();
      } catch (error) {
        process.close();
        throw error;
      }
      process.tracker.shadow = makeShadow(Math.floor(this.#options.shadowBytes / PAGE_BYTES));
      this.#processes.set(traced.pid, process);
      this.#pendingFirst.push(...this.#namespace.announce());
      const layout = process.layoutOperation([]);
      this.#announceMapped(process);
      this.#flushFirst();
      this.#emit(this.#birth(process));
      if (layout) this.#emit(layout);
      added.push(process);
    }
    return added;
  }

  /** The parent as the application sees it; 1 (the init) for its first process and for orphans. */
  #parentOf(pid: number): number {
    return this.#options.tracees.processes.get(parentOf(pid))?.virtualPid ?? 1;
  }

  #birth({ pid, traced }: ProcessCapture): Operation {
    const session = Number(statusField(readStatus(pid), "NSsid").split(/\s+/).at(-1));
    const terminal = controllingTerminal(pid);
    const birth: Operation = { op: "process", pid: traced.virtualPid, parent: this.#parentOf(pid), session };
    return terminal === undefined ? birth : { ...birth, terminal };
  }

  /** What makes every process known to a clone that has none, as the other clones know it now. */
  introduce(): Operation[] {
    this.#namespace.reset();
    this.#memory.forgetShared();
    this.#resources.contents.reset();
    for (const process of this.captured()) this.#announceMapped(process);
    const mapped = this.#resources.contents.takeOperations();
    const processes = [...this.#processes.values()].flatMap((process): Operation[] => [
      this.#birth(process),
      { op: "layout", pid: process.traced.virtualPid, areas: process.emitted, fresh: [] },
    ]);
    return [...this.#namespace.announce(), ...mapped, ...processes];
  }

  /** The last checkpoint's resources, and memory areas by pid as the application sees it; undefined when there was none. */
  lastSeen(): LastSeen | undefined {
    return this.#last && { ...this.#last, resources: this.#last.resources() };
  }

  /** Of the node's own files, those that the application has mapped at this moment. */
  programs(): Program[] {
    const pids = [...this.#options.tracees.processes.keys()];
    return this.#programs?.all(pids.map(layoutOf)) ?? [];
  }

  #layouts(): Area[][] {
    return this.captured().map(({ emitted }) => emitted);
  }

  captured(): ProcessCapture[] {
    return [...this.#processes.values()];
  }

  /** Whole content of a process while it runs, as far as it comes before it ends: see `MemoryCapture.copyAll`. */
  async copyAll(process: ProcessCapture, newcomer: MemoryNewcomer): Promise<void> {
    try {
      const nameless = () => [
        ...namelessOf(process.pid),
        ...this.#resources.mapped.of({ pid: process.pid, areas: process.emitted }),
      ];
      for (const _piece of this.#objects.copy(nameless)) await newcomer.pause();
      await this.#memory.copyAll(process, newcomer);
    } catch (error) {
      if (!(error instanceof SystemCallError && error.code === "ESRCH")) throw error;
    }
  }

  #aheadOfLayout(process: ProcessCapture): void {
    this.#announceMapped(process);
    this.#objects.flush();
    this.#aheadFiles();
    for (const operation of this.#namespace.announce()) this.#emit(operation);
  }

  /** Files without a name that its layout, as the clones get it now, maps. */
  #announceMapped({ pid, emitted }: ProcessCapture): void {
    const { contents, mapped } = this.#resources;
    for (const found of mapped.of({ pid, areas: emitted })) contents.announce(found);
  }

  #aheadFiles(mapped = this.#mappedFiles()): boolean {
    return this.#options.files?.preDump((operation) => this.#emit(operation), { mapped }) ?? false;
  }

  /** Files that the application may write without the file system's knowledge: mapped shared, and with the given protection. */
  #mappedFiles(wanted: number = PROT.write): string[] {
    const paths = new Set<string>();
    for (const { emitted } of this.#processes.values())
      for (const { backing, protection } of emitted)
        if (backing.type === "file" && backing.shared && (protection & wanted) === wanted) paths.add(backing.path);
    return [...paths];
  }

  /**
   * Copies what has been written while the application goes on writing, until little is left for the stop. A generator: the
   * caller may do other work (heartbeats, acknowledgements) at each pause.
   */
  *preDump(): Generator<void, void> {
    yield* this.#copyAhead();
    phaseEnd("preDump");
  }

  *#copyAhead(): Generator<void, void> {
    let more = this.#aheadFiles();
    yield;
    for (let pass = 1; more && pass < FILE_PASSES; pass++) {
      more = this.#aheadFiles([]);
      yield;
    }
    yield* this.attachNew();
    yield* this.#askAhead();
    this.#readAhead(Date.now());
    yield* this.#objects.copy(() => this.#resources.nameless());
    const all = this.captured().some((process) => process.needsAll);
    if (!all && !isWorthAhead(this.#ahead, performance.now())) return;
    for (let pass = 0; pass < PRECOPY_PASSES; pass++) {
      const pages = yield* this.#memory.precopyPass(this.captured());
      if (pass === 0) this.#firstPass = pages;
      this.#copiedAhead += pages;
      if (pages < PRECOPY_AGAIN_PAGES) break;
      yield;
    }
  }

  /**
   * The stop: one instant of everything. `mark` runs first thing in it. When it throws, the application runs again and what
   * was taken stays part of the next checkpoint.
   */
  dump(mark: (epoch: number) => void, final: boolean, term: number): Dump {
    const { tracees, stopTimeoutUs } = this.#options;
    this.#resources.warm();
    const begun = performance.now();
    tracees.stop(stopTimeoutUs, { leaveSleepers: !final });
    let taken: Taken;
    let stopUs = 0;
    try {
      mark(++this.epoch);
      this.#surroundings.check(tracees.processes.values(), Date.now(), final);
      taken = this.#take(final);
      if (!tracees.allStillAsleep()) throw disturbed();
      phaseEnd("dump");
    } catch (error) {
      tracees.release();
      // What was taken is no longer known as written: it goes out with the next checkpoint.
      this.#memory.flush();
      phaseEnd("abortDump");
      throw error;
    }
    if (!final) tracees.release();
    stopUs = (performance.now() - begun) * 1000;
    const end = this.#postDump(taken, stopUs, final, term);
    return { end, all: () => [...this.#last!.resources()], programs: () => this.#programs?.all(this.#layouts()) ?? [] };
  }

  #take(final: boolean): Taken {
    const now = Date.now();
    this.#pendingFirst.push(...(this.#options.files?.cut({ mapped: this.#mappedFiles() }) ?? []));
    this.#options.files?.checkPaths();
    const resources = new Map<string, Resource>();
    this.#pendingFirst.push(...this.#namespace.dump(resources, [...this.#options.tracees.processes.values()]));
    if (final) this.#limits.look(now, true);
    const { now: limits } = this.#limits;
    if (Object.keys(limits).length > 0) resources.set("limits/cgroup", { kind: "limits", version: 1, state: limits });
    this.#forgetEnded();
    const changedThreads = this.#changedThreads();
    this.#watchNew();
    this.#refreshInner(now, final, changedThreads);
    this.#memory.take(this.captured());
    // Every layout is that of this stop: which of them are mapped from now on is seen in it, or told by the kernel.
    this.#options.files?.mappingsKnown(this.#mappedFiles(0));
    const rest = this.#resources.take(resources, this.#processes, now, (pid) => this.#parentOf(pid));
    return { resources, rest, clock: monotonicClock() };
  }

  /** Whose facts are oldest comes first: in a stop there is time for those of some processes only, were there hundreds. */
  #refreshInner(now: number, final: boolean, changedThreads: Set<TracedThread>): void {
    const begun = performance.now();
    for (const process of [...this.#processes.values()].sort((a, b) => a.askedAt - b.askedAt))
      process.refreshInner(now, final, changedThreads, performance.now() - begun < SLOW_FACTS_MS);
  }

  /** Of those that have run since the last stop: nobody changes these facts of a thread but itself. */
  #changedThreads(): Set<TracedThread> {
    const { tracees } = this.#options;
    const awake = [...tracees.threads()].filter((thread) => !thread.asleep);
    const changed = this.#threadFacts?.changed(awake) ?? new Set();
    // Before anything else is done with them: memory cannot be watched twice.
    this.#sharing?.check(tracees.processes.values());
    return changed;
  }

  /** Files and segments go ahead of everything that may map them. */
  #flushFirst(): void {
    for (const operation of this.#pendingFirst.splice(0)) this.#emit(operation);
    this.#objects.flush();
  }

  /** The application runs again: encode what was staged, find what changed, close the checkpoint. */
  #postDump(taken: Taken, stopUs: number, final: boolean, term: number): CheckpointEnd {
    const groups = [taken.resources, ...taken.rest()];
    this.#memory.flush();
    phaseEnd("postDump");
    const { changed, gone } = this.#states.advance(groups);
    const programs = this.#programs?.take(this.#layouts()) ?? [];
    const end: CheckpointEnd = {
      version: IMAGE_VERSION,
      epoch: this.epoch,
      term,
      at: new Date().toISOString(),
      stopUs: Math.round(stopUs),
      pages: this.#memory.pages,
      bytes: this.#bytes,
      changed,
      gone,
      ...(programs.length > 0 && { programs }),
      clock: taken.clock,
      final,
    };
    const areas = new Map([...this.#processes.values()].map((p): [number, Area[]] => [p.traced.virtualPid, p.emitted]));
    const resources = () => new Map(groups.flatMap((group) => [...group]));
    this.#last = { epoch: end.epoch, term, at: end.at, resources, areas };
    this.#ahead = afterDump(this.#ahead, performance.now(), this.#firstPass, end.pages - this.#copiedAhead);
    this.#firstPass = this.#copiedAhead = 0;
    this.#memory.pages = 0;
    this.#bytes = 0;
    return end;
  }
}

interface Taken {
  resources: Map<string, Resource>;
  /** Completes them: the rest, in groups. */
  rest: () => ResourceGroup[];
  clock: string;
}

/** What may be of shared memory, and comes otherwise than as somebody's pages. */
function isContent(operation: Operation): operation is ObjectOperation | SegmentOperation {
  return operation.op.startsWith("object") || operation.op.startsWith("segment");
}

/** None of a process that has just ended. */
function layoutOf(pid: number): Area[] {
  try {
    const maps = new Reader(openPath(`/proc/${pid}/maps`, O_RDONLY));
    try {
      return parseLayout(maps.read().toString("latin1"));
    } finally {
      maps.close();
    }
  } catch (error) {
    if (error instanceof SystemCallError && ENDED.has(error.code)) return [];
    throw error;
  }
}

const ENDED = new Set(["ENOENT", "ESRCH"]);

/** A thread that was left asleep was woken up by a signal from outside: the next try stops it. */
function disturbed(): OperatingError {
  return new OperatingError("barrier-disturbed", "A signal came to a thread while all were stopped");
}

function monotonicClock(): string {
  return String(process.hrtime.bigint());
}
