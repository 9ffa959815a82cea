/** What is brought to the disk, and in which order. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { FileApply } from "../../../src/files/apply.ts";
import { FileCapture } from "../../../src/files/capture.ts";
import type { FileChange } from "../../../src/files/change.ts";
import { DurableFiles } from "../../../src/files/durable.ts";
import { closeDescriptor } from "../../../src/kernel/calls.ts";
import { Overlays, ownMounts } from "./overlays.ts";
import { isFileStep, perform, step } from "./program.ts";

const SEED = Number(process.env.FILES_SEED ?? Math.floor(Math.random() * 2 ** 31));
const record = { epoch: 7, term: 1, at: "2026-01-01T00:00:00.000Z" };

ownMounts();

interface Seen {
  inode: number;
  changed: bigint;
}

/** Every file and directory below, with the time of its last change. */
function lookAt(root: string): Map<string, Seen> {
  const found = new Map<string, Seen>();
  const visit = (path: string) => {
    const at = Buffer.from(`${root}${path}`, "latin1");
    const status = fs.lstatSync(at, { bigint: true });
    if (status.isFile() || status.isDirectory())
      found.set(path, { inode: Number(status.ino), changed: status.ctimeNs });
    if (status.isDirectory())
      for (const name of fs.readdirSync(at, { encoding: "latin1" }))
        visit(path === "/" ? `/${name}` : `${path}/${name}`);
  };
  visit("/");
  return found;
}

test(`every file and directory that a checkpoint changed is brought to the disk (seed ${SEED})`, async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step.filter(isFileStep), { maxLength: 30, size: "max" }),
      fc.nat(30),
      async (steps, at) => {
        const overlays = new Overlays();
        try {
          const primary = overlays.mount("primary", overlays.path("lower"));
          const clone = overlays.mount("clone", overlays.path("lower"));
          const capture = new FileCapture({
            filesDirectory: primary.directory,
            lower: overlays.path("lower"),
            log: false,
          });
          const apply = new FileApply(clone.rootFd);
          let synced: string[] = [];
          const durable = new DurableFiles("", join(clone.directory, "record.json"), async (path) => {
            synced.push(path.toString("latin1"));
          });
          const take = (change: FileChange) => {
            apply.apply({ op: "file", change });
            durable.note(change);
          };
          await capture.copyAll({
            emit: ({ change }) => take(change),
            pause: async () => {},
            sentBytes: () => 0,
            expect: (files) => files,
          });
          for (const one of steps.slice(0, at)) perform(primary.root, primary.rootFd, one);
          for (const { change } of capture.cut()) take(change);
          await durable.commit(record);
          const before = lookAt(clone.root);
          synced = [];
          for (const one of steps.slice(at)) perform(primary.root, primary.rootFd, one);
          for (const { change } of capture.cut()) take(change);
          await durable.commit(record);
          const paths = new Set(synced);
          for (const [path, { inode, changed }] of lookAt(clone.root)) {
            const old = before.get(path);
            if (old?.inode === inode && old.changed === changed) continue;
            // One of an inode's names is enough.
            const names = [...lookAt(clone.root)].filter(([, seen]) => seen.inode === inode).map(([name]) => name);
            assert.ok(
              names.some((name) => paths.has(name)),
              `${JSON.stringify(path)} is not on the disk; ${[...paths]}`,
            );
          }
          capture.close();
          apply.close();
          closeDescriptor(primary.rootFd);
          closeDescriptor(clone.rootFd);
        } finally {
          overlays.remove();
        }
      },
    ),
    { seed: SEED, numRuns: Number(process.env.FILES_RUNS ?? 60) },
  );
});

test("the record comes when all of the files are there, and tells of no more", async () => {
  const overlays = new Overlays();
  try {
    const path = join(overlays.directory, "record.json");
    const waiting: Array<() => void> = [];
    const durable = new DurableFiles("/root", path, () => new Promise((done) => waiting.push(done)));
    durable.note({ type: "write", path: "/a", at: 0, bytes: Buffer.alloc(1) });
    durable.note({ type: "file", path: "/d/b" });
    const done = durable.commit(record);
    await new Promise(setImmediate);
    assert.equal(waiting.length, 3);
    waiting.pop()!();
    waiting.pop()!();
    await new Promise(setImmediate);
    assert.ok(!fs.existsSync(path));
    waiting.pop()!();
    await done;
    assert.deepEqual(JSON.parse(fs.readFileSync(path, "utf8")), record);
  } finally {
    overlays.remove();
  }
});

test("files, directories and what is gone can be brought to the disk; links and devices are left alone", async () => {
  const overlays = new Overlays();
  try {
    const root = overlays.path("root");
    fs.mkdirSync(`${root}/d`);
    fs.writeFileSync(`${root}/d/f`, "text");
    fs.symlinkSync("/dev/watchdog", `${root}/link`);
    const durable = new DurableFiles(root, join(overlays.directory, "record.json"));
    for (const path of ["/d/f", "/d", "/link", "/gone", "/d/f/gone", "/"])
      durable.note({ type: "size", path, size: 0 });
    await durable.commit(record);
    await assert.rejects(new DurableFiles(root, join(root, "nowhere/record.json")).commit(record), { code: "ENOENT" });
  } finally {
    overlays.remove();
  }
});
