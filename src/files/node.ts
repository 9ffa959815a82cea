/** One inode of a tree as the clones know it. */
import { getExtended, listExtended, MODE_TYPE, type Status, TYPE_BITS } from "../kernel/files.ts";
import type { Attributes, FileTime } from "./change.ts";
import { type Range, SentContent } from "./content.ts";

export type NodeKind = "file" | "directory" | "symlink" | "special" | "whiteout";

const OVERLAY_ATTRIBUTE = "trusted.overlay.";

export function kindOf(status: Status): NodeKind {
  switch (status.mode & MODE_TYPE) {
    case TYPE_BITS.file:
      return "file";
    case TYPE_BITS.directory:
      return "directory";
    case TYPE_BITS.symlink:
      return "symlink";
    case TYPE_BITS.character:
      // A name of the lower layer that is deleted: character device 0/0 (Documentation/filesystems/overlayfs.rst).
      return status.deviceMajor === 0 && status.deviceMinor === 0 ? "whiteout" : "special";
    default:
      return "special";
  }
}

export class Node {
  readonly key: string;
  /** Of one that was seen right after its birth: another may have been born at the same time, with its number. */
  handle: string | undefined;
  readonly inode: number;
  readonly kind: NodeKind;
  readonly device: [number, number];
  mode = 0;
  uid = 0;
  gid = 0;
  size = 0;
  accessed: FileTime = [0, 0];
  modified: FileTime = [0, 0];
  changedSeconds = 0;
  changedNs = 0;
  isDax = false;
  /** The log tells of every write from before its content was last sent wholly. */
  followed = false;
  /** The clones have its content but for what has been written since. */
  complete = false;
  /** Ranges that the log told of and that are not sent yet, or lay beyond the file's end. */
  pending: Range[] = [];
  /** Names in the tree; a directory has one. */
  readonly paths = new Set<string>();
  /** Names in a directory. */
  readonly children = new Set<string>();
  readonly content: SentContent | undefined;
  fresh = false;
  target = "";
  #sentAttributes = "";

  constructor(status: Status) {
    this.key = status.key;
    this.inode = status.inode;
    this.kind = kindOf(status);
    this.device = [status.deviceMajor, status.deviceMinor];
    this.content = this.kind === "file" ? new SentContent() : undefined;
    this.update(status);
  }

  get path(): string | undefined {
    for (const path of this.paths) return path;
    return undefined;
  }

  isAsKnown(status: Status): boolean {
    return (
      this.changedNs === status.changedNs && this.changedSeconds === status.changedSeconds && this.size === status.size
    );
  }

  /** Nobody has opened or mapped it to read; where times of access are exact. */
  isUntouched(status: Status): boolean {
    return this.accessed[0] === status.accessedSeconds && this.accessed[1] === status.accessedNs;
  }

  update(status: Status): void {
    this.mode = status.mode;
    this.uid = status.uid;
    this.gid = status.gid;
    this.size = status.size;
    this.isDax = status.isDax;
    this.accessed = [status.accessedSeconds, status.accessedNs];
    this.modified = [status.modifiedSeconds, status.modifiedNs];
    this.changedSeconds = status.changedSeconds;
    this.changedNs = status.changedNs;
  }

  /** `hostPath` leads to the inode on this node. */
  attributes(hostPath: string): Attributes {
    const extended = this.kind === "symlink" ? [] : readExtended(hostPath);
    const { mode, uid, gid, accessed, modified } = this;
    return { mode: mode & 0o7777, uid, gid, accessed, modified, extended };
  }

  forgetAttributes(): void {
    this.#sentAttributes = "";
  }

  /** Attributes, and whether they are as last taken. The time of the last access alone is no change. */
  takeAttributes(hostPath: string): { attributes: Attributes; asSent: boolean } {
    const attributes = this.attributes(hostPath);
    const { mode, uid, gid, modified, extended } = attributes;
    const text = `${mode} ${uid} ${gid} ${modified} ${extended.map(([name, value]) => `${name}=${value.toString("latin1")}`)}`;
    const asSent = text === this.#sentAttributes;
    this.#sentAttributes = text;
    return { attributes, asSent };
  }
}

export function isOpaque(hostPath: string): boolean {
  return getExtended(hostPath, `${OVERLAY_ATTRIBUTE}opaque`)?.toString() === "y";
}

/** Extended attributes of the application's, without those with which the overlay keeps its books. */
export function readExtended(hostPath: string): Array<[string, Buffer]> {
  return listExtended(hostPath)
    .filter((name) => !name.startsWith(OVERLAY_ATTRIBUTE))
    .sort()
    .flatMap((name): Array<[string, Buffer]> => {
      const value = getExtended(hostPath, name);
      return value ? [[name, value]] : [];
    });
}
