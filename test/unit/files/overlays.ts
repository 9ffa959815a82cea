/** Overlays for tests: in a mount namespace of the test process's own, so that nothing is left when it ends. */
import { execFileSync } from "node:child_process";
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { call, cString, openPath } from "../../../src/kernel/calls.ts";
import { MODE_TYPE, TYPE_BITS } from "../../../src/kernel/files.ts";
import { makeDisk } from "../../../src/stage/disk.ts";
import type { InodeNumbers } from "../../../src/stage/inode-numbers.ts";
import { layerPaths } from "../../../src/stage/root.ts";

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
  /** Of its disk, if it has one of its own. */
  numbers?: InodeNumbers;
}

const DISK_BYTES = 64 << 20;

/** Everything in a layer on a disk of its own, with its inode number; names that hide one of the layer below are not told of. */
export function numbersIn(layer: Layer): Record<string, bigint> {
  const found: Record<string, bigint> = {};
  const visit = (directory: Buffer, shown: string) => {
    for (const name of readdirSync(directory, { encoding: "buffer" })) {
      const path = Buffer.concat([directory, Buffer.from("/"), name]);
      const { ino, rdev, mode } = lstatSync(path, { bigint: true });
      if ((Number(mode) & MODE_TYPE) === TYPE_BITS.character && rdev === 0n) continue;
      const inner = `${shown}/${name.toString("latin1")}`;
      found[inner] = ino;
      if ((Number(mode) & MODE_TYPE) === TYPE_BITS.directory) visit(path, inner);
    }
  };
  visit(Buffer.from(layerPaths(layer.directory).upper), "");
  return found;
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

  /** As `mount`, on a disk of its own. @param standby a clone's */
  mountOnDisk(name: string, lower: string, standby: boolean, bytes = DISK_BYTES): Layer {
    const directory = this.path(name);
    const numbers = makeDisk(directory, { bytes, identity: "test" }, standby);
    this.#mounted.push(numbers.directory);
    const root = this.path(`${name}/root`);
    const { upper, work } = layerPaths(directory);
    const options = `lowerdir=${lower},upperdir=${upper},workdir=${work},xino=on`;
    call("mount", cString("overlay"), cString(root), cString("overlay"), 0, cString(options));
    this.#mounted.push(root);
    return { directory, lower, root, rootFd: openPath(root, O_PATH), numbers };
  }

  /**
   * An ext4 of its own, which goes with all that is in it: where the machine's discards what is freed at once, as `mount -o discard` has it,
   * a hundred thousand small files would go one after the other.
   */
  mountApart(name: string, bytes: number): string {
    const directory = this.path(name);
    const image = join(this.directory, `${name}.img`);
    writeFileSync(image, "");
    truncateSync(image, bytes);
    execFileSync("mkfs.ext4", ["-q", "-F", "-i", "4096", image]);
    execFileSync("mount", ["-o", "loop", image, directory]);
    this.#mounted.unshift(directory);
    return directory;
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
