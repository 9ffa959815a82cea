/**
 * Threads that stops leave asleep. One that waits for a futex without an end, and has for long, need not be stopped each time: nobody can
 * wake it but threads that are stopped themselves, or a signal. From its release on it may not leave the call unseen
 * (PTRACE_SYSCALL); as long as it has not, its last record is true. The first thread of a process is always stopped, for calls made in it.
 */
import { ThreadWalks } from "../resources/process/thread-walk.ts";
import type { TracedProcess, TracedThread } from "./tracees.ts";

export class Sleepers {
  readonly #processes: ReadonlyMap<number, TracedProcess>;
  readonly #threads: ReadonlyMap<number, TracedThread>;
  readonly #walks = threadWalksIfAny();
  /** Threads that are to be left asleep from the next release on. */
  readonly #drowsy = new Set<number>();
  /** Those of them that have been released and are not in their wait yet. */
  readonly #lyingDown = new Set<number>();
  #count = 0;

  constructor(processes: ReadonlyMap<number, TracedProcess>, threads: ReadonlyMap<number, TracedThread>) {
    this.#processes = processes;
    this.#threads = threads;
  }

  /** From its next release on. */
  let(tid: number): void {
    const thread = this.#threads.get(tid);
    if (!thread || !this.#walks) return;
    if (thread.process.threads.keys().next().value !== tid) this.#drowsy.add(tid);
  }

  /** Whether the next release lets any lie down. */
  get areComing(): boolean {
    return this.#drowsy.size > 0;
  }

  /** It is being released: whether up to its wait only. */
  lieDown(tid: number): boolean {
    if (!this.#drowsy.has(tid)) return false;
    this.#lyingDown.add(tid);
    return true;
  }

  isLyingDown(tid: number): boolean {
    return this.#lyingDown.has(tid);
  }

  /** All have been released. */
  released(): void {
    this.#drowsy.clear();
  }

  /** The thread tells of itself: it begins its wait, or is awake. */
  set(tid: number, asleep: boolean): void {
    this.#lyingDown.delete(tid);
    const thread = this.#threads.get(tid);
    if (!thread || thread.asleep === asleep) return;
    thread.asleep = asleep;
    this.#count += asleep ? 1 : -1;
  }

  /** Takes sleepers that something has woken up for awake; all others are stopped, so nobody else sleeps. Returns how many. */
  noticeAwake(): number {
    if (this.#count === 0) return 0;
    let awake = 0;
    for (const { pid, threads } of this.#processes.values()) {
      const sleepers = [...threads.values()].filter((thread) => thread.asleep);
      if (sleepers.length === 0 || this.#walks!.countAsleep(pid) === sleepers.length) continue;
      const asleep = this.#walks!.asleep(pid);
      for (const { tid } of sleepers) {
        if (asleep.has(tid)) continue;
        this.set(tid, false);
        awake++;
      }
    }
    return awake;
  }

  forget(tid: number): void {
    this.set(tid, false);
    this.#drowsy.delete(tid);
  }

  forgetProcess(pid: number): void {
    this.#walks?.forget(pid);
  }
}

/** Undefined where the kernel has no such walk: then every thread is stopped each time. */
function threadWalksIfAny(): ThreadWalks | undefined {
  try {
    return new ThreadWalks();
  } catch {
    return undefined;
  }
}
