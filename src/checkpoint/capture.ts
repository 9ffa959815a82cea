/**
 * The primary's side of a checkpoint, from the running application to operations for its clones. Pre-copy while it runs, one
 * stop in which what is left is taken, encoding after it runs again. See ARCHITECTURE.md, "The way of one checkpoint".
 */
import { checked, SystemCallError } from "../kernel/errors.ts";
import { ERRNO, PAGE_BYTES, PROT } from "../kernel/numbers.ts";
import { encodePages, makeShadow } from "../kernel/pages.ts";
import { readStatus, statFields, statusField } from "../kernel/procfs.ts";
import { dumpThreads, pendingSignals, RECORD_BYTES, recordLength } from "../kernel/trace.ts";
import { DescriptorTables } from "../resources/descriptor/table.ts";
import { kindNamed } from "../resources/kinds.ts";
import { type Area, isTrackable } from "../resources/memory/layout.ts";
import { mergeRegions, Staging, splitRegions } from "../resources/memory/tracker.ts";
import type { Stage } from "../stage/stage.ts";
import type { TracedProcess, Tracees } from "../tree/tracees.ts";
import { childrenOf } from "../tree/tracees.ts";
import { BlockPool } from "./blocks.ts";
import { NamespaceCapture } from "./namespace-capture.ts";
import { type CheckpointEnd, IMAGE_VERSION, type Operation, type Resource, type ZombieState } from "./operations.ts";
import { ProcessCapture } from "./process-capture.ts";
import { SharedWrites } from "./shared-writes.ts";
import { States } from "./states.ts";

/** The application's files, as the capture needs them: see files/capture.ts. */
export interface FileSource {
  preDump(emit: (operation: Operation) => void, hints: { mapped: Iterable<string> }): void;
  cut(hints: { mapped: Iterable<string> }): Operation[];
}

export interface CaptureOptions {
  /** Undefined: files are not the capture's matter (tests). */
  files?: FileSource | undefined;
  stage: Stage;
  tracees: Tracees;
  /** Where operations go, in order. */
  emit: (operation: Operation) => void;
  /** Longest wait for all threads to stop. */
  stopTimeoutUs: number;
  /** Memory for the last sent content of pages, bytes; pages beyond it are sent whole each time. */
  shadowBytes: number;
}

/** Pages encoded into one operation. */
const CHUNK_PAGES = 2048;
const CHUNK_BYTES = CHUNK_PAGES * (PAGE_BYTES + 16) + PAGE_BYTES * 2;
/** So few pages are copied in the stop rather than before it: a pass has a price of its own. */
const PRECOPY_WORTH_PAGES = 200;
/** After so long without a checkpoint the one before says nothing about the next. */
const RECENT_MS = 100;
/** So many found by a pass: many will have been written again meanwhile, another pass is worth it. */
const PRECOPY_AGAIN_PAGES = 1500;
const PRECOPY_PASSES = 3;

export interface Dump {
  end: CheckpointEnd;
  /** Every resource, for a clone for which this is the first checkpoint. */
  all: Array<[string, Resource]>;
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
  readonly #descriptors = new DescriptorTables();
  readonly #states = new States();
  readonly #sharedWrites = new SharedWrites();
  /** Ranges of shared memory whose whole content the clones have got, from whichever process. */
  readonly #sharedSent = new Set<string>();
  readonly #namespace: NamespaceCapture;
  readonly #staging = new Staging();
  readonly #blocks = new BlockPool();
  readonly #encoded = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  #records = Buffer.alloc(0);
  #pages = 0;
  /** Of the checkpoint before, and when it was. */
  #lastPages = 0;
  #lastDump = 0;
  #bytes = 0;
  /** What the last checkpoint found, for those who ask what the application consists of. */
  #last: { epoch: number; term: number; at: string; resources: ReadonlyMap<string, Resource> } | undefined;
  epoch = 0;
  /** A receiver reads along that does not have the shadow's content. */
  whole = false;

  constructor(options: CaptureOptions) {
    this.#options = options;
    this.#namespace = new NamespaceCapture(options.stage.ipcFd);
    options.tracees.onExiting = (traced) => this.#beforeEnd(traced);
  }

  get processCount(): number {
    return this.#processes.size;
  }

