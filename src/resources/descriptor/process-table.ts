/** One process's descriptors as of the last look. */

import { closeDescriptor, openPath, readDescriptorLinks, readDescriptorTable } from "../../kernel/calls.ts";
import { O_DIRECTORY } from "../../kernel/files.ts";
import { infoField } from "../../kernel/procfs.ts";
import type { Stamps } from "../tcp/stamp.ts";
import type { FileLock } from "./locks.ts";
import { type Notice, O_ASYNC } from "./notice.ts";
import type { OpenFile, OpenFileWalk } from "./open-files.ts";

export interface TableEntry {
  fd: number;
  /** What /proc/PID/fd/FD says. */
  link: string;
  /** O_* flags, O_CLOEXEC among them. */
  flags: number;
  /** The same for all descriptors of one description; undefined when only kcmp can tell. */
  file: bigint | undefined;
  mayBeLocked: boolean;
}

export interface Known {
  fd: number;
  link: string;
  description: string;
  closeOnExec: boolean;
  locks: FileLock[];
  mayBeLocked: boolean;
  notice: Notice | undefined;
}

const TABLE_BYTES = 1 << 20;
const tableBuffer = Buffer.alloc(TABLE_BYTES);
const NO_FDS = new Int32Array(0);

export class ProcessTable {
  readonly pid: number;
  readonly #directory: number;
  readonly #walk: OpenFileWalk | undefined;
  #text = Buffer.alloc(0);
  #files: OpenFile[] = [];
  #hasNotices = false;
  /** With a walk: descriptors whose links may change while they stay what they are, as files may be renamed. */
  #named: Int32Array<ArrayBuffer> = NO_FDS;
  /** With a walk: the links of all others. */
  #fixed = new Map<number, string>();
  #known: readonly Known[] = [];
  /** Of the known ones. */
  lockable: readonly Known[] = [];

  /** @param walk without one, every link is read in each look */
  constructor(pid: number, walk: OpenFileWalk | undefined) {
    this.pid = pid;
    this.#walk = walk;
    this.#directory = openPath(`/proc/${pid}/fd`, O_DIRECTORY);
  }

  get known(): readonly Known[] {
    return this.#known;
  }

  set known(known: readonly Known[]) {
    this.#known = known;
    this.lockable = known.filter(({ mayBeLocked, link }) => mayBeLocked && link.startsWith("/"));
  }

  /** See OpenFileWalk. */
  warm(): void {
    this.#walk?.warm?.();
  }

  /** Reads the table; returns whether it differs from the last one. */
  look(): boolean {
    if (this.#walk?.look()) {
      this.#files = this.#walk.files();
      this.#hasNotices = this.#files.some(({ flags }) => (flags & O_ASYNC) !== 0);
      this.#text = this.#read(readDescriptorTable(this.#directory, tableBuffer, this.pid));
      const links = this.#links();
      this.#named = Int32Array.from(links.filter(([, link]) => link.startsWith("/")).map(([fd]) => fd));
      this.#fixed = new Map(links.filter(([, link]) => !link.startsWith("/")));
      this.#text = this.#readNamed();
      return true;
    }
    const text = this.#walk
      ? this.#readNamed()
      : this.#read(readDescriptorTable(this.#directory, tableBuffer, this.pid));
    if (text.equals(this.#text)) return false;
    this.#text = text;
    return true;
  }

  #readNamed(): Buffer<ArrayBuffer> {
    if (this.#named.length === 0) return Buffer.alloc(0);
    return this.#read(readDescriptorLinks(this.#directory, this.#named, tableBuffer, this.pid));
  }

  #read(bytes: number): Buffer<ArrayBuffer> {
    return Buffer.from(tableBuffer.subarray(0, bytes));
  }

  #links(): Array<[fd: number, link: string]> {
    const parts = this.#text.toString("utf8").split("\0");
    const links: Array<[number, string]> = [];
    for (let i = 0; i + 1 < parts.length; i += 2) links.push([Number(parts[i]), parts[i + 1]!]);
    return links;
  }

  /** @param info /proc/PID/fdinfo/FD, asked where there is no walk */
  entries(info: (fd: number) => string): TableEntry[] {
    const links = this.#links();
    if (!this.#walk)
      return links.map(([fd, link]) => {
        return {
          fd,
          link,
          flags: Number.parseInt(infoField(info(fd), "flags"), 8),
          file: undefined,
          mayBeLocked: true,
        };
      });
    const named = new Map(links);
    return this.#files.flatMap(({ fd, flags, file, mayBeLocked }) => {
      const link = named.get(fd) ?? this.#fixed.get(fd);
      return link === undefined ? [] : [{ fd, link, flags, file, mayBeLocked }];
    });
  }

  /** Where the kernel has a descriptor's file; undefined where there is no walk. */
  file(fd: number): bigint | undefined {
    return this.#walk?.file(fd);
  }

  /** Of its TCP sockets; undefined where there is no walk. */
  get stamps(): Stamps | undefined {
    return this.#walk;
  }

  /** Of what is no TCP socket; undefined where there is no walk. */
  plainStamp(fd: number): Buffer | undefined {
    return this.#walk?.plain(fd);
  }

  /** Whether something that `look` does not see may have changed. */
  get mayChangeUnseen(): boolean {
    return !this.#walk || this.#hasNotices;
  }

  close(): void {
    this.#walk?.close();
    closeDescriptor(this.#directory);
  }
}
