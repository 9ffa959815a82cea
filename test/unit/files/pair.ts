/** A layer and its clone, for tests of single ways to change files; at the end both must be the same. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { after, before, test } from "node:test";
import { type CutHints, FileCapture } from "../../../src/files/capture.ts";
import type { FileOperation } from "../../../src/files/change.ts";
import type { FileLog } from "../../../src/files/log.ts";
import { findLog } from "./file-log.ts";
import { TestClone } from "./filling.ts";
import { type Layer, MS_STRICTATIME, numbersIn, Overlays, ownMounts } from "./overlays.ts";
import { describe } from "./program.ts";

export interface Pair {
  primary: Layer;
  clone: Layer;
  emit: (operation: FileOperation) => void;
  cut: (hints?: CutHints) => FileOperation[];
  capture: FileCapture;
  filled: TestClone;
}

/** Path of what is in memory, see `inMemory`. */
export const MEMORY = "/memory";
/** What is in memory only: nothing, a volume, the whole layer; or the layer is on a disk of its own. */
type Where = "nothing" | "volume" | "layer" | "disk";

let log: FileLog | undefined;
before(async () => {
  ownMounts();
  log = await findLog();
});
after(() => log?.close());

async function onPair(
  way: FileLog | false | undefined,
  where: Where,
  body: (pair: Pair) => void | Promise<void>,
): Promise<void> {
  const overlays = new Overlays();
  try {
    const lower = overlays.path("lower");
    // As a stage mounts them: stage/root.ts.
    if (where === "layer") overlays.mountMemory("primary");
    const mount = (name: string, flags = 0) =>
      where === "disk" ? overlays.mountOnDisk(name, lower, name === "clone") : overlays.mount(name, lower, flags);
    const primary = mount("primary", where === "layer" ? MS_STRICTATIME : 0);
    const clone = mount("clone");
    fs.mkdirSync(`${primary.root}${MEMORY}`);
    if (where === "volume") fs.mkdirSync(`${clone.root}${MEMORY}`);
    const volumes = where === "volume" ? [{ path: MEMORY, directory: overlays.mountMemory("volume") }] : [];
    for (const { directory } of volumes) overlays.bind(directory, `${primary.root}${MEMORY}`);
    const mounts = volumes.map(({ path }) => path);
    const { directory: filesDirectory, numbers } = primary;
    const capture = new FileCapture({ filesDirectory, lower, log: way, mounts, volumes, numbers });
    const filled = new TestClone(clone.rootFd, undefined, clone.numbers);
    const emit = (operation: FileOperation) => filled.apply.apply(operation);
    const cut = (hints?: CutHints) => {
      const operations = capture.cut(hints);
      operations.forEach(emit);
      return operations;
    };
    const pair = { primary, clone, emit, cut, capture, filled };
    await body(pair);
    same(pair);
    capture.close();
    filled.apply.close();
  } finally {
    overlays.remove();
  }
}

export function same({ clone, primary }: Pair): void {
  assert.deepEqual(describe(clone.root), describe(primary.root));
  if (primary.numbers) assert.deepEqual(numbersIn(clone), numbersIn(primary));
}

export function twice(name: string, body: (pair: Pair) => void | Promise<void>): void {
  test(`${name}, by comparing`, () => onPair(false, "nothing", body));
  test(`${name}, as the kernel's log tells`, () => onPair(log, "nothing", body));
}

/** With layers on disks of their own: the numbers of inodes are the same as well. */
export function onDisk(name: string, body: (pair: Pair) => void | Promise<void>): void {
  test(`${name}, by comparing`, () => onPair(false, "disk", body));
  // A log of its own: the disk is another device.
  test(`${name}, as the kernel's log tells`, () => onPair(undefined, "disk", body));
}

/** What only the log can do. Without one, the clone is filled all the same, and the capture tells what is missing. */
export function logged(name: string, body: (pair: Pair) => void | Promise<void>): void {
  test(name, () => onPair(log, "nothing", log ? body : saysWhatIsMissing));
}

async function saysWhatIsMissing(pair: Pair): Promise<void> {
  await started(pair);
  assert.match(pair.capture.logMissing ?? "", /^Changes of files cannot be followed by range: /);
}

/** With a directory in memory at `MEMORY`: of a volume, and of a layer. */
export function inMemory(name: string, body: (pair: Pair) => void | Promise<void>): void {
  test(`${name}, of a volume`, () => onPair(false, "volume", body));
  test(`${name}, of a layer`, () => onPair(false, "layer", body));
}

export const started = (pair: Pair) => pair.filled.fill(pair.capture);
