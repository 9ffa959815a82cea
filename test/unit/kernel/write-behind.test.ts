/** Large writes by a thread of their own: all of them, in their order, and what becomes of those that cannot be made. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { SystemCallError } from "../../../src/kernel/errors.ts";
import { WriteBehind } from "../../../src/kernel/write-behind.ts";

const directory = fs.mkdtempSync(join(tmpdir(), "understudy-behind-"));
after(() => fs.rmSync(directory, { recursive: true }));

/** A file open to write, and its path. */
function file(name: string, where = directory): { path: string; fd: number } {
  const path = join(where, name);
  return { path, fd: fs.openSync(path, "w+") };
}

const MEGA = 1 << 20;

test("what overlaps is written in its order, more than may wait at once, and every piece is given back once", () => {
  const behind = new WriteBehind();
  const { path, fd } = file("order");
  const expected = Buffer.alloc(3 * MEGA);
  const released: number[] = [];
  for (let i = 0; i < 60; i++) {
    const bytes = Buffer.alloc(MEGA + i * 1000, i + 1);
    const at = (i * 70_001) % MEGA;
    bytes.copy(expected, at);
    behind.write(fd, { path, bytes, at, release: () => released.push(i) });
  }
  behind.settle();
  const end = fs.fstatSync(fd).size;
  assert.ok(fs.readFileSync(path).equals(expected.subarray(0, end)));
  assert.deepEqual(
    released,
    Array.from({ length: 60 }, (_, i) => i),
  );
  assert.ok(behind.isIdle);
  behind.close();
  fs.closeSync(fd);
});

test("a piece that is longer than all that may wait is written", () => {
  const behind = new WriteBehind();
  const { path, fd } = file("long");
  const bytes = Buffer.alloc(9 * MEGA, 7);
  behind.write(fd, { path, bytes, at: 5 });
  behind.write(fd, { path, bytes: Buffer.from("end"), at: 5 + bytes.length });
  behind.settle();
  assert.equal(fs.readFileSync(path).subarray(-4).toString(), "\x07end");
  behind.close();
  fs.closeSync(fd);
});

test("a full disk is told with the path, what came after it is not written, and then all goes on", () => {
  const small = join(directory, "small");
  fs.mkdirSync(small);
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=3m", "tmpfs", small]);
  const behind = new WriteBehind();
  const [full, later] = [file("full", small), file("later")];
  try {
    let released = 0;
    const release = () => released++;
    for (let i = 0; i < 5; i++)
      behind.write(full.fd, { path: full.path, bytes: Buffer.alloc(MEGA, 1), at: i * MEGA, release });
    behind.write(later.fd, { path: later.path, bytes: Buffer.from("too late"), at: 0, release });
    assert.throws(
      () => behind.settle(),
      (error) => error instanceof SystemCallError && error.code === "ENOSPC" && error.message.includes(full.path),
    );
    assert.equal(released, 6);
    assert.equal(fs.fstatSync(later.fd).size, 0);
    behind.write(later.fd, { path: later.path, bytes: Buffer.from("in time"), at: 0 });
    behind.settle();
    assert.equal(fs.readFileSync(later.path, "utf8"), "in time");
  } finally {
    behind.close();
    fs.closeSync(full.fd);
    fs.closeSync(later.fd);
    execFileSync("umount", [small]);
  }
});

test("closed, it has written everything, and can be used anew", () => {
  const behind = new WriteBehind();
  const { path, fd } = file("closed");
  for (let i = 0; i < 8; i++) behind.write(fd, { path, bytes: Buffer.alloc(MEGA, i), at: i * MEGA });
  behind.close();
  assert.equal(fs.readFileSync(path).at(-1), 7);
  behind.write(fd, { path, bytes: Buffer.from("again"), at: 0 });
  behind.settle();
  assert.equal(fs.readFileSync(path).toString("latin1", 0, 5), "again");
  behind.close();
  fs.closeSync(fd);
});
