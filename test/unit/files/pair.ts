/** A layer and its clone, for tests of single ways to change files; at the end both must be the same. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { after, before, test } from "node:test";
import { type CutHints, FileCapture } from "../../../src/files/capture.ts";
import type { FileOperation } from "../../../src/files/change.ts";
import type { FileLog } from "../../../src/files/log.ts";
import { findLog } from "./file-log.ts";
import { TestClone } from "./filling.ts";
import { type Layer, MS_STRICTATIME, Overlays, ownMounts } from "./overlays.ts";
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
/** What is in memory only: nothing, a volume, the whole layer. */
type Memory = "nothing" | "volume" | "layer";

let log: FileLog | undefined;
before(async () => {
  ownMounts();
  log = await findLog();
});
after(() => log?.close());

async function onPair(
  way: FileLog | false | undefined,
  memory: Memory,
  body: (pair: Pair) => void | Promise<void>,
): Promise<void> {
  const overlays = new Overlays();
  try {
    const lower = overlays.path("lower");
    // As a stage mounts them: stage/root.ts.
    if (memory === "layer") overlays.mountMemory("primary");
    const primary = overlays.mount("primary", lower, memory === "layer" ? MS_STRICTATIME : 0);
    const clone = overlays.mount("clone", lower);
    fs.mkdirSync(`${primary.root}${MEMORY}`);
    if (memory === "volume") fs.mkdirSync(`${clone.root}${MEMORY}`);
    const volumes = memory === "volume" ? [{ path: MEMORY, directory: overlays.mountMemory("volume") }] : [];
    for (const { directory } of volumes) overlays.bind(directory, `${primary.root}${MEMORY}`);
    const mounts = volumes.map(({ path }) => path);
    const capture = new FileCapture({ filesDirectory: primary.directory, lower, log: way, mounts, volumes });
    const filled = new TestClone(clone.rootFd);
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

export const same = (pair: Pair) => assert.deepEqual(describe(pair.clone.root), describe(pair.primary.root));

export function twice(name: string, body: (pair: Pair) => void | Promise<void>): void {
  test(`${name}, by comparing`, () => onPair(false, "nothing", body));
  test(`${name}, as the kernel's log tells`, () => onPair(log, "nothing", body));
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
