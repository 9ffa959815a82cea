/**
 * Dumps the TCP sockets of a running application, in the stop. A duplicate of each connected socket's descriptor is kept
 * here from checkpoint to checkpoint: it saves taking it every time, and it keeps a socket known that the application has
 * closed until its last bytes are acknowledged (`closed`), so that a clone can deliver them too.
 */
import { addon } from "../../kernel/addon.ts";
import { SystemCallError } from "../../kernel/errors.ts";
import { networkAddon } from "../../kernel/network-addon.ts";
import { closeSocket, shutdown } from "../../kernel/socket.ts";
import { FLAG, RECORD_BYTES, STATE, TcpRecord } from "./record.ts";

export interface TcpChange {
  id: number;
  /** For `applyTcpChange`: the record and the new bytes of both queues. */
  content: Buffer;
}

export interface TcpDump {
  changed: TcpChange[];
  /** Ids whose sockets have ended since the last dump, closed ones included. */
  ended: number[];
  /** Connections that listening sockets hold and the application has not accepted. */
  notAccepted: number;
}

interface Entry {
  id: number;
  slot: number;
  /** Kept duplicate, or −1: listening and unconnected sockets are taken anew each time, so that a close frees the port. */
  kept: number;
  pidfd: number;
  fd: number;
  /** The application has closed its last descriptor. */
  closed: boolean;
}

const NR_PIDFD_GETFD = 438;
const EBADF = -9;
const ENOBUFS = -105;
const FIRST_SLOTS = 64;
const FIRST_BYTES = 1 << 20;
const MOST_BYTES = 1 << 30;
const SHUT_WR = 1;

export class TcpCapture {
  readonly #entries = new Map<number, Entry>();
  readonly #freeSlots: number[] = [];
  #slots = 0;
  #previous = Buffer.alloc(0);
  #next = Buffer.alloc(0);
  #bytes = Buffer.alloc(FIRST_BYTES);
  #pending: Entry[] = [];
  readonly #out = new Float64Array(1);

  /**
   * A socket that the application has, under an id that no other open socket has (its inode number). `pidfd` and `fd`: a process
   * that holds it; both may change by calling again.
   */
  add(id: number, pidfd: number, fd: number): void {
    const entry = this.#entries.get(id);
    if (entry !== undefined) {
      entry.pidfd = pidfd;
      entry.fd = fd;
      return;
    }
    this.#entries.set(id, { id, slot: this.#takeSlot(), kept: -1, pidfd, fd, closed: false });
  }

  /** The application holds it no more. A kept socket goes on until its peer has everything, as the kernel's orphans do. */
  remove(id: number): void {
    const entry = this.#entries.get(id);
    if (entry !== undefined) entry.closed = true;
  }

  has(id: number): boolean {
    return this.#entries.has(id);
  }

  get size(): number {
    return this.#entries.size;
  }

  /**
   * Dumps every socket known; only changed ones are returned. The application is stopped, and the mark in the held output
   * was taken before (`OutputHold.drain`). `full`: all, as if never dumped. Follow with `commit` or `abort`.
   */
  dump(full = false): TcpDump {
    this.#pending = [];
    const entries = [...this.#entries.values()];
    const ended: number[] = [];
    const present: Entry[] = [];
    const fds = new Int32Array(entries.length);
    const slots = new Int32Array(entries.length);
    const taken: number[] = [];
    try {
      for (const entry of entries) {
        const fd = this.#descriptor(entry, taken);
        if (fd < 0) {
          ended.push(entry.id);
          this.#forget(entry);
          continue;
        }
        fds[present.length] = fd;
        slots[present.length] = entry.slot;
        present.push(entry);
      }
      return this.#dumpAll(present, fds, slots, full, ended);
    } finally {
      for (const fd of taken) closeSocket(fd);
    }
  }

  #descriptor(entry: Entry, taken: number[]): number {
    if (entry.kept >= 0) return entry.kept;
    if (entry.closed) return -1;
    const fd = addon.syscall(NR_PIDFD_GETFD, entry.pidfd, entry.fd, 0);
    if (fd >= 0) taken.push(fd);
    else if (fd !== EBADF) throw new SystemCallError("pidfd_getfd", fd, String(entry.fd));
    return fd;
  }

