/**
 * One step of a clone's files towards the primary's. Paths begin with "/", are the application's own, and hold one byte per
 * character (latin1), so that names which are not UTF-8 survive. Steps are meant for a clone that has taken all steps before.
 */

/** Seconds and nanoseconds since 1970. */
export type FileTime = [seconds: number, nanoseconds: number];

/**
 * `inode` of what is made: its number on the primary, where the application has a disk of its own (stage/disk.ts); the clone's gets
 * the same.
 */
export type FileChange =
  /** Nothing is to stand there: a directory goes with all that is in it. */
  | { type: "remove"; path: string }
  /** A file or other non-directory under another name, the same inode. */
  | { type: "move"; from: string; to: string }
  /** One more name for the same inode. */
  | { type: "link"; from: string; to: string }
  /** `fresh`: nothing of the node's own directory of that name shows in it. */
  | { type: "directory"; path: string; fresh: boolean; inode?: number }
  /** A new regular file, empty, instead of whatever stands there. */
  | { type: "file"; path: string; inode?: number }
  | { type: "symlink"; path: string; target: string; inode?: number }
  /** FIFO, socket or device: type and permissions in one, as mknod takes them. */
  | { type: "special"; path: string; mode: number; device: [major: number, minor: number]; inode?: number }
  /** The file's new length; what it grows by is zero. */
  | { type: "size"; path: string; size: number }
  /** `release`: the bytes are free again (not part of what is sent). */
  | { type: "write"; path: string; at: number; bytes: Buffer; release?: () => void }
  /** Zero from here on, without taking room on the disk. */
  | { type: "zero"; path: string; at: number; length: number }
  /**
   * What stands in a file from here on, as digests of its blocks (offer.ts): the clone writes what it has of them elsewhere, and
   * answers with those that it lacks. `last`: nothing more is offered of this file.
   */
  | { type: "offer"; path: string; id: number; at: number; length: number; digests: Buffer; last: boolean }
  /** After everything else of a file, for other steps change its times. */
  | { type: "attributes"; path: string; attributes: Attributes }
  /** Names that were put aside for a moment are all in place again. */
  | { type: "settle"; path: string };

export interface Attributes {
  /** Permission bits with set-id and sticky bits. */
  mode: number;
  uid: number;
  gid: number;
  accessed: FileTime;
  modified: FileTime;
  /** Extended attributes, sorted by name. */
  extended: Array<[name: string, value: Buffer]>;
}

export interface FileOperation {
  op: "file";
  change: FileChange;
}

/** Directory of a tree in which names are put aside; it exists only inside a checkpoint's application. */
export const ASIDE = ".understudy-aside";
/** Longest data of one operation, bytes. */
export const CHUNK_BYTES = 1 << 20;
