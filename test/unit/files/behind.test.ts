/** Large writes are under way while other steps are taken. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { FileApply } from "../../../src/files/apply.ts";
import type { FileChange } from "../../../src/files/change.ts";
import { closeDescriptor, openPath } from "../../../src/kernel/calls.ts";

const directory = fs.mkdtempSync(join(tmpdir(), "understudy-apply-"));
after(() => fs.rmSync(directory, { recursive: true }));

const NAMES = 300;
const LARGE_BYTES = 3 << 20;

function begin(name: string): { root: string; apply: FileApply; [Symbol.dispose](): void } {
  const root = join(directory, name);
  fs.mkdirSync(root);
  const rootFd = openPath(root, fs.constants.O_DIRECTORY);
  const apply = new FileApply(rootFd);
  const dispose = () => {
    apply.close();
    closeDescriptor(rootFd);
  };
  return { root, apply, [Symbol.dispose]: dispose };
}

const steps = (apply: FileApply, change: FileChange) => apply.steps({ op: "file", change });

test("a step that goes on after a pause does not take the file from under a large write", () => {
  using begun = begin("paused");
  const { root, apply } = begun;
  for (let round = 0; round < 20; round++) {
    const crowded = join(root, `crowded-${round}`);
    fs.mkdirSync(crowded);
    for (let i = 0; i < NAMES; i++) fs.writeFileSync(join(crowded, String(i)), "");
    apply.apply({ op: "file", change: { type: "file", path: "/large" } });
    // A file in the place of a directory with much in it: it goes in pieces.
    const paused = steps(apply, { type: "file", path: `/crowded-${round}` });
    assert.equal(paused.next().done, false);
    const bytes = Buffer.alloc(LARGE_BYTES, round + 1);
    for (const _pause of steps(apply, { type: "write", path: "/large", at: 0, bytes }));
    for (const _pause of { [Symbol.iterator]: () => paused });
    apply.settle();
    assert.ok(fs.readFileSync(join(root, "large")).equals(bytes));
    assert.equal(fs.statSync(crowded).size, 0);
  }
});

test("writes to one file after the other, large and small, with what else is done to files between", () => {
  using begun = begin("mixed");
  const { root, apply } = begun;
  const expected = new Map<string, Buffer>();
  let released = 0;
  for (let i = 0; i < 40; i++) {
    const path = `/file-${i % 7}`;
    if (!expected.has(path)) for (const _pause of steps(apply, { type: "file", path }));
    const bytes = Buffer.alloc([1000, LARGE_BYTES, 300_000][i % 3]! + i, i + 1);
    const at = (i * 1013) % 5000;
    const before = expected.get(path) ?? Buffer.alloc(0);
    const now = Buffer.alloc(Math.max(before.length, at + bytes.length));
    before.copy(now);
    bytes.copy(now, at);
    expected.set(path, now);
    for (const _pause of steps(apply, { type: "write", path, at, bytes, release: () => released++ }));
    if (i % 5 === 4) {
      const size = now.length - 500;
      for (const _pause of steps(apply, { type: "size", path, size }));
      expected.set(path, now.subarray(0, size));
    }
  }
  apply.settle();
  for (const [path, bytes] of expected) assert.ok(fs.readFileSync(join(root, path)).equals(bytes), path);
  // Of small ones the caller has them back by himself.
  assert.equal(released, 26);
});
