/** Overlays for tests: in a mount namespace of the test process's own, so that nothing is left when it ends. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { call, cString, openPath } from "../../../src/kernel/calls.ts";

const CLONE_NEWNS = 0x20000;
const MS_REC_PRIVATE = 0x4000 | (1 << 18);
const MS_BIND = 0x1000;
export const MS_STRICTATIME = 1 << 24;
const MNT_DETACH = 2;
const O_PATH = 0o10000000;

let own = false;

export function ownMounts(): void {
  if (own) return;
  call("unshare", CLONE_NEWNS);
  call("mount", cString("none"), cString("/"), null, MS_REC_PRIVATE, null);
  own = true;
}

export interface Layer {
  /** Has `upper`, `work` and `root`, as an application's files directory has. */
  directory: string;
  lower: string;
  root: string;
  rootFd: number;
}

export class Overlays {
  readonly directory = mkdtempSync(join(tmpdir(), "understudy-files-"));
  readonly #mounted: string[] = [];

  path(name: string): string {
    const path = join(this.directory, name);
    mkdirSync(path, { recursive: true });
    return path;
  }

  /** @param flags of the overlay's mount */
  mount(name: string, lower: string, flags = 0): Layer {
    const directory = this.path(name);
    for (const part of ["upper", "work", "root"]) mkdirSync(join(directory, part), { recursive: true });
    const root = join(directory, "root");
    const options = `lowerdir=${lower},upperdir=${join(directory, "upper")},workdir=${join(directory, "work")}`;
    call("mount", cString("overlay"), cString(root), cString("overlay"), flags, cString(options));
    this.#mounted.push(root);
    return { directory, lower, root, rootFd: openPath(root, O_PATH) };
  }

  /** A file system in memory, with times of every access, over a directory. */
  mountMemory(name: string): string {
    const directory = this.path(name);
    const kind = cString("tmpfs");
    call("mount", kind, cString(directory), kind, MS_STRICTATIME, cString("mode=755"));
    this.#mounted.unshift(directory);
    return directory;
  }

  bind(from: string, to: string): void {
    call("mount", cString(from), cString(to), null, MS_BIND, null);
    this.#mounted.push(to);
  }

  remove(): void {
    for (const root of this.#mounted.reverse()) call("umount2", cString(root), MNT_DETACH);
    rmSync(this.directory, { recursive: true, force: true });
  }
}
