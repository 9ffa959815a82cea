/**
 * Shared memory of huge pages, which several processes may write: what the clones have of it is known by object, so that they need
 * not get 2 MiB for each word.
 */
import { closeDescriptor, openPath } from "../../kernel/calls.ts";
import { O_NOATIME, O_RDONLY, Status } from "../../kernel/files.ts";
import {
  forgetHuge,
  HUGE_BLOCK_BYTES,
  type HugeContent,
  makeHugeContent,
  noteHuge,
  zeroedHuge,
} from "../../kernel/huge-pages.ts";
import { PAGE_BYTES } from "../../kernel/numbers.ts";
import { unlessGone } from "../nameless/find.ts";
import { type ObjectOperation, objectId } from "../nameless/state.ts";
import { type SegmentOperation, segmentOf } from "../shm/state.ts";
import type { HugeArea, SharedBacking } from "./layout.ts";

/** An area of shared memory of huge pages, and where it is mapped. */
export interface HugeMapping {
  pid: number;
  area: HugeArea & { backing: SharedBacking };
}

export class HugeObjects {
  readonly #limitPages: number;
  /** By `keyOf`. */
  readonly #contents = new Map<string, HugeContent>();
  #operations: Array<ObjectOperation | SegmentOperation> = [];

  /** @param limitPages of each object, whose content is kept to send differences */
  constructor(limitPages = 0) {
    this.#limitPages = limitPages;
  }

  get isEmpty(): boolean {
    return this.#contents.size === 0;
  }

  content(backing: SharedBacking): HugeContent {
    return this.#content(keyOf(backing));
  }

  #content(key: string): HugeContent {
    let content = this.#contents.get(key);
    if (!content) {
      content = makeHugeContent(this.#limitPages);
      this.#contents.set(key, content);
    }
    return content;
  }

  /** What goes to the clones otherwise than as somebody's pages. */
  note(operation: ObjectOperation | SegmentOperation): void {
    switch (operation.op) {
      case "object":
        if (operation.huge !== undefined) this.#content(operation.id);
        return;
      case "segment":
        if (operation.segment.huge !== undefined) this.#content(segmentKey(operation.segment.id));
        return;
      case "object-bytes":
        this.#noteBytes(operation.id, operation);
        return;
      case "segment-bytes":
        this.#noteBytes(segmentKey(operation.id), operation);
        return;
      case "object-hole": {
        const content = this.#contents.get(operation.id);
        if (content) forgetHuge(content, operation.from, operation.to);
        return;
      }
      case "object-end":
        this.#contents.delete(operation.id);
        return;
      case "segment-end":
        this.#contents.delete(segmentKey(operation.id));
        return;
    }
  }

  #noteBytes(key: string, { offset, bytes }: { offset: number; bytes: Buffer }): void {
    const content = this.#contents.get(key);
    if (content) noteHuge(content, offset, wholePages(bytes));
  }

  /**
   * In the stop: pages that were given back (fallocate, MADV_REMOVE), and perhaps touched again since, keep the kernel's mark of
   * what has not been written. They are known by having nothing but zeros.
   */
  settle(mappings: readonly HugeMapping[]): void {
    if (this.isEmpty) return;
    for (const [key, { pid, area }] of byKey(mappings)) {
      const content = this.#contents.get(key);
      const fd = content && openMapping(pid, area);
      if (!content || fd === undefined) continue;
      try {
        for (const from of zeroedHuge(content, fd)) this.#operations.push(zeros(area.backing, from));
      } finally {
        closeDescriptor(fd);
      }
    }
  }

  /**
   * Ends what nobody has any more: the clones' huge pages are few.
   * @param isKnown the clones know it otherwise, and are told of its end so
   * @returns what has ended
   */
  sweep(mappings: readonly HugeMapping[], isKnown: (id: string) => boolean): string[] {
    if (this.isEmpty) return [];
    const mapped = byKey(mappings);
    const ended = [...this.#contents.keys()].filter((key) => !mapped.has(key) && !isSegment(key) && !isKnown(key));
    for (const id of ended) {
      this.#contents.delete(id);
      this.#operations.push({ op: "object-end", id });
    }
    return ended;
  }

  takeOperations(): Array<ObjectOperation | SegmentOperation> {
    return this.#operations.splice(0);
  }

  /** Everything is new for the clones. */
  reset(): void {
    this.#contents.clear();
    this.#operations = [];
  }
}

const SEGMENT = "segment ";

function segmentKey(id: number): string {
  return `${SEGMENT}${id}`;
}

function isSegment(key: string): boolean {
  return key.startsWith(SEGMENT);
}

function keyOf(backing: SharedBacking): string {
  const segment = segmentOf(backing);
  return segment === undefined ? backing.id : segmentKey(segment);
}

function byKey(mappings: readonly HugeMapping[]): Map<string, HugeMapping> {
  return new Map(mappings.map((mapping) => [keyOf(mapping.area.backing), mapping]));
}

/** What is behind an area, to read; undefined when that is not there any more. The caller closes it. */
export function openMapping(pid: number, { start, end, backing }: HugeMapping["area"]): number | undefined {
  const path = `/proc/${pid}/map_files/${start.toString(16)}-${end.toString(16)}`;
  const fd = unlessGone(() => openPath(path, O_RDONLY | O_NOATIME));
  if (fd === undefined) return undefined;
  if (status.read(fd, "") >= 0 && objectId(status.ownMajor, status.ownMinor, status.exactInode) === backing.id)
    return fd;
  closeDescriptor(fd);
  return undefined;
}

const status = new Status();

function zeros(backing: SharedBacking, from: number): ObjectOperation | SegmentOperation {
  const id = segmentOf(backing);
  if (id === undefined) return { op: "object-hole", id: backing.id, from, to: from + HUGE_BLOCK_BYTES };
  return { op: "segment-bytes", id, offset: from, bytes: Buffer.alloc(HUGE_BLOCK_BYTES) };
}

function wholePages(bytes: Buffer): Buffer {
  if (bytes.length % PAGE_BYTES === 0) return bytes;
  const whole = Buffer.alloc(Math.ceil(bytes.length / PAGE_BYTES) * PAGE_BYTES);
  bytes.copy(whole);
  return whole;
}
