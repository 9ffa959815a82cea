/**
 * Scratch space, which no clone gets: what of it a program has open or mapped, watches or is in must be there all the same, with
 * nothing in it, or the clone could not live.
 */
import type { Operation, Resource } from "../checkpoint/operations.ts";
import { closeDescriptor, tryCall } from "../kernel/calls.ts";
import { checked } from "../kernel/errors.ts";
import {
  ERRNO_FILES,
  O_CREAT,
  O_DIRECTORY,
  O_NONBLOCK,
  O_PATH,
  O_RDWR,
  openBelow,
  pathText,
  rawPath,
  Status,
} from "../kernel/files.ts";
import type { FifoState } from "../resources/fifo/index.ts";
import type { FileState } from "../resources/file/index.ts";
import type { InotifyState } from "../resources/inotify/index.ts";
import type { ProcessState } from "../resources/process/state.ts";
import { absolutePathOf, isPath } from "../resources/unix/names.ts";
import type { UnixState } from "../resources/unix/state.ts";

const S_IFIFO = 0o010000;

export class Scratch {
  readonly #rootFd: number;
  readonly #paths: readonly string[];
  readonly #status = new Status();

  /** @param paths of scratch space, as the application sees them */
  constructor(rootFd: number, paths: readonly string[]) {
    this.#rootFd = rootFd;
    this.#paths = paths;
  }

  /** Before a layout is applied: files that are mapped, as long as what is mapped of them. */
  beforeLayout(operation: Operation): void {
    if (this.#paths.length === 0 || operation.op !== "layout") return;
    for (const { backing, start, end } of operation.areas)
      if (backing.type === "file" && backing.id === undefined)
        this.#needFile(pathText(backing.path), backing.offset + end - start);
  }

  /** Before life. */
  beforeLife(resources: Iterable<Resource>): void {
    if (this.#paths.length === 0) return;
    for (const { kind, state } of resources) this.#need(kind, state);
  }

  #need(kind: string, state: unknown): void {
    if (kind === "process") this.#needDirectory((state as ProcessState).workingDirectory);
    else if (kind === "inotify") for (const { path } of (state as InotifyState).watches) this.#needDirectory(path);
    else if (kind === "file") {
      const { path, flags } = state as FileState;
      if ((flags & O_DIRECTORY) !== 0) this.#needDirectory(path);
      else this.#needFile(path, 0);
    } else if (kind === "fifo") {
      const { path, mode, deleted } = state as FifoState;
      if (!deleted) this.#make(path, "mknodat", S_IFIFO | (mode & 0o7777));
    } else if (kind === "unix") {
      const { name } = state as UnixState;
      if (!isPath(name)) return;
      const path = absolutePathOf(name);
      this.#needDirectory(path.slice(0, path.lastIndexOf("/")));
    }
  }

  #isScratch(path: string): boolean {
    return this.#paths.some((scratch) => path.startsWith(`${scratch}/`));
  }

  #needDirectory(path: string): void {
    this.#make(path, "mkdirat", 0o755);
  }

  #needFile(path: string, size: number): void {
    if (!this.#isScratch(path)) return;
    this.#needDirectory(path.slice(0, path.lastIndexOf("/")));
    const fd = openBelow(this.#rootFd, bytesOf(path), O_RDWR | O_CREAT | O_NONBLOCK, 0o600);
    try {
      checked(this.#status.read(fd, ""), "statx", path);
      if (this.#status.size < size) checked(tryCall("ftruncate", fd, size), "ftruncate", path);
    } finally {
      closeDescriptor(fd);
    }
  }

  /** With the directories on the way. */
  #make(path: string, how: "mkdirat" | "mknodat", mode: number): void {
    if (!this.#isScratch(path)) return;
    const parent = path.slice(0, path.lastIndexOf("/"));
    if (this.#isScratch(parent)) this.#needDirectory(parent);
    const fd = openBelow(this.#rootFd, bytesOf(parent), O_PATH | O_DIRECTORY);
    try {
      const name = rawPath(bytesOf(path.slice(parent.length + 1)));
      const made = how === "mkdirat" ? tryCall(how, fd, name, mode) : tryCall(how, fd, name, mode, 0);
      if (made !== ERRNO_FILES.exists) checked(made, how, path);
    } finally {
      closeDescriptor(fd);
    }
  }
}

/** As the calls on files take it: one byte per character. */
function bytesOf(path: string): string {
  return Buffer.from(path).toString("latin1");
}
