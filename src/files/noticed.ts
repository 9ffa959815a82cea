/** What is known to have happened to a tree since it was last looked at, and who tells of it. */
import type { Range } from "./content.ts";

/** What has been noticed since the last pass. */
export interface Noticed {
  /** Inodes to look at; undefined: all. */
  inodes: Set<number> | undefined;
  /** Ranges written per inode, merged; only for inodes that the log followed all the time. */
  ranges: Map<number, Range[]>;
  /** Inodes of which a page has become writable in a shared mapping, whether followed or not. */
  mapped: Set<number>;
  /** The application runs: what the log tells of may still be going on. */
  running: boolean;
}

/** The log's side: told of inodes before their content is read. Returns whether it follows them. */
export interface Follower {
  follow(inode: number): boolean;
  unfollow(inode: number): void;
}

/** Nothing tells: look at all. */
export function everything(running: boolean): Noticed {
  return { inodes: undefined, ranges: new Map(), mapped: new Set(), running };
}
