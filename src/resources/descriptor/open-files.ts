/**
 * A process's open files as the kernel has them, in one walk instead of a look at every link of /proc/PID/fd: which description each
 * descriptor is, and what tells whether anything happened to it.
 */
import type { Stamps } from "../tcp/stamp.ts";
import { ChangedFiles } from "./changed-files.ts";
import { WholeFiles } from "./whole-files.ts";

/** One descriptor. */
export interface OpenFile {
  /** The description's identity while it is open: where the kernel has it. */
  file: bigint;
  fd: number;
  /** O_* flags, O_CLOEXEC among them. */
  flags: number;
  /** Somebody has, or had, a lock on it. */
  mayBeLocked: boolean;
}

export interface OpenFiles {
  of(pid: number): OpenFileWalk;
  close(): void;
}

/** The open files of one process. `Stamps`: of its TCP sockets, as of the last look. */
export interface OpenFileWalk extends Stamps {
  /**
   * Brings what a look reads into the processor's caches, where it is worth it: the memory of thousands of files is in none. Shortly
   * before a stop, while the process runs.
   */
  warm?(): void;
  /** Walks; returns whether the table differs from the last time. All threads of the process are stopped. */
  look(): boolean;
  files(): OpenFile[];
  /** As of the last look; undefined where it cannot be told. */
  file(fd: number): bigint | undefined;
  /** The plain stamp of what is no TCP socket, as of the last look and until the next. */
  plain(fd: number): Buffer | undefined;
  close(): void;
}

/** Undefined where the kernel has no such walk: then every link is read in each stop. */
export function openFilesIfAny(): OpenFiles | undefined {
  for (const Walks of [ChangedFiles, WholeFiles])
    try {
      return new Walks();
    } catch {
      // The next one asks less of the kernel.
    }
  return undefined;
}
