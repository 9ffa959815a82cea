/** The open descriptors of all processes: which open file description each belongs to, and of which kind that is. */

import { readlinkSync, statSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { call, closeDescriptor, pidfdGetfd, pidfdOpen, sameOpenFile, tryCall } from "../../kernel/calls.ts";
import { type Clocks, clocksAhead } from "../../kernel/clocks.ts";
import { SystemCallError } from "../../kernel/errors.ts";
import { OperatingError } from "../../kernel/failure.ts";
import { KernelMemory } from "../../kernel/kernel-memory.ts";
import { descriptorInfo, infoField, readStatus, virtualPid } from "../../kernel/procfs.ts";
import { SOL_SOCKET } from "../../kernel/socket.ts";
import { type Description, type DescriptorKind, type DumpContext, O } from "../kind.ts";
import { kindOf, type SocketType } from "../kinds.ts";
import type { Contents } from "../nameless/contents.ts";
import { refuseDescriptor, refuseDevice } from "../refusal.ts";

import { type FileLock, locksIn } from "./locks.ts";
import { type Notice, noticeOf, O_ASYNC } from "./notice.ts";
import { openFilesIfAny } from "./open-files.ts";
import { ProcessTable, type TableEntry } from "./process-table.ts";

/**
 * @kind descriptor
 * @kept numbers, close-on-exec; one open description shared by several numbers and processes stays one.
 */
export interface DescriptorEntry {
  fd: number;
  description: string;
  closeOnExec: boolean;
  /** Taken through it. */
  locks?: FileLock[];
  /** A signal tells when it becomes ready. */
  notice?: Notice;
}

const SO_TYPE = 3;
const SO_PROTOCOL = 38;
const SO_DOMAIN = 39;
const F_DUPFD_CLOEXEC = 1030;
/** Who gets a signal, and without a walk the flags of a descriptor, may change without a trace (fcntl): looked at again then. */
const FLAGS_FRESH_MS = 1000;

export class DescriptorTables {
  readonly #tables = new Map<number, ProcessTable>();
  readonly #descriptions = new Map<string, Description>();
  readonly #pidfds = new Map<number, number>();
  /** The same arrays as long as nothing has changed. */
  #byKind: Map<string, Description[]> | undefined;
  /** By process, as long as the tables are as they were. */
  readonly #entries = new Map<number, DescriptorEntry[]>();
  #next = 1;
  #rebuilt = 0;
  #flagsAt = 0;
  /** What fdinfo said in this stop. */
  readonly #infos = new Map<string, string>();
  readonly #onRefusal: ((error: OperatingError) => void) | undefined;
  readonly #openFiles = openFilesIfAny();
  #clocksAhead: Clocks | undefined;

  /** @param onRefusal told of each descriptor that cannot be copied, which is left out then; without it the first one is thrown */
  constructor(onRefusal?: (error: OperatingError) => void) {
    this.#onRefusal = onRefusal;
  }

  /** Shortly before a stop: see OpenFileWalk. */
  warm(): void {
    for (const table of this.#tables.values()) table.warm();
  }

  /** Looks at all processes again. With all threads stopped. Errors: `unprotectable-…`, by name. */
  refresh(pids: number[]): void {
    this.#infos.clear();
    let changed = false;
    for (const [pid, table] of this.#tables)
      if (!pids.includes(pid)) {
        table.close();
        this.#tables.delete(pid);
        closeDescriptor(this.#pidfds.get(pid) ?? -1);
        this.#pidfds.delete(pid);
        changed = true;
      }
    for (const pid of pids) {
      let table = this.#tables.get(pid);
      if (!table) {
        table = new ProcessTable(pid, this.#openFiles?.of(pid));
        this.#tables.set(pid, table);
        this.#pidfds.set(pid, pidfdOpen(pid));
      }
      if (table.look()) changed = true;
    }
    const now = Date.now();
    const hidden = [...this.#tables.values()].some((table) => table.mayChangeUnseen);
    const rebuild = changed || this.#flagsAt === 0 || (hidden && now - this.#flagsAt >= FLAGS_FRESH_MS);
    if (rebuild) {
      // A refusal leaves it half done: then it is due again at once.
      this.#flagsAt = 0;
      this.#entries.clear();
      this.#rebuilt++;
      this.#rebuild();
      this.#flagsAt = now;
    }
    this.#lookAtLocks();
  }

  /** Locks come and go without a trace in the tables. */
  #lookAtLocks(): void {
    for (const { pid, lockable } of this.#tables.values())
      for (const one of lockable) {
        const locks = locksIn(this.#info(pid, one.fd));
        if (!isDeepStrictEqual(locks, one.locks)) this.#entries.delete(pid);
        one.locks = locks;
      }
  }

  /** /proc/PID/fdinfo/FD, read once in a stop. */
  #info(pid: number, fd: number): string {
    const key = `${pid} ${fd}`;
    const known = this.#infos.get(key);
    if (known !== undefined) return known;
    const info = descriptorInfo(pid, fd);
    this.#infos.set(key, info);
    return info;
  }

  #noticeOf(pid: number, fd: number, flags: number): Notice | undefined {
    if ((flags & O_ASYNC) === 0) return undefined;
    const own = this.#take(pid, fd);
    try {
      return noticeOf(own, flags & ~O.closeOnExec);
    } finally {
      closeDescriptor(own);
    }
  }

  /** Assigns descriptors to descriptions: those of before keep theirs, what is open twice is found by kcmp. */
  #rebuild(): void {
    const found: Found = { byLink: new Map(), byFile: new Map() };
    const used = new Set<string>();
    for (const table of this.#tables.values()) {
      const before = new Map(table.known.map((known) => [`${known.fd} ${known.link}`, known.description]));
      table.known = table
        .entries((fd) => this.#info(table.pid, fd))
        .flatMap((entry) => {
          const { fd, link, flags, mayBeLocked } = entry;
          const old = before.get(`${fd} ${link}`);
          const description = this.#unlessRefused(() => this.#describe(table.pid, entry, found, old));
          if (description === undefined) return [];
          used.add(description.id);
          const notice = this.#noticeOf(table.pid, fd, flags);
          const closeOnExec = (flags & O.closeOnExec) !== 0;
          return [{ fd, link, description: description.id, closeOnExec, locks: [], mayBeLocked, notice }];
        });
    }
    for (const id of this.#descriptions.keys()) if (!used.has(id)) this.#descriptions.delete(id);
    this.#byKind = undefined;
  }

  /** Undefined only for who asked to be told of refusals and to go on. */
  #unlessRefused(describe: () => Description): Description | undefined {
    try {
      return describe();
    } catch (error) {
      if (this.#onRefusal === undefined || !(error instanceof OperatingError)) throw error;
      this.#onRefusal(error);
      return undefined;
    }
  }

  #describe(pid: number, { fd, link, flags, file }: TableEntry, found: Found, before: string | undefined): Description {
    const alike = found.byLink.get(link) ?? [];
    const shared =
      file === undefined
        ? alike.find((other) => link.startsWith("socket:[") || sameOpenFile(pid, fd, other.pid, other.fd))
        : found.byFile.get(file);
    if (shared) return shared;
    const old = before ? this.#descriptions.get(before) : undefined;
    const own = old && !alike.includes(old) ? old : undefined;
    const description: Description = own ?? {
      id: String(this.#next++),
      kind: this.#kind(pid, fd, link).kind,
      pid,
      fd,
      link,
      flags,
    };
    Object.assign(description, { pid, fd, flags: flags & ~O.closeOnExec });
    this.#descriptions.set(description.id, description);
    if (file !== undefined) found.byFile.set(file, description);
    if (alike.length > 0) alike.push(description);
    else found.byLink.set(link, [description]);
    return description;
  }

  #kind(pid: number, fd: number, link: string): DescriptorKind {
    const socket = link.startsWith("socket:[") ? this.#socketType(pid, fd) : undefined;
    const place = `/proc/${pid}/fd/${fd}`;
    const status = link.startsWith("/") ? statSync(place) : undefined;
    const kind = kindOf(link, socket, status && { mode: status.mode, place });
    const refusal = status && kind?.kind === "file" ? refuseDevice(link, status) : undefined;
    if (refusal) throw refusal;
    if (kind) return kind;
    throw refuseDescriptor(link, { fd, pid }, socket);
  }

  #socketType(pid: number, fd: number): SocketType {
    const own = this.#take(pid, fd);
    try {
      return { domain: option(own, SO_DOMAIN), type: option(own, SO_TYPE), protocol: option(own, SO_PROTOCOL) };
    } finally {
      closeDescriptor(own);
    }
  }

  #take(pid: number, fd: number): number {
    if (pid === process.pid) return call("fcntl", fd, F_DUPFD_CLOEXEC, 0);
    return pidfdGetfd(this.#pidfds.get(pid)!, fd);
  }

  /** Where the kernel has it; undefined where that cannot be told. */
  #fileOf({ pid, fd }: Description): bigint | undefined {
    const walked = this.#tables.get(pid)?.file(fd);
    const memory = walked === undefined ? KernelMemory.tryOpen() : undefined;
    if (memory === undefined) return walked;
    const own = this.#take(pid, fd);
    try {
      return memory.file(own);
    } finally {
      closeDescriptor(own);
    }
  }

  /** All descriptions of a kind as of the last look. */
  ofKind(kind: string): Description[] {
    return [...this.#descriptions.values()].filter((description) => description.kind === kind);
  }

  /** The same object as long as nothing has changed. */
  entries(pid: number): DescriptorEntry[] {
    const known = this.#entries.get(pid);
    if (known) return known;
    const entries = (this.#tables.get(pid)?.known ?? []).map(({ fd, description, closeOnExec, locks, notice }) => ({
      fd,
      description,
      closeOnExec,
      ...(locks.length > 0 ? { locks } : {}),
      ...(notice ? { notice } : {}),
    }));
    this.#entries.set(pid, entries);
    return entries;
  }

  /** Runs `body` with what kinds need to dump; all descriptors taken are closed again. */
  dump(body: (byKind: Map<string, Description[]>, context: DumpContext) => void, contents?: Contents): void {
    this.#byKind ??= Map.groupBy(this.#descriptions.values(), ({ kind }) => kind);
    const taken: number[] = [];
    const endings: Array<() => void> = [];
    const adopted: Description[] = [];
    const byFile = new Map<bigint | undefined, Description>();
    const flight = new Flight(
      () => this.#descriptions.values(),
      (pid, fd, link) => this.#kind(pid, fd, link).kind,
    );
    const context: DumpContext = {
      take: (description) => {
        const fd = this.#take(description.pid, description.fd);
        taken.push(fd);
        return fd;
      },
      place: ({ pid, fd }) => ({ pidfd: pid === process.pid ? -1 : this.#pidfds.get(pid)!, fd }),
      file: ({ pid, fd }) => (pid === process.pid ? undefined : this.#tables.get(pid)?.file(fd)),
      holder: (file) => {
        const unplaced = byFile.size === 0 ? [...this.#descriptions.values(), ...adopted] : adopted;
        for (const description of unplaced) byFile.set(this.#fileOf(description), description);
        adopted.length = 0;
        return byFile.get(file);
      },
      tables: this.#rebuilt,
      info: (description) => this.#info(description.pid, description.fd),
      stamps: (pid) => this.#tables.get(pid)?.stamps,
      plainStamp: ({ pid, fd }) => this.#tables.get(pid)?.plainStamp(fd),
      adopt: (fd) => {
        const last = taken.push(fd);
        const description = flight.adopt(fd);
        // Thousands may be in flight of a few: only those that nobody else has are needed further.
        if (description.pid !== process.pid || description.fd !== fd) closeDescriptor(taken.splice(last - 1, 1)[0]!);
        else adopted.push(description);
        return description;
      },
      find: (isWanted) => {
        for (const { pid, known } of this.#tables.values())
          for (const { fd, description } of known) if (isWanted(pid, fd)) return description;
        return undefined;
      },
      processes: () => this.#tables.keys(),
      virtualPid: (pid) => (this.#tables.has(pid) ? virtualPid(readStatus(pid)) : 0),
      clocksAhead: () => (this.#clocksAhead ??= clocksAhead(this.#tables.keys().next().value!)),
      contents,
      atEnd: (action) => endings.push(action),
      shared: new Map(),
    };
    try {
      body(this.#byKind, context);
      // What is found in flight may have more in flight.
      for (let more = flight.takeNew(); more.size > 0; more = flight.takeNew()) body(more, context);
      for (const action of endings) action();
    } finally {
      for (const fd of taken) closeDescriptor(fd);
    }
  }

  close(): void {
    for (const table of this.#tables.values()) table.close();
    for (const fd of this.#pidfds.values()) closeDescriptor(fd);
    this.#openFiles?.close();
    this.#tables.clear();
    this.#pidfds.clear();
  }
}

/** Descriptions of one rebuild, by what the link says and by where the kernel has them. */
interface Found {
  byLink: Map<string, Description[]>;
  byFile: Map<bigint, Description>;
}

/** Descriptions that are on their way from one process to another, found by descriptors that this process got of them. */
class Flight {
  readonly #all: () => Iterable<Description>;
  #known: Map<string, Description[]> | undefined;
  readonly #kind: (pid: number, fd: number, link: string) => string;
  #new: Description[] = [];

  constructor(all: () => Iterable<Description>, kind: (pid: number, fd: number, link: string) => string) {
    this.#all = all;
    this.#kind = kind;
  }

  adopt(fd: number): Description {
    const pid = process.pid;
    const link = readlinkSync(`/proc/self/fd/${fd}`);
    this.#known ??= Map.groupBy(this.#all(), (description) => description.link);
    const alike = this.#known.get(link) ?? [];
    const same = alike.find((d) => link.startsWith("socket:[") || sameOpenFile(pid, fd, d.pid, d.fd));
    if (same) return same;
    const flags = Number.parseInt(infoField(descriptorInfo(pid, fd), "flags"), 8) & ~O.closeOnExec;
    // A name that is the same in the next dump, as long as nothing changes.
    const id = `flight ${link} ${alike.length}`;
    const description = { id, kind: this.#kind(pid, fd, link), pid, fd, link, flags };
    this.#known.set(link, [...alike, description]);
    this.#new.push(description);
    return description;
  }

  takeNew(): Map<string, Description[]> {
    const found = Map.groupBy(this.#new, ({ kind }) => kind);
    this.#new = [];
    return found;
  }
}

const value = Buffer.alloc(4);
const length = Buffer.alloc(4);

function option(fd: number, name: number): number {
  length.writeUInt32LE(4);
  const r = tryCall("getsockopt", fd, SOL_SOCKET, name, value, length);
  if (r < 0) throw new SystemCallError("getsockopt", r, String(name));
  return value.readInt32LE();
}
