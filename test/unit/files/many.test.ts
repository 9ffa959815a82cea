/** 100,000 small files: told a few at a time, all there, and a cut that looks at none of them but the one that changed. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { test } from "node:test";
import { FileCapture } from "../../../src/files/capture.ts";
import type { FileOperation } from "../../../src/files/change.ts";
import type { FileLog } from "../../../src/files/log.ts";
import { findLog } from "./file-log.ts";
import { TestClone } from "./filling.ts";
import { Overlays, ownMounts } from "./overlays.ts";

const FILES = 100_000;
const IN_A_DIRECTORY = 1000;
/** Each takes a block, three times. */
const APART_BYTES = 4 * 2 ** 30;
/** Names that may be told before others have a turn. */
const MOST_AT_ONCE = 500;

/** Names, lengths, permissions, times and bytes of all files. */
function digest(root: string): string {
  const script = `find . ! -type d -printf '%p %s %m %T@\\n' | sort; find . -type f -print0 | sort -z | xargs -0 cat`;
  return execFileSync("sh", ["-c", `{ ${script}; } | sha256sum`], { cwd: root, encoding: "utf8" });
}

function makeFiles(directory: string): void {
  for (let i = 0; i < FILES; i++) {
    const parent = `${directory}/${Math.floor(i / IN_A_DIRECTORY)}`;
    if (i % IN_A_DIRECTORY === 0) fs.mkdirSync(parent);
    fs.writeFileSync(`${parent}/${i}`, `small file ${i}`);
  }
}

test("100,000 small files to one clone, then, while it follows, to another", { timeout: 280_000 }, async () => {
  ownMounts();
  const overlays = new Overlays();
  let log: FileLog | undefined;
  try {
    const lower = overlays.path("lower");
    const apart = overlays.mountApart("apart", APART_BYTES);
    log = await findLog(apart);
    const [primary, first, second] = ["primary", "first", "second"].map((name) =>
      overlays.mount(`apart/${name}`, lower),
    );
    makeFiles(`${primary!.directory}/upper`);
    const capture = new FileCapture({ filesDirectory: primary!.directory, lower, log });
    const follower = new TestClone(first!.rootFd);
    await follower.fill(capture);
    for (const operation of capture.cut()) follower.take(operation);
    const changed = `${primary!.root}/7/7777`;
    fs.appendFileSync(changed, ", longer");
    const told = capture.cut();
    assert.ok(told.length <= 3, `${told.length} steps for one file`);
    for (const operation of told) follower.take(operation);

    // A newcomer is told of all names. In each pause the application writes and the follower gets that.
    let [names, mostAtOnce, pauses] = [0, 0, 0];
    const newcomer: FileOperation[] = [];
    const meanwhile: FileOperation[] = [];
    const emit = (operation: FileOperation) => {
      newcomer.push(operation);
      names++;
    };
    const pause = async () => {
      mostAtOnce = Math.max(mostAtOnce, names);
      names = 0;
      if (pauses++ % 50 > 0) return;
      fs.appendFileSync(changed, ".");
      const before = meanwhile.length;
      for (const operation of capture.cut()) {
        follower.take(operation);
        meanwhile.push(operation);
      }
      assert.ok(meanwhile.length > before, "the follower gets a checkpoint meanwhile");
    };
    await capture.introduce(emit, pause);
    assert.ok(newcomer.length > FILES);
    assert.ok(Math.max(mostAtOnce, names) <= MOST_AT_ONCE, `${mostAtOnce} names without a pause`);

    const late = new TestClone(second!.rootFd);
    await late.fill(capture, { others: (operation) => follower.take(operation) });
    for (const operation of capture.cut()) for (const clone of [follower, late]) clone.take(operation);
    const wanted = digest(primary!.root);
    assert.equal(digest(first!.root), wanted);
    assert.equal(digest(second!.root), wanted);
    capture.close();
    for (const { apply } of [follower, late]) apply.close();
  } finally {
    log?.close();
    overlays.remove();
  }
});
