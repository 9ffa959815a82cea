/** What applications rely on, each by itself: names, appending, holes, sizes beyond memory, a name that leads to another file. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { test } from "node:test";
import { FileApply } from "../../../src/files/apply.ts";
import { call, closeDescriptor } from "../../../src/kernel/calls.ts";
import { rawPath, setExtended } from "../../../src/kernel/files.ts";
import { Overlays, ownMounts } from "./overlays.ts";
import { logged, MEMORY, same, started, twice } from "./pair.ts";
import { describe } from "./program.ts";

const raw = (root: string, name: string) => Buffer.concat([Buffer.from(`${root}/`), Buffer.from(name, "latin1")]);

/** As long as a name may be; bytes that are no UTF-8; what a shell, a terminal or a line would trip over. */
const NAMES = ["n".repeat(255), "\xff\xfe\x80", "\xc3", " ", "-rf", "a\nb", "\x01\x1b[31m", "*?[", "\\", "\xf0\x9f"];

twice("long names, names that are not UTF-8, names with anything in them", async (pair) => {
  const { root } = pair.primary;
  for (const name of NAMES.slice(0, 5)) fs.writeFileSync(raw(root, name), name);
  await started(pair);
  pair.cut();
  for (const name of NAMES.slice(5)) {
    fs.mkdirSync(raw(root, name));
    fs.writeFileSync(Buffer.concat([raw(root, name), Buffer.from(`/${NAMES[0]}`)]), name);
    fs.symlinkSync(Buffer.from(NAMES[1]!, "latin1"), Buffer.concat([raw(root, name), Buffer.from("/link")]));
  }
  for (const name of NAMES.slice(1, 5)) fs.renameSync(raw(root, name), raw(root, `${name}x`));
  pair.cut();
});