  #dumpAll(present: Entry[], fds: Int32Array, slots: Int32Array, full: boolean, ended: number[]): TcpDump {
    const changed: TcpChange[] = [];
    let notAccepted = 0;
    const results = new Int32Array(present.length);
    for (let from = 0; from < present.length; ) {
      const rest = results.subarray(from);
      const done = networkAddon.tcpDump(
        -1,
        fds.subarray(from, present.length),
        slots.subarray(from, present.length),
        this.#previous,
        this.#next,
        rest,
        this.#bytes,
        full,
        this.#out,
      );
      let at = 0;
      for (let i = 0; i < done; i++) {
        const entry = present[from + i]!;
        const result = rest[i]!;
        if (result < 0) throw new SystemCallError("tcpDump", result, `socket ${entry.id}`);
        const record = new TcpRecord(this.#record(this.#next, entry.slot));
        if (record.state === STATE.listen) notAccepted += record.backlog;
        if (result === 0) continue;
        const length = record.receiveBytes + record.sendBytes;
        changed.push({ id: entry.id, content: Buffer.concat([record.bytes, this.#bytes.subarray(at, at + length)]) });
        at += length;
        this.#pending.push(entry);
        this.#keep(entry, record, fds[from + i]!);
      }
      from += done;
      if (from < present.length) this.#grow();
    }
    return { changed, ended, notAccepted };
  }

  /** Connected sockets are kept from their first dump on. */
  #keep(entry: Entry, record: TcpRecord, fd: number): void {
    const { state } = record;
    if (entry.kept >= 0 || state === STATE.listen || state === STATE.closed || state === STATE.synSent) return;
    const NR_FCNTL = 72;
    const F_DUPFD_CLOEXEC = 1030;
    entry.kept = addon.syscall(NR_FCNTL, fd, F_DUPFD_CLOEXEC, 0);
  }

  #grow(): void {
    const size = this.#bytes.length * 4;
    if (size > MOST_BYTES) throw new SystemCallError("tcpDump", ENOBUFS);
    this.#bytes = Buffer.alloc(size);
  }

  /** The dump has become a checkpoint: the next one tells what changed since. May run after the stop. */
  commit(): void {
    for (const { slot } of this.#pending) this.#record(this.#next, slot).copy(this.#previous, slot * RECORD_BYTES);
    this.#pending = [];
  }

  /** The dump was given up: the next one tells what changed since the one before. */
  abort(): void {
    this.#pending = [];
  }

  /**
   * Ends sockets that the application has closed, as the kernel would have: what is unsent is still sent, then FIN. After the
   * stop and after `commit`. Returns the ids that are over.
   */
  closeAbandoned(): number[] {
    const over: number[] = [];
    for (const entry of this.#entries.values()) {
      if (!entry.closed) continue;
      if (entry.kept >= 0 && !this.#abandoned(entry)) continue;
      over.push(entry.id);
      this.#forget(entry);
    }
    return over;
  }

  /** True when nothing is left to deliver: then the descriptor goes. */
  #abandoned(entry: Entry): boolean {
    const record = new TcpRecord(this.#record(this.#previous, entry.slot));
    const unread = record.receiveStart !== record.receiveEnd;
    const lingering = record.linger.readInt32LE(0) !== 0 && record.linger.readInt32LE(4) === 0;
    // Closing with unread bytes, or with a zero linger time, resets the connection: nothing is owed to the peer.
    if (unread || lingering || record.flags & FLAG.failed) return true;
    if (!(record.flags & FLAG.finSent)) shutdown(entry.kept, SHUT_WR);
    else if (record.state === STATE.finWait2 || record.state === STATE.timeWait) return true;
    return record.state === STATE.closed;
  }

  #forget(entry: Entry): void {
    closeSocket(entry.kept);
    this.#record(this.#previous, entry.slot).fill(0);
    this.#freeSlots.push(entry.slot);
    this.#entries.delete(entry.id);
  }

  #record(pool: Buffer, slot: number): Buffer {
    return pool.subarray(slot * RECORD_BYTES, (slot + 1) * RECORD_BYTES);
  }

  #takeSlot(): number {
    const free = this.#freeSlots.pop();
    if (free !== undefined) return free;
    const capacity = this.#previous.length / RECORD_BYTES;
    if (this.#slots === capacity) {
      const more = Buffer.alloc(Math.max(FIRST_SLOTS, capacity) * RECORD_BYTES);
      this.#previous = Buffer.concat([this.#previous, more]);
      this.#next = Buffer.concat([this.#next, more]);
    }
    return this.#slots++;
  }

  /** Lets every kept descriptor go: sockets that the application has closed end now. */
  close(): void {
    for (const entry of [...this.#entries.values()]) this.#forget(entry);
  }
}
