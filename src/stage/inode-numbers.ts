/**
 * Which inode number the next new file on an application's disk gets: ext4's `inode_goal` (/sys/fs/ext4/DEVICE), for the whole file
 * system. It gives that number if it is free, else the next free one above it.
 */
import { mkdirSync, readlinkSync, rmSync, statfsSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { call, closeDescriptor, openPath } from "../kernel/calls.ts";
import { O_WRONLY } from "../kernel/files.ts";

/** Directories of the image, with the numbers that they have on every node. */
const FURNITURE = { upper: 12, work: 13, own: 14 };
/**
 * Numbers for what a clone needs beside the application's files: the overlay's own directory, its whiteouts, names put aside for a
 * moment. On a primary they are taken, so that no file of the application's ever has one.
 */
const FIRST_OWN = 16;
const OWN = 32;
const FIRST_FOR_FILES = FIRST_OWN + OWN;
/** A primary's new files get numbers in turn up to this part of all; above it is what a clone alone has: programs sent to it. */
const TURN_SHARE = 3 / 4;
const SPARE_SHARE = 7 / 8;

export class InodeNumbers {
  readonly #goalFd: number;
  /** Where the image is mounted. */
  readonly directory: string;
  /** The highest that the file system has. */
  readonly last: number;
  #goal = -1;

  private constructor(directory: string, goalFd: number) {
    this.directory = directory;
    this.#goalFd = goalFd;
    this.last = statfsSync(directory).files;
  }

  /** @param directory where the image is mounted */
  static open(directory: string): InodeNumbers {
    const { dev } = statSync(directory);
    const device = `${(dev >> 8) & 0xfff}:${(dev & 0xff) | ((dev >> 12) & 0xfff00)}`;
    const name = basename(readlinkSync(`/sys/dev/block/${device}`));
    return new InodeNumbers(directory, openPath(`/sys/fs/ext4/${name}/inode_goal`, O_WRONLY));
  }

  close(): void {
    closeDescriptor(this.#goalFd);
  }

  /** The next new file gets this number, if it is free. */
  next(inode: number): void {
    if (inode === this.#goal) return;
    const text = Buffer.from(String(inode));
    call("pwrite64", this.#goalFd, text, text.length, 0);
    this.#goal = inode;
  }

  /** What comes next is none of the application's files. */
  own(): void {
    this.next(FIRST_OWN);
  }

  /** What comes next is a file of the application's that its primary does not have. */
  spare(): void {
    this.next(Math.floor(this.last * SPARE_SHARE));
  }

  /** As the file system likes. */
  free(): void {
    this.next(0);
  }

  /** What a new image begins with. */
  furnish(): void {
    for (const [name, inode] of Object.entries(FURNITURE)) {
      this.next(inode);
      const path = join(this.directory, name);
      mkdirSync(path, { mode: 0o755 });
      const found = statSync(path).ino;
      if (found !== inode) throw new Error(`"${name}" got inode number ${found} instead of ${inode}`);
    }
  }

  /** Those that are free of a clone's own are taken. */
  withholdOwn(): void {
    for (let inode = FIRST_OWN; inode < FIRST_FOR_FILES; inode++) {
      const path = join(this.directory, "own", String(inode));
      this.next(inode);
      writeFileSync(path, "");
      if (statSync(path).ino !== inode) rmSync(path);
    }
  }

  /**
   * On a primary: new files came with these numbers. The next ones get others, as long as there are any: a number that was used since
   * the last checkpoint may still be in use on a clone, by a mapping that is gone here.
   */
  passBeyond(inodes: Iterable<number>): void {
    const end = Math.floor(this.last * TURN_SHARE);
    const range = end - FIRST_FOR_FILES;
    const goal = Math.max(FIRST_FOR_FILES, this.#goal);
    let most = -1;
    for (const inode of inodes) {
      const ahead = (inode - goal + range) % range;
      if (inode < end && ahead < range / 2) most = Math.max(most, ahead);
    }
    this.next(FIRST_FOR_FILES + ((goal - FIRST_FOR_FILES + most + 1) % range));
  }
}
