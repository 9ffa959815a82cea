/** What waits in unix sockets, where the kernel shows it only once, or not at all. */
import assert from "node:assert/strict";
import { readlinkSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { call, closeDescriptor } from "../../../src/kernel/calls.ts";
import { KernelFields } from "../../../src/kernel/kernel-fields.ts";
import { KernelMemory } from "../../../src/kernel/kernel-memory.ts";
import { receiveMessage, sendMessage } from "../../../src/kernel/message.ts";
import type { Description, DumpContext } from "../../../src/resources/kind.ts";
import { dumpUnix } from "../../../src/resources/unix/dump.ts";
import { queueLimitOf } from "../../../src/resources/unix/restore.ts";
import { AF_UNIX, SO, SOCK_DGRAM, SOCK_SEQPACKET, type UnixState } from "../../../src/resources/unix/state.ts";

const F_DUPFD_CLOEXEC = 1030;
const RLIMIT_NOFILE = 7;
const SOL_SOCKET = 1;
const FROM_THE_START = Buffer.alloc(4);

const linkOf = (fd: number) => readlinkSync(`/proc/self/fd/${fd}`);
const duplicate = (fd: number) => call("fcntl", fd, F_DUPFD_CLOEXEC, 0);

function pair(t: TestContext, type: number): [number, number] {
  const ends = Buffer.alloc(8);
  call("socketpair", AF_UNIX, type, 0, ends);
  const fds: [number, number] = [ends.readInt32LE(0), ends.readInt32LE(4)];
  t.after(() => fds.map(closeDescriptor));
  return fds;
}

/** An end of a pipe nobody has the other end of; who asks for it closes it. */
function someFile(): number {
  const ends = Buffer.alloc(8);
  call("pipe2", ends, 0);
  closeDescriptor(ends.readInt32LE(4));
  return ends.readInt32LE(0);
}

/**
 * A dump of sockets of this process.
 * @param open what the application has open besides, by name
 * @param onTake runs once this program has its own descriptor of one
 */
function dump(sockets: number[], open: Record<string, number> = {}, onTake = () => {}): UnixState[] {
  const taken: number[] = [];
  const endings: Array<() => void> = [];
  const known = new Map<bigint, string>();
  const fileOf = (fd: number) => KernelMemory.tryOpen()?.file(fd) ?? BigInt(fd);
  for (const [id, fd] of Object.entries(open)) known.set(fileOf(fd), id);
  const describe = (id: string, fd: number): Description => {
    return { id, kind: "unix", pid: process.pid, fd, link: linkOf(fd), flags: 2 };
  };
  const context: Partial<DumpContext> = {
    take: ({ fd }) => {
      taken.push(duplicate(fd));
      onTake();
      return taken.at(-1)!;
    },
    adopt: (fd) => {
      taken.push(fd);
      const id = known.get(fileOf(fd)) ?? `flight ${linkOf(fd)}`;
      known.set(fileOf(fd), id);
      return describe(id, fd);
    },
    holder: (file) => {
      const id = known.get(file);
      return id === undefined ? undefined : describe(id, sockets[0]!);
    },
    virtualPid: (pid) => pid,
    atEnd: (action) => endings.push(action),
    shared: new Map(),
  };
  try {
    const states = dumpUnix(
      sockets.map((fd, i) => describe(String(i), fd)),
      context as DumpContext,
    );
    for (const action of endings) action();
    return states;
  } finally {
    for (const fd of taken) closeDescriptor(fd);
  }
}

const send = (fd: number, text: string, fds: number[] = []) =>
  assert.equal(sendMessage(fd, { content: Buffer.from(text), fds }), text.length);
const queueOf = ({ queue }: UnixState) => queue.map(({ content, descriptors }) => [String(content), ...descriptors]);
const UNTOLD = { code: "unprotectable-unix-socket", remedy: /receive/ };

for (const [name, type] of [["datagrams", SOCK_DGRAM] as const, ["packets", SOCK_SEQPACKET] as const]) {
  test(`${name}: empty ones with descriptors are in every dump, whoever has looked before`, (t) => {
    const [a, b] = pair(t, type);
    const files = [someFile(), someFile()] as const;
    t.after(() => files.map(closeDescriptor));
    send(a, "", [files[0]]);
    send(a, "");
    send(a, "text", [files[1]]);
    send(a, "", [files[1], files[0]]);
    const wanted = [["", "one"], [""], ["text", "two"], ["", "two", "one"]];
    for (let i = 0; i < 3; i++) assert.deepEqual(queueOf(dump([a, b], { one: files[0], two: files[1] })[1]!), wanted);
    send(a, "", [files[0]]);
    call("setsockopt", b, SOL_SOCKET, SO.peekOffset, FROM_THE_START, 4);
    assert.deepEqual(receiveMessage(b, Buffer.alloc(10), 2).result, 4);
    for (const fd of receiveMessage(b, Buffer.alloc(10), 2).fds) closeDescriptor(fd);
    assert.deepEqual(queueOf(dump([a, b], { one: files[0], two: files[1] })[1]!), [...wanted, ["", "one"]]);
  });

  test(`${name}: a message that needs more room does not hide the empty ones before it`, (t) => {
    const [a, b] = pair(t, type);
    call("setsockopt", a, SOL_SOCKET, SO.sendBufferForce, Buffer.from([0, 0, 0, 1]), 4);
    const file = someFile();
    const link = linkOf(file);
    send(a, "first");
    send(a, "", [file]);
    closeDescriptor(file);
    const long = "x".repeat((type === SOCK_DGRAM ? 300 : 1400) << 10);
    send(a, long);
    assert.deepEqual(queueOf(dump([a, b])[1]!), [["first"], ["", `flight ${link}`], [long]]);
  });

  test(`${name}: what only an empty one has is in the first dump, in any while it is the first, and refused else`, (t) => {
    const [a, b] = pair(t, type);
    const file = someFile();
    const link = linkOf(file);
    send(a, "before");
    send(a, "", [file]);
    closeDescriptor(file);
    assert.deepEqual(queueOf(dump([a, b])[1]!), [["before"], ["", `flight ${link}`]]);
    for (let i = 0; i < 2; i++) assert.throws(() => dump([a, b]), UNTOLD);
    assert.equal(receiveMessage(b, Buffer.alloc(10), 0).result, 6);
    for (let i = 0; i < 2; i++) assert.deepEqual(queueOf(dump([a, b])[1]!), [["", `flight ${link}`]]);
  });

  test(`${name}: an empty one is found also right after a dump that found nothing`, (t) => {
    const [a, b] = pair(t, type);
    assert.deepEqual(queueOf(dump([a, b])[1]!), []);
    send(a, "");
    assert.deepEqual(queueOf(dump([a, b])[1]!), [[""]]);
  });

  test(`${name}: more descriptors than this process may have are refused by name`, (t) => {
    const [a, b] = pair(t, type);
    const file = someFile();
    send(a, "text", [file]);
    closeDescriptor(file);
    const before = Buffer.alloc(16);
    call("prlimit64", 0, RLIMIT_NOFILE, null, before);
    const restore = () => call("prlimit64", 0, RLIMIT_NOFILE, before, null);
    t.after(restore);
    const few = Buffer.from(before);
    const none = () => {
      const next = duplicate(0);
      closeDescriptor(next);
      few.writeBigUInt64LE(BigInt(next));
      call("prlimit64", 0, RLIMIT_NOFILE, few, null);
    };
    assert.throws(() => dump([b], {}, none), UNTOLD);
    restore();
  });

  test(`${name}: nothing that waits needs no kernel memory, and what waits is told without it as far as it can`, (t) => {
    const [a, b] = pair(t, type);
    t.mock.method(KernelMemory, "tryOpen", () => undefined);
    t.mock.method(KernelMemory, "open", () => assert.fail("opened"));
    const file = someFile();
    const link = linkOf(file);
    for (let i = 0; i < 2; i++) {
      const state = dump([a, b])[1];
      assert.deepEqual([state!.queue, state!.queueLimit], [[], undefined]);
    }
    send(a, "", [file]);
    closeDescriptor(file);
    send(a, "text");
    for (let i = 0; i < 3; i++) assert.deepEqual(queueOf(dump([a, b])[1]!), [["", `flight ${link}`], ["text"]]);
  });

  test(`${name}: a kernel that lacks a field keeps nobody from a checkpoint`, (t) => {
    const [a, b] = pair(t, type);
    t.mock.method(KernelFields.prototype, "find", () => undefined);
    t.mock.method(KernelFields.prototype, "at", () => assert.fail("asked for"));
    send(a, "text");
    assert.deepEqual(queueOf(dump([a, b])[1]!), [["text"]]);
    assert.equal(dump([a, b])[0]!.queueLimit, undefined);
  });
}

test("an error that waits for the application stays there", (t) => {
  const name = Buffer.from(`\x01\0\0unix.test ${process.pid}`);
  const [a, b, c] = [0, 1, 2].map(() => call("socket", AF_UNIX, SOCK_DGRAM, 0)) as [number, number, number];
  t.after(() => [a, b, c].map(closeDescriptor));
  const [nameB, nameC] = ["b", "c"].map((end) => Buffer.concat([name, Buffer.from(end)])) as [Buffer, Buffer];
  for (const [fd, own] of [[b, nameB] as const, [c, nameC] as const]) call("bind", fd, own, own.length);
  // Who talked to it talks to another now: what waits at it is lost, and that is told.
  call("connect", a, nameB, nameB.length);
  const nameA = Buffer.concat([name, Buffer.from("a")]);
  call("bind", a, nameA, nameA.length);
  call("connect", b, nameA, nameA.length);
  send(b, "lost");
  call("connect", a, nameC, nameC.length);
  dump([a, b, c]);
  assert.equal(receiveMessage(b, Buffer.alloc(10), 0).result, -104);
});

test("a socket takes as many datagrams as it did; where nobody tells, as many as any, and what waits", () => {
  const message = { content: Buffer.alloc(0), descriptors: [], from: Buffer.alloc(0), credentials: undefined };
  const state = (waiting: number, queueLimit?: number) =>
    ({ queue: Array(waiting).fill(message), ...(queueLimit !== undefined && { queueLimit }) }) as unknown as UnixState;
  assert.equal(queueLimitOf(state(1), 10), 10);
  assert.equal(queueLimitOf(state(0), 10), 10);
  assert.equal(queueLimitOf(state(12), 10), 12);
  assert.equal(queueLimitOf(state(1, 100), 10), 100);
  assert.equal(queueLimitOf(state(1, 0), 10), 0);
});
