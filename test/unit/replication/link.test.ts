/** A link that much comes in on at once: what goes out meanwhile, what a close leaves, what came before the peer's end. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { connect, createServer, type TLSSocket } from "node:tls";
import { createAuthority, issueCertificate, type MutualTlsOptions, tlsOptions } from "../../../src/cluster/pki.ts";
import type { Message } from "../../../src/replication/frames.ts";
import { Link } from "../../../src/replication/link.ts";
import { eventually } from "../../support/eventually.ts";

const MESSAGES = 1000;
/** One takes so long to handle, e.g. a file to create: all of them together are a long silence. */
const HANDLING_MS = 1;
/** So many may be handled without a sign of life; as long as none is given, all of them would be. */
const MOST_IN_SILENCE = MESSAGES / 4;
const HEARTBEAT_MS = 20;

const directory = mkdtempSync(join(tmpdir(), "understudy-link-"));
const authority = join(directory, "ca");
let certificates: MutualTlsOptions;
before(async () => {
  await createAuthority(authority);
  const names = { name: "node-a", hosts: ["127.0.0.1"], outDirectory: join(directory, "node-a") };
  certificates = await tlsOptions(await issueCertificate(authority, names));
});
after(() => rmSync(directory, { recursive: true }));

/** Both ends of a connection. */
async function pair(): Promise<{ near: Link; far: Link; [Symbol.dispose](): void }> {
  const server = createServer(certificates).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const accepted = once(server, "secureConnection");
  const socket = connect({ ...certificates, host: "127.0.0.1", port });
  await once(socket, "secureConnect");
  const [near, far] = [new Link(socket, "far"), new Link(((await accepted) as [TLSSocket])[0], "near")];
  const dispose = () => {
    near.close();
    far.close();
    server.close();
  };
  return { near, far, [Symbol.dispose]: dispose };
}

const acknowledged = (epoch: number): Message => ({ type: "acknowledged", term: 1, epoch });

function work(): void {
  const until = performance.now() + HANDLING_MS;
  while (performance.now() < until);
}

function sendAll(link: Link): void {
  for (let epoch = 1; epoch <= MESSAGES; epoch++) link.send(acknowledged(epoch));
}

/** How many messages were handled between two signs of life that the near end heard, at most. */
async function longestSilence(handle: Link["onMessage"]): Promise<number> {
  using ends = await pair();
  const { near, far } = ends;
  let [handled, heardAt, longest] = [0, 0, 0];
  const timer = setInterval(() => far.send({ type: "heartbeat" }), HEARTBEAT_MS);
  near.onMessage = () => {
    longest = Math.max(longest, handled - heardAt);
    heardAt = handled;
  };
  far.onMessage = (message) => {
    handled++;
    return handle(message);
  };
  try {
    sendAll(near);
    await eventually("all are handled, and that was heard of", () => heardAt === MESSAGES);
    return longest;
  } finally {
    clearInterval(timer);
  }
}

test("signs of life go out while many messages that came at once are handled", async () => {
  const longest = await longestSilence(work);
  assert.ok(longest <= MOST_IN_SILENCE, `${longest} messages in silence`);
});

test("signs of life go out while one message is handled that takes long, in pieces; others wait for it", async () => {
  using ends = await pair();
  const { near, far } = ends;
  let [done, heard, next] = [0, 0, false];
  const timer = setInterval(() => far.send({ type: "heartbeat" }), HEARTBEAT_MS);
  near.onMessage = () => {
    if (done > 0 && done < MESSAGES) heard++;
  };
  far.onMessage = function* (message) {
    if (message.type === "acknowledged" && message.epoch > 1) {
      assert.equal(done, MESSAGES);
      next = true;
      return;
    }
    for (; done < MESSAGES; done++) {
      work();
      yield;
    }
  };
  near.send(acknowledged(1));
  near.send(acknowledged(2));
  await eventually("both are handled", () => next);
  clearInterval(timer);
  assert.ok(heard >= 2, `${heard} signs of life`);
});

