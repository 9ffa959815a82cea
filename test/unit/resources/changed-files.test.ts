/** Nothing that happens to an open file escapes the kernel's own comparison, and of what nothing happened to it does not tell. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { descriptorInfo } from "../../../src/kernel/procfs.ts";
import { ChangedFiles } from "../../../src/resources/descriptor/changed-files.ts";
import type { OpenFile, OpenFiles, OpenFileWalk } from "../../../src/resources/descriptor/open-files.ts";
import { WholeFiles } from "../../../src/resources/descriptor/whole-files.ts";
import { EpollItems } from "../../../src/resources/epoll/items.ts";
import { STAMP_BYTES } from "../../../src/resources/tcp/stamp.ts";

const SOURCE = resolve(import.meta.dirname, "changed-files.c");
const directory = mkdtempSync(join(tmpdir(), "changed-files-"));
let program: ChildProcess;
/** A cork holds for so long, tcp(7). */
const CORK_MS = 200;
const REST_MS = 10_000;
let lines: AsyncIterator<string>;
let files: OpenFiles;
let changed: OpenFileWalk;
let whole: OpenFileWalk;

/** Has it done what the command says; the numbers that it answers with. */
async function ask(command: string): Promise<number[]> {
  program.stdin!.write(`${command}\n`);
  const { value } = await lines.next();
  assert.match(value, /^ok/, command);
  return value.split(" ").slice(1).map(Number);
}

before(async () => {
  execFileSync("gcc", ["-O1", "-Wall", "-o", join(directory, "program"), SOURCE], { stdio: "inherit" });
  program = spawn(join(directory, "program"), [join(directory, "file")], { stdio: ["pipe", "pipe", "inherit"] });
  lines = createInterface({ input: program.stdout! })[Symbol.asyncIterator]();
  files = new ChangedFiles();
  changed = files.of(program.pid!);
  whole = new WholeFiles().of(program.pid!);
});

after(async () => {
  changed.close();
  whole.close();
  files.close();
  const ended = once(program, "exit");
  program.kill("SIGKILL");
  await ended;
  rmSync(directory, { recursive: true });
});

/** A look of both; what the one that tells of changes alone told of. Both must have come to the same. */
function look(): { differs: boolean; touched: number[] } {
  const then = changed.now;
  const differs = changed.look();
  assert.equal(differs, whole.look());
  const found = changed.files();
  assert.deepEqual(found.map(identity), whole.files().map(identity));
  for (const { fd } of found) {
    assert.deepEqual(stampOf(changed, fd), stampOf(whole, fd), `stamp of ${fd}`);
    assert.deepEqual(changed.plain(fd), whole.plain(fd), `plain stamp of ${fd}`);
  }
  return { differs, touched: [...changed.touchedSince(then)!].sort((a, b) => a - b) };
}

/** Whether a socket was ever locked nobody asks. */
const identity = ({ file, fd, flags }: OpenFile) => ({ file, fd, flags });

function stampOf(walk: OpenFileWalk, fd: number): Buffer | undefined {
  const at = walk.at(fd);
  return at === undefined ? undefined : walk.bytes.subarray(at, at + STAMP_BYTES);
}

/** After the command and a while in which packets arrive, on a busy machine a longer one; then there must be rest. */
async function touchedBy(command: string): Promise<{ differs: boolean; touched: number[] }> {
  await ask(command);
  const touched = new Set<number>();
  const until = performance.now() + REST_MS;
  for (let differs = false; ; differs = true) {
    await new Promise((done) => setTimeout(done, 20));
    const found = look();
    for (const fd of found.touched) touched.add(fd);
    const rest = look();
    if (!rest.differs && rest.touched.length === 0)
      return { differs: differs || found.differs, touched: [...touched].sort((x, y) => x - y) };
    for (const fd of rest.touched) touched.add(fd);
    assert.ok(performance.now() < until, `rest after "${command}"`);
  }
}

/** What they still have to say to each other shall not come into another test. */
async function closeAll(...fds: number[]): Promise<void> {
  for (const fd of fds) await ask(`close ${fd}`);
  await new Promise((done) => setTimeout(done, 50));
  look();
}

test("what an idle process has open is told of once", () => {
  assert.ok(look().differs);
  for (let i = 0; i < 3; i++) assert.deepEqual(look(), { differs: false, touched: [] });
});

/** ECONNRESET */
const RESET = 104;

test("of a socket: what comes, is read, is sent, is shut down, an error, each without the others", async () => {
  const [near, far] = (await ask("connect")) as [number, number];
  assert.ok(look().differs);
  assert.deepEqual((await touchedBy(`write ${near} 100`)).touched, [near, far]);
  // The window is not told to the other side for so little.
  assert.deepEqual((await touchedBy(`read ${far} 1`)).touched, [far]);
  assert.deepEqual((await touchedBy(`read ${far} 99`)).touched, [far]);
  assert.deepEqual((await touchedBy(`shutdown ${far} 0`)).touched, [far]);
  assert.deepEqual((await touchedBy(`keepalive ${far}`)).touched, [far]);
  assert.deepEqual((await touchedBy(`shutdown ${far} 1`)).touched, [near, far]);
  await closeAll(near, far);
  const [one, other] = (await ask("connect")) as [number, number];
  look();
  assert.ok((await touchedBy(`reset ${one}`)).touched.includes(other));
  // Who asks for an error takes it.
  assert.deepEqual((await touchedBy(`error ${other} ${RESET}`)).touched, [other]);
  await closeAll(other);
});