twice("a way longer than any path may be is named, and forgotten when it is gone", async (pair) => {
  await started(pair);
  pair.cut();
  pair.capture.checkPaths();
  // Nobody can say such a path at once: it is gone step by step.
  const script = `n=$(printf 'd%.0s' $(seq 200)); for i in $(seq 25); do mkdir $n && cd -P $n || exit 1; done; echo text >file`;
  execFileSync("sh", ["-c", script], { cwd: pair.primary.root });
  for (let i = 0; i < 2; i++) {
    pair.cut();
    assert.throws(() => pair.capture.checkPaths(), { code: "unprotectable-path", message: /"\/d{200}\// });
  }
  execFileSync("sh", ["-c", "rm -r d*"], { cwd: pair.primary.root });
  pair.cut();
  pair.capture.checkPaths();
});

twice("appending, by several descriptors at once", async (pair) => {
  const path = `${pair.primary.root}/log`;
  const fds = [0, 1, 2].map(() => fs.openSync(path, "a"));
  await started(pair);
  for (let round = 0; round < 20; round++) {
    for (const [i, fd] of fds.entries()) fs.writeSync(fd, `${round} of ${i}\n`);
    if (round % 3 === 0) pair.capture.preDump(pair.emit);
    if (round % 5 !== 0) continue;
    pair.cut();
    same(pair);
  }
  for (const fd of fds) fs.closeSync(fd);
  assert.equal(fs.readFileSync(path, "utf8").split("\n").length, 61);
  pair.cut();
});

const GIGA = 2 ** 30;

twice("a sparse file stays sparse, and costs what is in it", async (pair) => {
  const path = `${pair.primary.root}/sparse`;
  const fd = fs.openSync(path, "w");
  fs.ftruncateSync(fd, 20 * GIGA);
  for (const at of [0, 3 * GIGA, 15 * GIGA + 4097]) fs.writeSync(fd, "data", at);
  const { written } = await started(pair);
  assert.ok(written < 4 * 2 ** 20, `${written} bytes for three blocks`);
  fs.writeSync(fd, "more", 19 * GIGA);
  fs.closeSync(fd);
  pair.cut();
  const [here, there] = [pair.primary, pair.clone].map(({ root }) => fs.statSync(`${root}/sparse`));
  assert.equal(there!.size, 20 * GIGA);
  assert.ok(there!.blocks <= 2 * here!.blocks + 64, `${there!.blocks} blocks instead of ${here!.blocks}`);
  for (const at of [0, 3 * GIGA, 15 * GIGA + 4097, 19 * GIGA, 10 * GIGA]) {
    const parts = [pair.primary, pair.clone].map(({ root }) => {
      const part = fs.openSync(`${root}/sparse`, "r");
      const bytes = Buffer.alloc(8);
      fs.readSync(part, bytes, 0, 8, at);
      fs.closeSync(part);
      return bytes;
    });
    assert.deepEqual(parts[1], parts[0]);
  }
  // Compared as a whole it would be read as a whole.
  for (const { root } of [pair.primary, pair.clone]) fs.rmSync(`${root}/sparse`);
  pair.cut();
});

const LARGE = 768 << 20;
const SHARE = 4;

twice("a file is copied, and changed, in a fraction of its size of memory", async (pair) => {
  const path = `${pair.primary.root}/large`;
  execFileSync("sh", ["-c", `head -c ${LARGE} /dev/urandom >large`], { cwd: pair.primary.root });
  const before = process.memoryUsage.rss();
  let most = 0;
  const pause = async () => {
    most = Math.max(most, process.memoryUsage.rss() - before);
  };
  await pair.filled.fill(pair.capture, { pause });
  assert.ok(most < LARGE / SHARE, `${most} bytes of memory for ${LARGE}`);
  pair.cut();
  execFileSync("sh", ["-c", `head -c ${LARGE} /dev/urandom >large`], { cwd: pair.primary.root });
  while (pair.capture.preDump(pair.emit)) await pause();
  pair.cut();
  await pause();
  assert.ok(most < LARGE / SHARE, `${most} bytes of memory for ${LARGE}`);
  assert.equal(fs.statSync(path).size, LARGE);
});

twice("a name that leads to another file while the first is open and written on", async (pair) => {
  const path = (name: string) => `${pair.primary.root}/${name}`;
  fs.writeFileSync(path("current"), "old");
  const old = fs.openSync(path("current"), "r+");
  fs.linkSync(path("current"), path("kept"));
  await started(pair);
  pair.cut();
  fs.writeFileSync(path("new"), "new");
  fs.renameSync(path("new"), path("current"));
  fs.writeSync(old, "and on", 3);
  pair.cut();
  same(pair);
  assert.equal(fs.readFileSync(`${pair.clone.root}/kept`, "utf8"), "oldand on");
  assert.equal(fs.readFileSync(`${pair.clone.root}/current`, "utf8"), "new");
  fs.closeSync(old);
});

const MANY = 3000;
/** Names that may go before others have a turn. */
const MOST_AT_ONCE = 100;

twice("a directory that goes with thousands of files pauses for others", async (pair) => {
  const directory = `${pair.primary.root}/many`;
  for (const name of ["", "/a", "/b"]) fs.mkdirSync(directory + name);
  for (let i = 0; i < MANY; i++) fs.writeFileSync(`${directory}/${["a", "b"][i % 2]}/${i}`, "");
  await started(pair);
  pair.cut();
  fs.rmSync(directory, { recursive: true });
  const { apply } = pair.filled;
  let pauses = 0;
  for (const operation of pair.capture.cut()) {
    const steps = apply.steps(operation);
    // Something else is applied meanwhile: a program that the clone lacked is sent.
    for (; !steps.next().done; pauses++)
      apply.apply({ op: "file", change: { type: "directory", path: MEMORY, fresh: false } });
  }
  assert.ok(pauses >= MANY / MOST_AT_ONCE, `${pauses} pauses`);
});

/** Steps for one new file: it, its length, its bytes, its attributes. */
const STEPS_A_FILE = 4;

logged(
  "thousands of new, changed and gone files are told ahead a few at a time, and none is left to the cut",
  async (pair) => {
    const path = (i: number) => `${pair.primary.root}/many/${i % 10}/${i}`;
    for (let i = 0; i < 10; i++) fs.mkdirSync(`${pair.primary.root}/many/${i}`, { recursive: true });
    await started(pair);
    pair.cut();
    const changes: Array<(i: number) => void> = [
      (i) => fs.writeFileSync(path(i), `file ${i}`),
      (i) => fs.appendFileSync(path(i), ", longer"),
      (i) => fs.renameSync(path(i), `${path(i)}.old`),
    ];
    for (const change of changes) {
      for (let i = 0; i < MANY; i++) change(i);
      let most = 0;
      for (let more = true; more; ) {
        let steps = 0;
        more = pair.capture.preDump((operation) => {
          steps++;
          pair.emit(operation);
        });
        most = Math.max(most, steps);
      }
      assert.ok(most < (MANY / 3) * STEPS_A_FILE, `${most} steps at once`);
      const left = pair.cut().length;
      assert.ok(left < MANY / 10, `${left} steps in the cut`);
      same(pair);
    }
  },
);

test("a step that is given up in a pause leaves no descriptor open", () => {
  ownMounts();
  const overlays = new Overlays();
  const { root, rootFd } = overlays.mount("clone", overlays.path("lower"));
  for (let i = 0; i < MANY; i++) fs.mkdirSync(`${root}/many/${i}`, { recursive: true });
  const apply = new FileApply(rootFd);
  const descriptors = fs.readdirSync("/proc/self/fd").length;
  const steps = apply.steps({ op: "file", change: { type: "remove", path: "/many" } });
  assert.equal(steps.next().done, false);
  steps.return();
  apply.close();
  assert.equal(fs.readdirSync("/proc/self/fd").length, descriptors);
  assert.ok(fs.readdirSync(`${root}/many`).length > 0);
  closeDescriptor(rootFd);
  overlays.remove();
});

/** As the kernel takes them: linux/posix_acl_xattr.h, linux/capability.h. */
function accessList(mode: number, user: number): Buffer {
  const entries = [
    [0x01, 6, -1],
    [0x02, mode, user],
    [0x04, 4, -1],
    [0x10, 7, -1],
    [0x20, 0, -1],
  ] as const;
  const list = Buffer.alloc(4 + 8 * entries.length);
  list.writeUInt32LE(2, 0);
  for (const [i, [tag, permissions, id]] of entries.entries()) {
    list.writeUInt16LE(tag, 4 + 8 * i);
    list.writeUInt16LE(permissions, 6 + 8 * i);
    list.writeInt32LE(id, 8 + 8 * i);
  }
  return list;
}
const netBindService = Buffer.from(Uint32Array.of(0x02000001, 1 << 10, 0, 0, 0).buffer);

twice("access control lists, also for what is made in a directory, and capabilities of files", async (pair) => {
  const at = (name: string) => `${pair.primary.root}/${name}`;
  const set = (name: string, attribute: string, value: Buffer) =>
    assert.equal(setExtended(at(name), attribute, value), 0, `${attribute} of ${name}`);
  fs.mkdirSync(at("shared"));
  fs.writeFileSync(at("program"), "program");
  set("shared", "system.posix_acl_default", accessList(4, 1000));
  set("program", "security.capability", netBindService);
  await started(pair);
  pair.cut();
  fs.writeFileSync(at("shared/inherits"), "text");
  set("program", "system.posix_acl_access", accessList(5, 1001));
  pair.cut();
  same(pair);
  const lines = describe(pair.clone.root);
  assert.match(lines.find((line) => line.startsWith('"program"'))!, /security\.capability=.+posix_acl_access=/);
  assert.match(lines.find((line) => line.startsWith('"shared/inherits"'))!, /posix_acl_access=/);
  // A write takes the capability away, a change of owner as well.
  fs.appendFileSync(at("program"), "changed");
  set("shared/inherits", "system.posix_acl_access", accessList(7, 1002));
  fs.chownSync(at("shared/inherits"), 1000, 1000);
  pair.cut();
});

const O_TMPFILE = 0o20200000;
const AT_FDCWD = -100;
const AT_SYMLINK_FOLLOW = 0x400;

twice("a file that gets its name when it is written", async (pair) => {
  const { root } = pair.primary;
  const path = `${root}/complete`;
  const make = () => fs.openSync(root, O_TMPFILE | fs.constants.O_RDWR, 0o640);
  const name = (fd: number) =>
    call("linkat", AT_FDCWD, rawPath(`/proc/self/fd/${fd}`), AT_FDCWD, rawPath(path), AT_SYMLINK_FOLLOW);
  const first = make();
  fs.writeSync(first, "first ".repeat(10_000));
  await started(pair);
  name(first);
  pair.cut();
  same(pair);
  fs.writeSync(first, "and more");
  const second = make();
  fs.writeSync(second, "second");
  pair.cut();
  fs.unlinkSync(path);
  name(second);
  fs.writeSync(second, ", written on");
  pair.cut();
  for (const fd of [first, second]) fs.closeSync(fd);
});