  /** Everything is new for the clones: the next operations build it from nothing. */
  reset(): void {
    for (const process of this.#processes.values()) process.close();
    this.#processes.clear();
    this.#states.reset();
    this.#lastDump = 0;
    this.#namespace.reset();
    this.#sharedSent.clear();
    this.#pages = 0;
    this.#bytes = 0;
  }

  /** Ends all watching; the application goes on as if it had never been watched. */
  close(): void {
    this.reset();
    this.#pendingFirst.length = 0;
    this.#descriptors.close();
    this.#namespace.close();
  }

  #emit(operation: Operation): void {
    if (operation.op === "pages") this.#bytes += operation.bytes.length;
    else if (operation.op === "file" && operation.change.type === "write") this.#bytes += operation.change.bytes.length;
    this.#options.emit(operation);
  }

  /** New processes are watched from here on; a short stop when there are any. Returns those that are new. */
  attachNew(): ProcessCapture[] {
    const { tracees, stopTimeoutUs } = this.#options;
    this.#forgetEnded();
    if ([...tracees.processes.keys()].every((pid) => this.#processes.has(pid))) return [];
    tracees.stop(stopTimeoutUs);
    try {
      return this.#watchNew();
    } finally {
      tracees.release();
    }
  }

  /** Nothing to do unless somebody who stays may have the same memory mapped. */
  #beforeEnd(traced: TracedProcess): void {
    if (!this.captured().some((process) => process.tracker.shared.length > 0)) return;
    const known = this.#processes.get(traced.pid);
    const same = known && known.traced === traced && known.image === traced.image;
    unlessEnded(() => this.#sharedWrites.noteEnd(traced.pid, same ? known.tracker : undefined));
  }

  #forgetEnded(): void {
    for (const [pid, process] of this.#processes) {
      const traced = this.#options.tracees.processes.get(pid);
      if (traced && traced === process.traced && traced.image === process.image) continue;
      // By exec: its old memory is gone, with the note of what it wrote.
      if (traced) this.#sharedWrites.noteUnmapped(process.tracker.areas);
      process.close();
      this.#processes.delete(pid);
      this.#emit({ op: "process-end", pid: process.traced.virtualPid });
    }
  }

  #watchNew(): ProcessCapture[] {
    const added: ProcessCapture[] = [];
    for (const traced of this.#options.tracees.processes.values()) {
      if (this.#processes.has(traced.pid)) continue;
      const process = new ProcessCapture(traced);
      try {
        process.watch();
      } catch (error) {
        process.close();
        throw error;
      }
      process.tracker.shadow = makeShadow(Math.floor(this.#options.shadowBytes / PAGE_BYTES));
      this.#processes.set(traced.pid, process);
      this.#pendingFirst.push(...this.#namespace.announce());
      this.#flushFirst();
      this.#emit(this.#birth(process));
      const layout = process.layoutOperation([]);
      if (layout) this.#emit(layout);
      added.push(process);
    }
    return added;
  }

  /** The parent as the application sees it; 1 (the init) for its first process and for orphans. */
  #parentOf(pid: number): number {
    for (const process of this.#options.tracees.processes.values())
      if (childrenOf(process.pid).includes(pid)) return process.virtualPid;
    return 1;
  }

  #birth({ pid, traced }: ProcessCapture): Operation {
    const session = Number(statusField(readStatus(pid), "NSsid").split(/\s+/).at(-1));
    return { op: "process", pid: traced.virtualPid, parent: this.#parentOf(pid), session };
  }

  /** What makes every process known to a clone that has none, as the other clones know it now. */
  introduce(): Operation[] {
    this.#namespace.reset();
    this.#sharedSent.clear();
    const processes = [...this.#processes.values()].flatMap((process): Operation[] => [
      this.#birth(process),
      { op: "layout", pid: process.traced.virtualPid, areas: process.emitted, fresh: [] },
    ]);
    return [...this.#namespace.announce(), ...processes];
  }

  /** The last checkpoint's resources, and memory areas by pid as the application sees it; undefined when there was none. */
  lastSeen(): LastSeen | undefined {
    if (this.#last === undefined) return undefined;
    const areas = [...this.#processes.values()].map((p): [number, Area[]] => [p.traced.virtualPid, p.emitted]);
    return { ...this.#last, areas: new Map(areas) };
  }

  captured(): ProcessCapture[] {
    return [...this.#processes.values()];
  }

  /**
   * Whole content of a process while it runs, in pieces: `drained` is awaited between them. With `alone` no checkpoint is made
   * meanwhile; else what is known as written stays so, for those who follow already.
   */
  async copyAll(
    process: ProcessCapture,
    alone: boolean,
    drained: () => Promise<void>,
    progress: (leftBytes: number) => void,
  ): Promise<void> {
    const { tracker } = process;
    this.#followLayout(process);
    const count = process.needsAll && alone ? tracker.scanAll(false) : tracker.scanPopulated();
    const known = this.#takeKnown(process, count);
    const regions = mergeRegions([known, ...this.#unsentShared(process)]);
    if (alone) process.needsAll = false;
    let left = Number(sumPages(regions));
    const cursor = new Float64Array(3);
    while (cursor[0]! * 3 < regions.length) {
      left = Math.max(0, left - this.#encodeNext(process, regions, cursor));
      progress(left * PAGE_BYTES);
      await drained();
    }
  }

  /** While the application runs: what it has mapped since the last look is watched from here on and known to the clones. */
  #followLayout(process: ProcessCapture): void {
    const { tracker } = process;
    if (!tracker.layoutTextChanged()) return;
    const layout = process.layoutOperation(tracker.refresh().fresh);
    for (const regions of this.#unsentShared(process)) tracker.owe(regions);
    // What it maps may be a file made a moment ago.
    this.#aheadFiles();
    for (const operation of this.#namespace.announce()) this.#emit(operation);
    if (layout) this.#emit(layout);
  }

  #aheadFiles(): void {
    this.#options.files?.preDump((operation) => this.#emit(operation), { mapped: this.#mappedFiles() });
  }

  /** Files that the application may write without the file system's knowledge: mapped shared and writable. */
  #mappedFiles(): string[] {
    const paths = new Set<string>();
    for (const { emitted } of this.#processes.values())
      for (const { backing, protection } of emitted)
        if (backing.type === "file" && backing.shared && (protection & PROT.write) !== 0) paths.add(backing.path);
    return [...paths];
  }

  /**
   * Regions of the last scan as far as the clones know their areas; others, mapped a moment ago by the running application, are
   * left to the next scan.
   */
  #takeKnown(process: ProcessCapture, count: number): BigUint64Array {
    const { tracker, emitted } = process;
    checked(count, "ioctl(PAGEMAP_SCAN)", process.pid);
    const ranges = emitted.filter(isTrackable).map((area): [number, number] => [area.start, area.end]);
    const { inside, outside } = splitRegions(tracker.takeRegions(count), ranges);
    tracker.owe(outside);
    return inside;
  }

  /** Encodes staged pages into operations. */
  #encode(process: ProcessCapture, from: number, to: number): void {
    const { tracker } = process;
    for (let at = from; at < to; at += CHUNK_PAGES) {
      const end = Math.min(to, at + CHUNK_PAGES);
      const { bytes, addresses } = this.#staging;
      const n = encodePages(bytes, addresses, at, end, tracker.shadow, this.#encoded, 0, this.whole, tracker.shared);
      this.#pages += end - at;
      this.#emitStream(process, n);
    }
  }

  /** Everything of a process that is new to the clones, else what was written. */
  #scan(process: ProcessCapture, strict: boolean): number {
    if (process.needsAll) for (const regions of this.#unsentShared(process)) process.tracker.owe(regions);
    return process.needsAll ? process.tracker.scanAll(strict) : process.tracker.scanWritten(strict);
  }

  /** Content of shared memory that nobody has sent: pages need not be in the table of a process that has them mapped. */
  #unsentShared({ tracker }: ProcessCapture): BigUint64Array[] {
    if (tracker.shared.length === 0) return [];
    return tracker.areas.flatMap((area) => {
      const { backing, start, end } = area;
      if (backing.type !== "shared" || area.readOnly) return [];
      const range = `${backing.id} ${backing.offset} ${end - start}`;
      if (this.#sharedSent.has(range)) return [];
      this.#sharedSent.add(range);
      return [tracker.populatedShared(area)];
    });
  }

  /** Runs what takes pages: when it fails half-way, what the scan reported is known no longer, and everything goes out again. */
  #taking<T>(process: ProcessCapture, take: () => T): T {
    try {
      const result = take();
      process.needsAll = false;
      return result;
    } catch (error) {
      process.needsAll = true;
      this.#sharedSent.clear();
      throw error;
    }
  }

  /** One pass over all processes while they run; returns the pages it found. Pauses between pieces, see `preDump`. */
  *#precopyPass(): Generator<void, number> {
    let pages = 0;
    for (const process of [...this.#processes.values()]) {
      const regions = unlessEnded(() => this.#taking(process, () => this.#writtenNow(process))) ?? NO_REGIONS;
      const cursor = new Float64Array(3);
      try {
        while (cursor[0]! * 3 < regions.length) {
          const done = unlessEnded(() => this.#taking(process, () => this.#encodeNext(process, regions, cursor)));
          if (done === undefined) break;
          pages += done;
          yield;
        }
      } finally {
        // Given up half-way: what was reported and not copied is reported again.
        process.tracker.owe(restOf(regions, cursor));
      }
    }
    return pages;
  }

  /** What a running process has written, as far as the clones know its areas. */
  #writtenNow(process: ProcessCapture): BigUint64Array {
    const { tracker } = process;
    let count = this.#scan(process, false);
    if (count > 0 && tracker.foundOutside(count, process.knownRanges)) {
      tracker.owe(tracker.takeRegions(count));
      this.#followLayout(process);
      count = this.#scan(process, false);
      return this.#takeKnown(process, count);
    }
    return tracker.takeRegions(checked(count, "ioctl(PAGEMAP_SCAN)", process.pid));
  }

  /**
   * Copies what has been written while the application goes on writing, until little is left for the stop. A generator: the
   * caller may do other work (heartbeats, acknowledgements) at each pause.
   */
  *preDump(): Generator<void, void> {
    this.#aheadFiles();
    yield;
    this.attachNew();
    const all = this.captured().some((process) => process.needsAll);
    const recent = performance.now() - this.#lastDump < RECENT_MS;
    if (!all && recent && this.#lastPages < PRECOPY_WORTH_PAGES) return;
    for (let pass = 0; pass < PRECOPY_PASSES; pass++) {
      if ((yield* this.#precopyPass()) < PRECOPY_AGAIN_PAGES) break;
      yield;
    }
  }

  /**
   * The stop: one instant of everything. `mark` runs first thing in it. When it throws, the application runs again and what
   * was taken stays part of the next checkpoint.
   */
  dump(mark: (epoch: number) => void, final: boolean, term: number): Dump {
    const { tracees, stopTimeoutUs } = this.#options;
    const begun = performance.now();
    tracees.stop(stopTimeoutUs);
    let taken: Taken;
    let stopUs = 0;
    try {
      mark(++this.epoch);
      taken = this.#take();
    } catch (error) {
      tracees.release();
      // What was taken is no longer known as written: it goes out with the next checkpoint.
      this.#flushStaged();
      throw error;
    }
    if (!final) tracees.release();
    stopUs = (performance.now() - begun) * 1000;
    return { end: this.#postDump(taken, stopUs, final, term), all: [...taken.resources] };
  }

  #take(): Taken {
    const now = Date.now();
    this.#pendingFirst.push(...(this.#options.files?.cut({ mapped: this.#mappedFiles() }) ?? []));
    const resources = new Map<string, Resource>();
    this.#pendingFirst.push(...this.#namespace.dump(resources));
    this.#forgetEnded();
    this.#watchNew();
    for (const process of this.#processes.values()) process.refreshInner(now);
    this.#sharedWrites.settle(this.captured().map(({ tracker }) => tracker));
    this.#staging.pages = 0;
    for (const process of this.#processes.values()) this.#taking(process, () => this.#takeMemory(process));
    this.#takeUnmapped();
    this.#takeThreads(resources);
    this.#takeDescriptors(resources);
    this.#takeZombies(resources);
    const leaders = [...this.#processes.values()];
    const pending = pendingSignals(
      Int32Array.from(leaders, (process) => process.traced.threads.keys().next().value!),
      true,
    );
    for (const [i, process] of leaders.entries()) {
      const { virtualPid } = process.traced;
      const state = process.state((pid) => this.#parentOf(pid), now, pending.get(i) ?? []);
      resources.set(`process/${virtualPid}`, { kind: "process", version: 1, state });
    }
    return { resources, clock: monotonicClock() };
  }

  /** Shared memory that a process wrote and mapped no longer when it was looked at: others tell what is in it. */
  #takeUnmapped(): void {
    const trackers = this.captured().map(({ tracker }) => tracker);
    const areas = trackers.flatMap((tracker) => tracker.takeUnmapped());
    if (areas.length === 0) return;
    this.#sharedWrites.noteUnmapped(areas);
    const told = this.#sharedWrites.settle(trackers);
    for (const process of this.captured())
      if (told.has(process.tracker)) this.#taking(process, () => this.#takeMemory(process));
  }

  #takeMemory(process: ProcessCapture): void {
    const { tracker } = process;
    let count = this.#scan(process, true);
    let fresh: Array<[number, number]> = [];
    let regions: BigUint64Array | undefined;
    if (count === ERRNO.perm) {
      fresh = tracker.refresh().fresh;
      for (const regions of this.#unsentShared(process)) tracker.owe(regions);
      count = checked(this.#scan(process, true), "ioctl(PAGEMAP_SCAN)", process.pid);
    } else {
      checked(count, "ioctl(PAGEMAP_SCAN)", process.pid);
      if (tracker.layoutTextChanged()) {
        regions = tracker.takeRegions(count);
        fresh = tracker.refresh().fresh;
      }
    }
    this.#stage(process, regions, count, fresh);
  }

  #stage(
    process: ProcessCapture,
    regions: BigUint64Array | undefined,
    count: number,
    fresh: Array<[number, number]>,
  ): void {
    const { tracker } = process;
    const layout = process.layoutOperation(fresh);
    const from = this.#staging.pages;
    const fits = tracker.copy(regions, count, this.#staging);
    const to = fits ? this.#staging.pages : from;
    const written = fits ? undefined : (regions ?? tracker.takeRegions(count));
    this.#pending.push({ process, from, to, layout, dropped: tracker.takeDropped() });
    if (!written) return;
    // More than the staging memory holds: rare, then the application waits for the encoding as well.
    this.#flushStaged();
    this.#encodeRegions(process, written);
    this.#staging.pages = 0;
  }

  /** Copies and encodes regions piece by piece. */
  #encodeRegions(process: ProcessCapture, regions: BigUint64Array): void {
    const cursor = new Float64Array(3);
    while (cursor[0]! * 3 < regions.length) this.#encodeNext(process, regions, cursor);
  }

  /** One piece of regions, from the cursor on; returns the pages that were there. */
  #encodeNext(process: ProcessCapture, regions: BigUint64Array, cursor: Float64Array): number {
    const n = process.tracker.copyEncode(regions, cursor, CHUNK_PAGES, this.#encoded, this.whole);
    this.#emitStream(process, n);
    this.#pages += cursor[2]!;
    return cursor[2]!;
  }

  #emitStream(process: ProcessCapture, bytes: number): void {
    if (bytes === 0) return;
    const block = this.#blocks.take(bytes);
    this.#encoded.copy(block, 0, 0, bytes);
    const release = () => this.#blocks.give(block);
    this.#emit({ op: "pages", pid: process.traced.virtualPid, bytes: block.subarray(0, bytes), release });
  }

  readonly #pending: StagedMemory[] = [];
  readonly #pendingFirst: Operation[] = [];

  /** Files and segments go ahead of everything that may map them. */
  #flushFirst(): void {
    for (const operation of this.#pendingFirst.splice(0)) this.#emit(operation);
  }

  #flushStaged(): void {
    this.#flushFirst();
    for (const { process, from, to, layout, dropped } of this.#pending.splice(0)) {
      const pid = process.traced.virtualPid;
      if (layout) this.#emit(layout);
      if (dropped.length) {
        for (const [start, end] of dropped) process.tracker.dropShadow(start, end);
        this.#emit({ op: "drop", pid, ranges: dropped });
      }
      this.#encode(process, from, to);
    }
  }

  #takeThreads(resources: Map<string, Resource>): void {
    const tids = this.#options.tracees.tids();
    if (this.#records.length < tids.length * RECORD_BYTES) this.#records = Buffer.alloc(tids.length * RECORD_BYTES);
    dumpThreads(tids, this.#records);
    const pending = pendingSignals(tids, false);
    tids.forEach((tid, i) => {
      const thread = this.#options.tracees.thread(tid)!;
      const process = this.#processes.get(thread.process.pid)!;
      const own = this.#records.subarray(i * RECORD_BYTES, (i + 1) * RECORD_BYTES);
      const record = Buffer.from(own.subarray(0, recordLength(own)));
      const state = process.threadState(thread, record, pending.get(i) ?? []);
      resources.set(`thread/${state.process}/${state.tid}`, { kind: "thread", version: 1, state });
    });
  }

  /** Ended processes that their parents have not collected: their pids and exit codes. */
  #takeZombies(resources: Map<string, Resource>): void {
    const { endings, processes } = this.#options.tracees;
    for (const { pid, virtualPid, code, signal } of endings.values()) {
      const parent = zombieParent(pid);
      const known = parent === undefined ? undefined : processes.get(parent);
      if (!known) {
        endings.delete(pid);
        continue;
      }
      const state: ZombieState = { pid: virtualPid, parent: known.virtualPid, code: code ?? 0, signal: signal ?? 0 };
      resources.set(`zombie/${virtualPid}`, { kind: "zombie", version: 1, state });
    }
  }

  #takeDescriptors(resources: Map<string, Resource>): void {
    const pids = [...this.#processes.keys()];
    this.#descriptors.refresh(pids);
    for (const process of this.#processes.values()) {
      const state = this.#descriptors.entries(process.pid);
      resources.set(`descriptors/${process.traced.virtualPid}`, { kind: "descriptors", version: 1, state });
    }
    this.#descriptors.dump((byKind, context) => {
      for (const [name, descriptions] of byKind) {
        const kind = kindNamed(name)!;
        const states = kind.dump(descriptions, context);
        descriptions.forEach((description, i) => {
          resources.set(`description/${description.id}`, { kind: name, version: kind.version, state: states[i] });
        });
      }
    }, this.#sharedMappings());
  }

  /** Whether memory or a file without a name is mapped shared by a process; layouts are looked at when first asked. */
  #sharedMappings(): (link: string) => boolean {
    let paths: Set<string> | undefined;
    return (link) => {
      paths ??= new Set(
        [...this.#processes.values()].flatMap(({ tracker }) =>
          tracker.areas.flatMap(({ backing }) => (backing.type === "shared" ? [backing.path] : [])),
        ),
      );
      return paths.has(link);
    };
  }

  /** The application runs again: encode what was staged, find what changed, close the checkpoint. */
  #postDump(taken: Taken, stopUs: number, final: boolean, term: number): CheckpointEnd {
    this.#flushStaged();
    const { changed, gone } = this.#states.advance(taken.resources);
    const end: CheckpointEnd = {
      version: IMAGE_VERSION,
      epoch: this.epoch,
      term,
      at: new Date().toISOString(),
      stopUs: Math.round(stopUs),
      pages: this.#pages,
      bytes: this.#bytes,
      changed,
      gone,
      clock: taken.clock,
      final,
    };
    this.#last = { epoch: end.epoch, term, at: end.at, resources: taken.resources };
    this.#lastPages = this.#pages;
    this.#lastDump = performance.now();
    this.#pages = 0;
    this.#bytes = 0;
    return end;
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

/** What is done with a running process may find it gone: the next stop takes notice of that. */
function unlessEnded<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if (error instanceof SystemCallError && error.code === "ESRCH") return undefined;
    throw error;
  }
}

const NO_REGIONS = new BigUint64Array(0);

/** Regions from the cursor on. */
function restOf(regions: BigUint64Array, cursor: Float64Array): BigUint64Array {
  const rest = regions.slice(3 * cursor[0]!);
  if (rest.length > 0 && cursor[1]! > 0) rest[0] = BigInt(cursor[1]!);
  return rest;
}

interface StagedMemory {
  process: ProcessCapture;
  from: number;
  to: number;
  layout: Operation | undefined;
  dropped: Array<[number, number]>;
}

interface Taken {
  resources: Map<string, Resource>;
  clock: string;
}

function monotonicClock(): string {
  return String(process.hrtime.bigint());
}

function sumPages(regions: BigUint64Array): bigint {
  let sum = 0n;
  for (let i = 0; i < regions.length; i += 3) sum += (regions[i + 1]! - regions[i]!) / BigInt(PAGE_BYTES);
  return sum;
}
