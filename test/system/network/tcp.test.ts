/** Live TCP connections moved from node to node, every byte checked by a client that knows nothing. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import {
  closeSocket,
  connect,
  MSG_DONTWAIT,
  receive,
  SO,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
  SOL_TCP,
  send,
  setOption,
  shutdown,
  socket,
  socketAddress,
  TCP,
} from "../../../src/kernel/socket.ts";
import { ApplicationInterface } from "../../../src/network/interface.ts";
import { TcpCapture } from "../../../src/resources/tcp/capture.ts";
import { Handshakes } from "../../../src/resources/tcp/handshakes.ts";
import { Orphans } from "../../../src/resources/tcp/orphans.ts";
import { STATE } from "../../../src/resources/tcp/record.ts";
import { resolvePeers } from "../../../src/resources/tcp/resolve.ts";
import { restoreTcp } from "../../../src/resources/tcp/restore.ts";
import { reviveUnaccepted } from "../../../src/resources/tcp/revive.ts";
import { applyTcpChange, type TcpState, wholeTcpState } from "../../../src/resources/tcp/state.ts";
import { eventually } from "../../support/eventually.ts";
import { accept, Echo, listenOn } from "./echo.ts";
import { type Host, Network, pause } from "./lab.ts";

const CLIENT = new URL("stream-client.ts", import.meta.url).pathname;
const EOF_RESULT = 0;
const EAGAIN = -11;
const EINPROGRESS = -115;
const SHUT_WR = 1;
const NO_LIMIT = 0xffffffff;
const NON_BLOCKING = SOCK_STREAM | SOCK_NONBLOCK;

interface Place {
  host: Host;
  port: ApplicationInterface;
}

for (const [family, address, prefix, client] of [
  ["IPv4", "10.98.0.10", 24, "10.98.0.250/24"],
  ["IPv6", "fd98::10", 64, "fd98::250/64"],
] as const) {
  let network: Network;
  let nodes: Host[];
  let peer: Host;
  let side = 0;

  async function place(restoring: boolean): Promise<Place> {
    const host = await network.application();
    const port = nodes[side++ % 2]!.run(() =>
      ApplicationInterface.create({
        application: "ustcp-tcp",
        initPid: host.pid,
        bridge: "br0",
        address: `${address}/${prefix}`,
        restoring,
      }),
    );
    return { host, port };
  }

  /** Of connections that have no limit of their own. */
  const limitUnsent = ({ host }: Place, bytes: number) =>
    host.run(() => writeFileSync("/proc/sys/net/ipv4/tcp_notsent_lowat", String(bytes)));

  async function start(): Promise<Place> {
    const first = await place(false);
    first.port.setPort("forwarding");
    first.port.announce();
    return first;
  }

  /** The state goes through bytes, as it does between nodes. */
  const carried = (state: TcpState): TcpState => applyTcpChange(undefined, wholeTcpState(state));

  /** Ends the life on one node and begins it on the other; returns the new descriptors. */
  async function move(
    from: Place,
    to: Place,
    fds: number[],
    { closed, capture = new TcpCapture() }: { closed?: Orphans; capture?: TcpCapture } = {},
  ): Promise<number[]> {
    from.port.setPort("blocked");
    const open = capture.dump(fds.map((fd, i) => ({ id: String(i), pidfd: -1, fd })));
    const orphans = (closed?.dump() ?? []).map(({ content }) => applyTcpChange(undefined, content));
    const states = [...open, ...orphans];
    for (const fd of fds) {
      setOption(fd, SOL_TCP, TCP.repair, 1);
      closeSocket(fd);
    }
    from.port.remove();
    from.host.close();
    to.port.setPort("collecting");
    to.port.announce();
    const restored = to.host.run(() => {
      resolvePeers(states);
      return states.map((state) => restoreTcp(carried(state)));
    });
    await pause(2);
    to.port.setPort("speaking");
    to.host.run(() => {
      for (const { finish } of restored) finish();
    });
    to.port.setPort("forwarding");
    for (const { fd } of restored.slice(open.length)) closeSocket(fd);
    return restored.slice(0, open.length).map(({ fd }) => fd);
  }

  async function accepted(listener: number): Promise<number> {
    for (let i = 0; i < 400; i++) {
      const fd = accept(listener);
      if (fd >= 0) return fd;
      await pause(5);
    }
    throw new Error("Nobody came");
  }

  before(async () => {
    network = await Network.create();
    nodes = [await network.node(client.replace("250", "1")), await network.node(client.replace("250", "2"))];
    peer = await network.client(client);
  });
  after(() => network.close());

  test(`${family}: a stream in full flow moves three times`, { timeout: 60_000 }, async () => {
    let here = await start();
    const listener = here.host.run(() => listenOn(address, 7000));
    const child = peer.spawn(process.execPath, [CLIENT, address, "7000", "300000000"]);
    let output = "";
    child.stdout!.on("data", (data) => {
      output += data;
    });
    const echo = new Echo(await accepted(listener));
    const run = async (ms: number) => {
      const end = performance.now() + ms;
      while (performance.now() < end && output === "") {
        if (echo.step()) await new Promise((resolve) => setImmediate(resolve));
        else await pause(1);
      }
    };
    for (let moves = 0; moves < 3 && output === ""; moves++) {
      await run(100);
      const next = await place(true);
      [echo.fd = -1] = await move(here, next, [echo.fd]);
      here = next;
    }
    await run(40_000);
    const { received, longestMs, error } = JSON.parse(output || `{"error":"silence"}`);
    assert.equal(error, undefined);
    assert.equal(received, 300_000_000);
    assert.ok(longestMs < 900, `longest silence ${longestMs} ms`);
    here.port.remove();
  });

  test(`${family}: queues as full as they get move three times`, { timeout: 60_000 }, async () => {
    let here = await start();
    const listener = here.host.run(() => listenOn(address, 7000));
    const target = socketAddress(address, 7000);
    const limits: ((client: number, served: number) => void)[] = [
      () => {},
      // A window of a few kilobytes, so segments of a few kilobytes.
      (client) => setOption(client, SOL_SOCKET, SO.receiveBuffer, 4096),
      (_, served) => setOption(served, SOL_TCP, TCP.notSentLowWater, 16_384),
      (_, served) => setOption(served, SOL_SOCKET, SO.sendBuffer, 8192),
    ];
    let served: number[] = [];
    const clients: number[] = [];
    for (const limit of limits) {
      const fd = peer.run(() => socket(target.length === 16 ? 2 : 10, SOCK_STREAM));
      limit(fd, -1);
      assert.equal(connect(fd, target), 0);
      clients.push(fd);
      served.push(await accepted(listener));
      limit(fd, served.at(-1)!);
    }
    const sent = { served: served.map(() => 0), clients: clients.map(() => 0) };
    /** Bytes that tell their place. */
    const piece = (from: number, bytes: number) =>
      Buffer.from(new Uint8Array(bytes).map((_, i) => ((from + i) * 7919) >>> 8));
    const SIDES = ["served", "clients"] as const;
    const descriptors = { served: () => served, clients: () => clients };
    /** Until nothing more goes in, and has not for a while: what the other side's kernel takes is taken. */
    const fillUp = async () => {
      for (let quiet = 0; quiet < 5; quiet++) {
        for (const side of SIDES)
          descriptors[side]().forEach((fd, i) => {
            for (;;) {
              const result = send(fd, piece(sent[side][i]!, 32_768), MSG_DONTWAIT);
              if (result <= 0) break;
              sent[side][i]! += result;
              quiet = 0;
            }
          });
        await pause(5);
      }
    };
    for (let moves = 0; moves < 3; moves++) {
      await fillUp();
      const next = await place(true);
      // Less than what has to leave at once again.
      limitUnsent(next, 8192);
      served = await move(here, next, served);
      limitUnsent(next, NO_LIMIT);
      here = next;
    }
    await fillUp();
    const buffer = Buffer.alloc(1 << 16);
    const takeAll = async (fd: number, bytes: number) => {
      const end = performance.now() + 20_000;
      for (let received = 0; received < bytes; ) {
        const result = receive(fd, buffer, MSG_DONTWAIT);
        if (result > 0) {
          assert.ok(buffer.subarray(0, result).equals(piece(received, result)), `Other bytes after ${received}`);
          received += result;
        } else {
          assert.equal(result, EAGAIN);
          assert.ok(performance.now() < end, `Only ${received} of ${bytes} bytes came`);
          await pause(2);
        }
      }
    };
    for (const [i, fd] of clients.entries()) {
      await takeAll(fd, sent.served[i]!);
      await takeAll(served[i]!, sent.clients[i]!);
    }
    for (const fd of [...clients, ...served, listener]) closeSocket(fd);
    here.port.remove();
  });

  test(`${family}: states, queues and options survive; a listener goes on listening`, { timeout: 30_000 }, async () => {
    const first = await start();
    const listener = first.host.run(() => listenOn(address, 7000));
    const target = socketAddress(address, 7000);
    const clients = peer.run(() =>
      Array.from({ length: 4 }, () => {
        const fd = socket(target.length === 16 ? 2 : 10, 1);
        assert.equal(connect(fd, target), 0);
        return fd;
      }),
    );
    const served: number[] = [];
    for (let i = 0; i < 4; i++) served.push(await accepted(listener));
    setOption(served[0]!, SOL_SOCKET, SO.keepAlive, 1);
    setOption(served[0]!, SOL_TCP, TCP.keepIdle, 77);
    setOption(served[0]!, SOL_TCP, TCP.noDelay, 1);
    // One with unread bytes, one whose peer has ended, one that has ended itself, one at rest.
    send(clients[0]!, Buffer.from("unread"), 0);
    send(clients[1]!, Buffer.from("last words"), 0);
    shutdown(clients[1]!, 1);
    send(served[2]!, Buffer.from("farewell"), 0);
    shutdown(served[2]!, 1);
    await pause(50);

    const next = await place(true);
    const [newListener, a, b, c, d] = (await move(first, next, [listener, ...served])) as [number, ...number[]];
    const buffer = Buffer.alloc(100);
    const text = (fd: number) => buffer.toString("latin1", 0, Math.max(0, receive(fd, buffer, MSG_DONTWAIT)));
    await pause(50);
    assert.equal(text(a!), "unread");
    assert.equal(receive(a!, buffer, MSG_DONTWAIT), EAGAIN);
    assert.equal(text(b!), "last words");
    assert.equal(receive(b!, buffer, MSG_DONTWAIT), EOF_RESULT);
    assert.equal(send(b!, Buffer.from("answer"), 0), 6);
    await pause(50);
    assert.equal(text(clients[1]!), "answer");
    assert.equal(text(clients[2]!), "farewell");
    assert.equal(receive(clients[2]!, buffer, MSG_DONTWAIT), EOF_RESULT);
    assert.equal(send(clients[2]!, Buffer.from("still heard"), 0), 11);
    await pause(50);
    assert.equal(text(c!), "still heard");
    assert.ok(send(d!, Buffer.from("hello"), 0) === 5);
    await pause(50);
    assert.equal(text(clients[3]!), "hello");

    const again = new TcpCapture().dump([
      { id: "a", pidfd: -1, fd: a! },
      { id: "l", pidfd: -1, fd: newListener },
    ]);
    assert.equal(again[0]!.record.state, STATE.established);
    assert.deepEqual(
      [2, 11, 13].map((index) => again[0]!.record.option(index)),
      [1, 1, 77],
    );
    assert.equal(again[1]!.record.state, STATE.listen);
    assert.equal(again[1]!.record.backlogLimit, 64);
    const late = peer.run(() => {
      const fd = socket(target.length === 16 ? 2 : 10, 1);
      assert.equal(connect(fd, target), 0);
      return fd;
    });
    closeSocket(await accepted(newListener));
    for (const fd of [...clients, late, newListener, a!, b!, c!, d!]) closeSocket(fd);
    next.port.remove();
  });

  test(`${family}: connections that were not accepted are accepted in the next life`, { timeout: 30_000 }, async () => {
    const first = await start();
    const handshakes = nodes[(side + 1) % 2]!.run(() => new Handshakes(first.port.nodeEnd, first.port.namespaceFd));
    const listener = first.host.run(() => listenOn(address, 7000));
    const target = socketAddress(address, 7000);
    const clients = peer.run(() =>
      Array.from({ length: 3 }, () => {
        const fd = socket(target.length === 16 ? 2 : 10, 1);
        assert.equal(connect(fd, target), 0);
        return fd;
      }),
    );
    closeSocket(await accepted(listener));
    await pause(20);
    first.port.setPort("blocked");
    handshakes.mark();
    assert.equal(handshakes.withData(), 0);
    const waiting = handshakes.waiting();
    assert.equal(waiting.length, 2);
    handshakes.close();
    const next = await place(true);
    const [moved] = await move(first, next, [listener]);
    assert.equal(
      next.host.run(() => reviveUnaccepted(waiting)),
      2,
    );
    const served = [await accepted(moved!), await accepted(moved!)];
    const buffer = Buffer.alloc(100);
    for (const fd of served) assert.equal(send(fd, Buffer.from("welcome"), 0), 7);
    await pause(50);
    for (const fd of clients.slice(1)) {
      assert.equal(buffer.toString("latin1", 0, receive(fd, buffer, MSG_DONTWAIT)), "welcome");
      assert.equal(send(fd, Buffer.from("thanks"), 0), 6);
    }
    await pause(50);
    for (const fd of served) assert.equal(buffer.toString("latin1", 0, receive(fd, buffer, MSG_DONTWAIT)), "thanks");
    for (const fd of [...clients, ...served, moved!]) closeSocket(fd);
    next.port.remove();
  });

  test(`${family}: what was closed goes on to its last byte`, { timeout: 30_000 }, async () => {
    const first = await start();
    const listener = first.host.run(() => listenOn(address, 7000));
    const target = socketAddress(address, 7000);
    const connected = async (): Promise<[client: number, server: number]> => {
      const fd = peer.run(() => socket(target.length === 16 ? 2 : 10, 1));
      setOption(fd, SOL_SOCKET, SO.receiveBufferForce, 16384);
      assert.equal(
        peer.run(() => connect(fd, target)),
        0,
      );
      const server = await accepted(listener);
      setOption(server, SOL_SOCKET, SO.sendBufferForce, 1 << 19);
      return [fd, server];
    };
    const data = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7 + (i >> 8)) & 0xff));
    const closeFull = (server: number) => {
      const n = send(server, data, MSG_DONTWAIT);
      assert.ok(n > 100_000, `${n} bytes were taken`);
      closeSocket(server);
      return n;
    };
    const [[a, finWait1], [b, lastAck], [c, closing], [d, finWait2], [e, timeWait]] = [
      await connected(),
      await connected(),
      await connected(),
      await connected(),
      await connected(),
    ];
    shutdown(b, SHUT_WR);
    await pause(20);
    const owed = [closeFull(finWait1), closeFull(lastAck), closeFull(closing), 0, 0];
    shutdown(c, SHUT_WR);
    closeSocket(finWait2);
    closeSocket(timeWait);
    await pause(20);
    closeSocket(e);
    await pause(50);
    const closed = new Orphans(first.port.namespaceFd, undefined);
    const stateNow = (orphans: Orphans) =>
      orphans
        .dump()
        .map(({ content }) => applyTcpChange(undefined, content).record.state)
        .toSorted((x, y) => x - y);
    const all = [STATE.finWait1, STATE.finWait2, STATE.timeWait, STATE.lastAck, STATE.closing];
    assert.deepEqual(stateNow(closed), all);
    // A timer that comes late on a busy machine is something that happened.
    let before = closed.dump();
    await eventually("nothing happens, and nothing is read again", () => {
      const now = closed.dump();
      const isSame = now.every(({ content }, i) => content === before[i]!.content);
      before = now;
      return isSame;
    });
    const next = await place(true);
    const [newListener] = await move(first, next, [listener], { closed });
    closed.close();
    await pause(50);
    const moved = new Orphans(next.port.namespaceFd, undefined);
    // To the peer CLOSING and LAST_ACK are one; that of the fifth connection knew of its end, and has said so again.
    const there = [STATE.finWait1, STATE.finWait2, STATE.lastAck, STATE.lastAck];
    assert.deepEqual(stateNow(moved), there);
    const buffer = Buffer.alloc(1 << 16);
    for (const [i, fd] of [a, b, c, d].entries()) {
      const got: Buffer[] = [];
      for (;;) {
        const n = receive(fd, buffer, MSG_DONTWAIT);
        if (n === EOF_RESULT) break;
        if (n === EAGAIN) await pause(5);
        else {
          assert.ok(n > 0, `connection ${i} ended with ${n}`);
          got.push(Buffer.from(buffer.subarray(0, n)));
        }
      }
      assert.ok(Buffer.concat(got).equals(data.subarray(0, owed[i])), `connection ${i} has all of its bytes`);
    }
    for (const fd of [a, d]) closeSocket(fd);
    // All is said: what is left is TIME_WAIT alone.
    for (let i = 0; stateNow(moved).some((state) => state !== STATE.timeWait); i++) {
      assert.ok(i < 400, `not over: ${stateNow(moved)}`);
      await pause(20);
    }
    moved.close();
    for (const fd of [b, c, newListener!]) closeSocket(fd);
    next.port.remove();
  });

  test(`${family}: what was dumped before it was connected is known as it is now`, { timeout: 30_000 }, async () => {
    const first = await start();
    const far = peer.run(() => listenOn(client.split("/")[0]!, 7100));
    const target = socketAddress(client.split("/")[0]!, 7100);
    const capture = new TcpCapture();
    const fds = first.host.run(() =>
      Array.from({ length: 2 }, () => socket(target.length === 16 ? 2 : 10, NON_BLOCKING)),
    );
    const [fresh = -1, calling = -1] = fds;
    const states = () =>
      capture.dump(fds.map((fd, i) => ({ id: String(i), pidfd: -1, fd }))).map(({ record }) => record.state);
    const call = (fd: number) =>
      assert.equal(
        first.host.run(() => connect(fd, target)),
        EINPROGRESS,
      );
    // Nobody hears its first call, so that it is seen calling.
    first.port.setPort("blocked");
    call(calling);
    assert.deepEqual(states(), [STATE.closed, STATE.synSent]);
    first.port.setPort("forwarding");
    const heard = await accepted(far);
    call(fresh);
    const ends = [await accepted(far), heard];
    const buffer = Buffer.alloc(100);
    const expectText = async (fd: number, text: string) => {
      for (let n = EAGAIN; n === EAGAIN; await pause(5)) {
        n = receive(fd, buffer, MSG_DONTWAIT);
        if (n !== EAGAIN) assert.equal(buffer.toString("latin1", 0, n), text);
      }
    };
    for (const [i, fd] of fds.entries()) {
      assert.equal(send(fd, Buffer.from("question"), 0), 8);
      await expectText(ends[i]!, "question");
      assert.equal(send(ends[i]!, Buffer.from("answer"), 0), 6);
      await expectText(fd, "answer");
      assert.equal(send(ends[i]!, Buffer.from("unread"), 0), 6);
    }
    await pause(50);
    const next = await place(true);
    const moved = await move(first, next, fds, { capture });
    for (const [i, fd] of moved.entries()) {
      await expectText(fd, "unread");
      assert.equal(send(fd, Buffer.from("goes on"), 0), 7);
      await expectText(ends[i]!, "goes on");
      assert.equal(send(ends[i]!, Buffer.from("as before"), 0), 9);
      await expectText(fd, "as before");
    }
    for (const fd of [...moved, ...ends, far]) closeSocket(fd);
    next.port.remove();
  });

  test(`${family}: a dump changes nothing, and tells what changed`, { timeout: 30_000 }, async () => {
    const here = await start();
    const listener = here.host.run(() => listenOn(address, 7000));
    const target = socketAddress(address, 7000);
    const far = peer.run(() => socket(target.length === 16 ? 2 : 10, 1));
    peer.run(() => assert.equal(connect(far, target), 0));
    const near = await accepted(listener);
    const capture = new TcpCapture();
    const dump = () => capture.dump([{ id: "x", pidfd: -1, fd: near }])[0]!;
    const first = dump();
    assert.equal(dump(), first, "the same object when nothing happened");
    const parts = ["one", "two", "three"];
    for (const [i, part] of parts.entries()) {
      send(far, Buffer.from(part), 0);
      send(near, Buffer.from(part.toUpperCase()), 0);
      // Longer than a delayed acknowledgement.
      await pause(100);
      const state = dump();
      assert.notEqual(state, first);
      assert.equal(state.received.toString(), parts.slice(0, i + 1).join(""));
      assert.equal(state.sent.length, 0, "acknowledged");
    }
    const buffer = Buffer.alloc(100);
    assert.equal(buffer.toString("latin1", 0, receive(far, buffer, 0)), "ONETWOTHREE");
    assert.equal(buffer.toString("latin1", 0, receive(near, buffer, 0)), "onetwothree");
    assert.equal(dump().received.length, 0);
    setOption(near, SOL_TCP, TCP.noDelay, 1);
    assert.equal(dump().record.option(11), 1);
    for (const fd of [far, near, listener]) closeSocket(fd);
    here.port.remove();
  });
}
