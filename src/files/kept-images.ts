/**
 * Disks of applications (stage/disk.ts) that were given up, kept as layers are (kept.ts): `DIRECTORY/0.img`, `1.img` …, each mounted
 * at `0.disk`, `1.disk` … while a clone is made that may take blocks from them.
 */
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statfsSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { closeDescriptor, openPath } from "../kernel/calls.ts";
import { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } from "../kernel/files.ts";
import { isOnLoop } from "../kernel/loop.ts";
import { diskPaths, isMounted, mountImage, unmountSoon } from "../stage/disk.ts";

const run = promisify(execFile);
/** Each has the size of the whole disk. */
const MOST = 2;
/** What was written last is on its way to the image still; its application is just ending. */
const RELEASE_MS = 10_000;
const POLL_MS = 20;

/** Takes a files directory's disk out of the way; the image's name is free when this returns its promise. */
export async function keepImage(filesDirectory: string, directory: string): Promise<void> {
  const { image, mounted } = diskPaths(filesDirectory);
  if (existsSync(image)) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    renameSync(image, join(directory, `${1 + Math.max(-1, ...images(directory))}.img`));
  }
  while (isMounted(mounted)) await unmountSoon(mounted);
}

function images(directory: string): number[] {
  if (!existsSync(directory)) return [];
  const names = readdirSync(directory).filter((name) => /^\d+\.img$/.test(name));
  return names.map((name) => Number.parseInt(name, 10)).sort((a, b) => a - b);
}

/** That they take of the node's disk. */
export function keptBytes(directory: string): number {
  const taken = images(directory).map((n) => statSync(join(directory, `${n}.img`)).blocks * 512);
  return taken.reduce((sum, bytes) => sum + bytes, 0);
}

/** Descriptors of the layers in them, the fullest first. What cannot be had is removed: it will be sent again. */
export async function openImages(directory: string): Promise<number[]> {
  const reached: Array<{ n: number; used: number }> = [];
  for (const n of images(directory)) {
    try {
      const { blocks, bfree } = statfsSync(await reachImage(directory, n));
      reached.push({ n, used: blocks - bfree });
    } catch {
      await removeImage(directory, n);
    }
  }
  reached.sort((a, b) => b.used - a.used);
  for (const { n } of reached.splice(MOST)) await removeImage(directory, n);
  return reached.map(({ n }) => openPath(join(directory, `${n}.disk`, "upper"), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
}

/** Where it is mounted. */
async function reachImage(directory: string, n: number): Promise<string> {
  const [image, mounted] = [join(directory, `${n}.img`), join(directory, `${n}.disk`)];
  mkdirSync(mounted, { recursive: true });
  if (!isMounted(mounted)) {
    // Mounted twice it would be destroyed.
    if (!(await isReleased(image))) throw new Error(`"${image}" is still in use`);
    // What is taken from it makes room for the new one.
    mountImage(image, mounted, "noinit_itable,discard");
    await run("fstrim", [mounted]).catch(() => {});
  }
  return mounted;
}

/** Whether nobody uses the image any more, at last. */
async function isReleased(image: string): Promise<boolean> {
  const deadline = performance.now() + RELEASE_MS;
  while (isOnLoop(image)) {
    if (performance.now() > deadline) return false;
    await sleep(POLL_MS);
  }
  return true;
}

/** Its room is there for the next one when this resolves, if anyhow possible. */
async function removeImage(directory: string, n: number): Promise<void> {
  const [image, mounted] = [join(directory, `${n}.img`), join(directory, `${n}.disk`)];
  while (isMounted(mounted)) await unmountSoon(mounted);
  await isReleased(image);
  rmSync(image, { force: true });
  rmSync(mounted, { recursive: true, force: true });
}

/** All of them go, with these descriptors of theirs. */
export async function removeImages(directory: string, fds: readonly number[]): Promise<void> {
  fds.forEach(closeDescriptor);
  for (const n of images(directory)) await removeImage(directory, n);
}