test("a link that is deaf handles nothing more, gives up what it was at, and can still say something", async () => {
  using ends = await pair();
  const { near, far } = ends;
  let [handled, done, givenUp, heard] = [0, 0, false, 0];
  far.onMessage = function* () {
    handled++;
    try {
      for (;;) {
        work();
        done++;
        yield;
      }
    } finally {
      givenUp = true;
    }
  };
  near.onMessage = () => {
    heard++;
  };
  sendAll(near);
  await eventually("the first is being handled", () => handled > 0);
  far.deafen();
  const workDone = done;
  far.send({ type: "rising", term: 2 });
  await eventually("it is heard", () => heard === 1);
  near.send(acknowledged(MESSAGES + 1));
  far.send({ type: "rising", term: 2 });
  await eventually("it is heard again, and the work is given up", () => heard === 2 && givenUp);
  assert.deepEqual([handled, done], [1, workDone], "In the next turn already its work would be wrong");
});

test("a link that is closed handles nothing more, and gives up what it was at", async () => {
  using ends = await pair();
  const { near, far } = ends;
  let [handled, givenUp] = [0, false];
  far.onMessage = function* () {
    handled++;
    try {
      for (;;) {
        work();
        yield;
      }
    } finally {
      givenUp = true;
    }
  };
  sendAll(near);
  await eventually("the first is being handled", () => handled > 0);
  far.close();
  await eventually("it is given up", () => givenUp);
  assert.equal(handled, 1);
});

test("what came before the peer's end is handled before the end is told", async () => {
  using ends = await pair();
  const { near, far } = ends;
  const epochs: number[] = [];
  let endedAfter: number | undefined;
  far.onMessage = (message) => {
    work();
    if (message.type === "acknowledged") epochs.push(message.epoch);
  };
  far.onClose = () => {
    endedAfter = epochs.length;
  };
  sendAll(near);
  near.socket.end();
  await eventually("the end is told", () => endedAfter !== undefined);
  assert.equal(endedAfter, MESSAGES);
  assert.deepEqual(
    epochs,
    epochs.map((_, i) => i + 1),
  );
});

test("what is read is in memory used again, at both ends; what waits to be handled is not overwritten by what comes next", async () => {
  using ends = await pair();
  const { near, far } = ends;
  for (const { socket } of [near, far]) {
    const names = Object.getOwnPropertySymbols(socket).filter(({ description }) => description === "kBuffer");
    assert.ok(names.some((name) => Buffer.isBuffer((socket as unknown as Record<symbol, unknown>)[name])));
    assert.equal(socket.listenerCount("data"), 0);
  }
  const sizes = Array.from({ length: 400 }, (_, i) => [1, 100, 5000, 16_379, 40_000, 300_000][i % 6]! + i);
  const bytesOf = (i: number) => Buffer.alloc(sizes[i]!, i + 1);
  const heard: number[] = [];
  far.onMessage = function* (message) {
    assert.ok(message.type === "operation" && message.operation.op === "file");
    const { change } = message.operation;
    assert.ok(change.type === "write");
    // Some take long: what comes meanwhile waits.
    if (heard.length % 7 === 0)
      for (let pieces = 0; pieces < 5; pieces++) {
        for (let i = 0; i < 4; i++) work();
        yield;
      }
    assert.ok(change.bytes.equals(bytesOf(heard.length)), `Other bytes in message ${heard.length}`);
    heard.push(change.at);
    change.release?.();
  };
  let failed: Error | undefined;
  far.onClose = (error) => {
    failed = error;
  };
  for (const i of sizes.keys()) {
    near.send({
      type: "operation",
      operation: { op: "file", change: { type: "write", path: "/f", at: i, bytes: bytesOf(i) } },
    });
    if (i % 10 === 9) await near.drained(1 << 20);
  }
  await eventually("all have come", () => {
    if (failed) throw failed;
    return heard.length === sizes.length;
  });
  assert.deepEqual(heard, [...sizes.keys()]);
});
