/** A process's layout, read again only when something tells that it may be another. */
import { openPath, Reader } from "../../kernel/calls.ts";
import { AreaFlags, type FlagsNow } from "./area-flags.ts";
import { type Area, parseLayout } from "./layout.ts";
import { refuseAreas } from "./refused.ts";

const O_RDONLY = 0;

/** Who follows the application's files. */
export interface FileNames {
  /** Another number when any of them may have another name; undefined: nobody follows them yet. */
  readonly version: number | undefined;
  covers(path: string): boolean;
}

export class LayoutReader {
  readonly #pid: number;
  readonly #names: FileNames | undefined;
  readonly #maps: Reader;
  /** Of the layout as it was taken last. */
  #text = Buffer.alloc(0);
  /** Before the text was read last: what tells that it would be the same; undefined: unknown. */
  #readAt: { sequence: number; version: number } | undefined;
  /** Whoever follows the files would tell of a new name of each that is mapped. */
  #areNamesTold = false;
  #flags: AreaFlags | undefined;
  #flagsNow: FlagsNow = { areas: new Map(), future: 0n };
  #flagsDiffer = false;

  constructor(pid: number, names: FileNames | undefined) {
    this.#pid = pid;
    this.#names = names;
    this.#maps = new Reader(openPath(`/proc/${pid}/maps`, O_RDONLY));
  }

  /** From now on the kernel's own flags of areas are part of the layout, where it tells them. */
  followFlags(): void {
    this.#flags = AreaFlags.of(this.#pid);
  }

  /** AREA_FLAG bits of areas to come. */
  get futureFlags(): number {
    return Number(this.#flagsNow.future);
  }

  /**
   * The areas, when text or flags are others than at the last look.
   * @param before what the last look found
   * @throws OperatingError of memory that cannot be kept; the next look throws again as long as it is there
   */
  look(before: readonly Area[]): Area[] | undefined {
    const text = this.#read();
    const flagsDiffer = this.#flagsChanged(before);
    if (text.equals(this.#text) && !flagsDiffer) return undefined;
    const taken = Buffer.from(text);
    const areas = parseLayout(taken.toString("latin1"));
    for (const area of areas) {
      const own = this.#flagsNow.areas.get(area.start);
      if (own !== undefined) area.flags = Number(own);
    }
    this.#text = Buffer.alloc(0);
    refuseAreas(areas);
    this.#text = taken;
    this.#flagsDiffer = false;
    this.#areNamesTold = areas.every(({ backing }) => backing.type !== "file" || this.#names?.covers(backing.path));
    return areas;
  }

  /** The next look finds everything new. */
  forget(): void {
    this.#text = Buffer.alloc(0);
  }

  /** Whether a look would find something. */
  changed(before: readonly Area[]): boolean {
    if (this.#isAsRead()) return false;
    return !this.#read().equals(this.#text) || this.#flagsChanged(before);
  }

  close(): void {
    this.#maps.close();
  }

  #read(): Buffer {
    const sequence = this.#flags?.sequence();
    const version = this.#names?.version;
    const text = this.#maps.read();
    const isSettled = sequence !== undefined && sequence === this.#flags?.sequence();
    this.#readAt = isSettled && version !== undefined ? { sequence, version } : undefined;
    return text;
  }

  /** Without the text, which the kernel writes anew for every question: false where only the text can tell. */
  #isAsRead(): boolean {
    if (this.#text.length === 0 || !this.#readAt || !this.#areNamesTold) return false;
    return this.#readAt.version === this.#names?.version && this.#readAt.sequence === this.#flags?.sequence();
  }

  /** Whether an area's flags are others than at the last look. */
  #flagsChanged(before: readonly Area[]): boolean {
    const now = this.#flags?.look();
    if (now) {
      this.#flagsNow = now;
      this.#flagsDiffer = before.some(({ start, flags }) => (flags ?? 0) !== Number(now.areas.get(start) ?? 0n));
    }
    return this.#flagsDiffer;
  }
}
