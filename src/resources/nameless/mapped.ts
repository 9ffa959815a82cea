/**
 * Files without a name that are mapped private: a library or a program that an upgrade has replaced, or that was deleted when it had
 * been loaded. Pages that nobody has written are the file's, and no process's pages bring them.
 */
import { closeDescriptor, openPath } from "../../kernel/calls.ts";
import { OperatingError } from "../../kernel/failure.ts";
import { O_NOATIME, O_PATH, O_RDONLY, pathText, Status } from "../../kernel/files.ts";
import { type Area, isNameless, type NamelessArea } from "../memory/layout.ts";
import type { Found } from "./contents.ts";
import { foundAs, unlessGone } from "./find.ts";
import { isRegularMode, withoutDeleted } from "./state.ts";

interface Layout {
  pid: number;
  areas: readonly Area[];
}

export class MappedFiles {
  /** By id; descriptors that only name what they are of. */
  readonly #held = new Map<string, { fd: number; path: string }>();
  /** One area of each file; most layouts have none. */
  readonly #inLayouts = new WeakMap<readonly Area[], readonly NamelessArea[]>();
  readonly #status = new Status();

  /**
   * Those of a layout, which may be that of a running process: what it has unmapped by now is not among them.
   * @throws OperatingError `unprotectable-mapped-file` of what is no regular file
   */
  of(layout: Layout): Found[] {
    return this.#areasOf(layout.areas).flatMap((area) => this.#find(layout.pid, area) ?? []);
  }

  /** What was found and has not been swept. */
  held(): Found[] {
    return [...this.#held.keys()].map((id) => this.#found(id));
  }

  has(id: string): boolean {
    return this.#held.has(id);
  }

  /** Those that are in none of these layouts any more are let go. */
  sweep(layouts: Iterable<readonly Area[]>): void {
    if (this.#held.size === 0) return;
    const mapped = new Set([...layouts].flatMap((areas) => this.#areasOf(areas).map(({ backing }) => backing.id)));
    for (const [id, { fd }] of this.#held) {
      if (mapped.has(id)) continue;
      closeDescriptor(fd);
      this.#held.delete(id);
    }
  }

  close(): void {
    this.sweep([]);
  }

  #areasOf(areas: readonly Area[]): readonly NamelessArea[] {
    let found = this.#inLayouts.get(areas);
    if (!found) {
      found = [...new Map(areas.filter(isNameless).map((area) => [area.backing.id, area])).values()];
      this.#inLayouts.set(areas, found);
    }
    return found;
  }

  #find(pid: number, { start, end, backing }: NamelessArea): Found | undefined {
    const { id, path } = backing;
    if (!this.#held.has(id)) {
      const place = `/proc/${pid}/map_files/${start.toString(16)}-${end.toString(16)}`;
      const fd = unlessGone(() => openPath(place, O_PATH));
      if (fd === undefined) return undefined;
      this.#held.set(id, { fd, path: withoutDeleted(pathText(path)) });
      this.#refuseOthers(id);
    }
    return this.#found(id);
  }

  /** A device may be anything behind its pages. */
  #refuseOthers(id: string): void {
    const { fd, path } = this.#held.get(id)!;
    if (this.#status.read(fd, "") >= 0 && isRegularMode(this.#status.mode)) return;
    closeDescriptor(fd);
    this.#held.delete(id);
    throw new OperatingError(
      "unprotectable-mapped-file",
      `The application has mapped "${path}", which has been deleted and is no regular file`,
      { remedy: "Let it do without.", details: { path } },
    );
  }

  #found(id: string): Found {
    const { fd, path } = this.#held.get(id)!;
    this.#status.read(fd, "");
    const open = () => openPath(`/proc/self/fd/${fd}`, O_RDONLY | O_NOATIME);
    return { ...foundAs(this.#status, path), id, open };
  }
}