test("of a socket that is corked: nothing leaves yet", async () => {
  for (let tries = 0; tries < 50; tries++) {
    const [near, far] = (await ask("connect")) as [number, number];
    look();
    const began = performance.now();
    const corked = await touchedBy(`cork ${near}`);
    const written = await touchedBy(`write ${near} 10`);
    const tookMs = performance.now() - began;
    await closeAll(near, far);
    // On a busy machine the cork may have been out already.
    if (tookMs > CORK_MS / 2) continue;
    assert.deepEqual([corked.touched, written.touched], [[], [near]]);
    return;
  }
  assert.fail("never fast enough");
});

test("of a socket that listens: who waits, and how many may", async () => {
  const [listener] = (await ask("listen 5")) as [number];
  assert.ok(look().differs);
  assert.deepEqual((await touchedBy(`backlog ${listener} 9`)).touched, [listener]);
  const { differs, touched } = await touchedBy(`join ${listener}`);
  assert.ok(differs);
  assert.ok(touched.includes(listener));
  await closeAll(listener);
});

test("flags of a description and of a descriptor", async () => {
  const [near] = (await ask("connect")) as [number, number];
  look();
  assert.deepEqual(await touchedBy(`nonblock ${near}`), { differs: true, touched: [near] });
  assert.deepEqual(await touchedBy(`cloexec ${near}`), { differs: true, touched: [near] });
});

test("another socket, pipe or file under the same number", async () => {
  const [near, far] = (await ask("connect")) as [number, number];
  await ask(`close ${far}`);
  look();
  for (const command of ["socket", "pipe", "file", "socket", "eventfd", "socket"]) {
    await ask(`close ${near}`);
    await ask(`${command} ${near}`);
    // A pipe's other end, and what the kernel puts where the old one was, come with it.
    const { differs, touched } = look();
    assert.ok(differs && touched.includes(near), command);
  }
  await ask(`close ${near}`);
  assert.ok(look().differs);
  assert.equal(changed.file(near), undefined);
});

test("a socket that is closed and made anew between two looks is another one", async () => {
  await ask("close 500");
  await ask("socket 500");
  look();
  for (let i = 0; i < 50; i++) {
    // The kernel gives the same memory again, mostly.
    await ask("again 500");
    const { differs, touched } = look();
    assert.ok(differs && touched.includes(500));
  }
});

test("a pipe's content, an eventfd's counter, a file's position, the first lock", async () => {
  await ask("close 600");
  const [reader, writer] = (await ask("pipe 600")) as [number, number];
  const [counter] = (await ask("eventfd 601")) as [number];
  const [file] = (await ask("file 602")) as [number];
  look();
  assert.deepEqual((await touchedBy(`write ${writer} 3`)).touched, [writer, reader]);
  assert.deepEqual((await touchedBy(`read ${reader} 1`)).touched, [writer, reader]);
  assert.deepEqual((await touchedBy(`count ${counter} 7`)).touched, [counter]);
  assert.deepEqual((await touchedBy(`seek ${file} 5`)).touched, [file]);
  assert.ok((await touchedBy(`lock ${file}`)).differs);
});

test("more descriptors than there is room for at first, and fewer again", async () => {
  await ask("many 700 3000");
  const first = look();
  assert.ok(first.differs && first.touched.length >= 3000);
  assert.deepEqual(look(), { differs: false, touched: [] });
  assert.deepEqual((await touchedBy("nonblock 3456")).touched, [3456]);
  await ask("none 700 3000");
  assert.ok(look().differs);
  assert.deepEqual(look(), { differs: false, touched: [] });
});

test("fdinfo of an epoll instance that watches thousands is read to its end", async () => {
  await ask("many 4000 2000");
  await ask("epoll 401");
  for (let fd = 4000; fd < 6000; fd++) await ask(`watch 401 ${fd} 1 ${fd}`);
  assert.equal(descriptorInfo(program.pid!, 401).match(/^tfd:/gm)?.length, 2000);
});

test("of epoll: what is added, changed, spent, moved, left, and a number that stands for another file", async () => {
  const items = new EpollItems();
  await ask("epoll 400");
  for (const [fd, data] of [
    [410, 1],
    [411, 2],
    [412, 3],
  ]) {
    await ask(`eventfd ${fd}`);
    await ask(`watch 400 ${fd} 1 ${data}`);
  }
  await ask("eventfd 413");
  look();
  const file = changed.file(400)!;
  const seen = new Set([items.number(file)]);
  assert.ok(!seen.has(0n));
  const differs = async (command: string) => {
    await ask(command);
    const number = items.number(file);
    assert.ok(!seen.has(number), command);
    assert.equal(items.number(file), number, `rest after "${command}"`);
    seen.add(number);
  };
  const once = 0x4000_0001;
  await differs(`watch 400 413 ${once} 4`);
  await differs("change 400 410 4 1");
  await differs("change 400 410 1 9");
  // Two that have changed places.
  await ask("change 400 411 1 3");
  await differs("change 400 412 1 2");
  await ask("count 413 1");
  // Spent: nothing but the events are other ones.
  await differs("wait 400 413");
  await differs(`change 400 413 ${once} 5`);
  await differs("leave 400 411");
  // Kept by its twin, the old one is watched on; the number is watched twice then.
  await ask("twin 412 420");
  await ask("close 412");
  await ask("eventfd 412");
  await differs("watch 400 412 1 2");
  for (let fd = 430; fd < 470; fd++) {
    await ask(`eventfd ${fd}`);
    await differs(`watch 400 ${fd} 1 ${fd}`);
  }
});
