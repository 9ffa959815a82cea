/** Files without a name as plain data. */

export interface NamelessState {
  /** As /proc has it, without " (deleted)". */
  path: string;
  /** Of the object: several descriptions may be open on one. As shared mappings name it. */
  id: string;
  mode: number;
  uid: number;
  gid: number;
  size: number;
  /** F_SEAL_*; −1 when it is not a memfd. */
  seals: number;
  flags: number;
  position: number;
}

/** Who may do what with it, as far as it has no descriptor that tells. */
export interface Access {
  mode: number;
  uid: number;
  gid: number;
}

/** Content travels on its own, as far as it changed: so much at once as is written once, however large the file is. */
export type ObjectOperation =
  /** New, or its size is another than before. `huge`: bytes of a page, where somebody has set huge ones aside. */
  | { op: "object"; id: string; path: string; size: number; huge?: number; access?: Access }
  | { op: "object-bytes"; id: string; offset: number; bytes: Buffer }
  /** Zeros again. */
  | { op: "object-hole"; id: string; from: number; to: number }
  | { op: "object-end"; id: string };

export const DELETED = " (deleted)";
export const MEMFD = "/memfd:";
export const TYPE = 0o170000;
export const DIRECTORY = 0o040000;
export const REGULAR = 0o100000;

export function isRegularMode(mode: number): boolean {
  return (mode & TYPE) === REGULAR;
}

/** A path as /proc has it, of a file that has none any more. */
export function withoutDeleted(path: string): string {
  return path.endsWith(DELETED) ? path.slice(0, -DELETED.length) : path;
}

/** Name of an inode as layouts have it. */
export function objectId(major: number, minor: number, inode: bigint): string {
  const hex = (n: number) => n.toString(16).padStart(2, "0");
  return `${hex(major)}:${hex(minor)}:${inode}`;
}

/** What `objectId` was made of; of a FIFO's, too. */
export function inodeOf(id: string): number {
  return Number(id.slice(id.lastIndexOf(":") + 1));
}
