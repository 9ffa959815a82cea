/** UDP sockets are made anew in a time that does not grow with what never arrives, whatever the kernel's memory tells. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, before, mock, test } from "node:test";
import { call, closeDescriptor } from "../../../src/kernel/calls.ts";
import { KernelMemory } from "../../../src/kernel/kernel-memory.ts";
import { bringUp } from "../../../src/kernel/link.ts";
import { sendMessage } from "../../../src/kernel/message.ts";
import { inNamespace, openNamespace } from "../../../src/kernel/namespace.ts";
import { AF_INET, SOCK_CLOEXEC, SOCK_DGRAM, socketAddress } from "../../../src/kernel/socket.ts";
import type { CreateContext } from "../../../src/resources/kind.ts";
import { type UdpState, udp } from "../../../src/resources/udp/index.ts";
import { countWaiting } from "../../../src/resources/udp/waiting.ts";

const SOCKETS = 20;
const MOST_MS = 400;
const FIRST_PORT = 4000;
let namespace = -1;

before(async () => {
  const holder = spawn("unshare", ["-n", "sh", "-c", "echo ready; exec sleep 60"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await new Promise((resolve) => holder.stdout.once("data", resolve));
  namespace = openNamespace(`/proc/${holder.pid}/ns/net`);
  holder.kill("SIGKILL");
});
after(() => closeDescriptor(namespace));

test("datagrams are counted where the place of their content cannot be found", { skip: !canRead() }, () => {
  const nowhere = mock.method(KernelMemory.prototype, "tryRead", () => undefined);
  const fd = inNamespace(namespace, () => {
    bringUp("lo");
    return call("socket", AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  });
  try {
    const own = socketAddress("127.0.0.1", FIRST_PORT);
    call("bind", fd, own, own.length);
    assert.equal(countWaiting(fd), 0);
    for (const content of ["one", "two"]) assert.ok(sendMessage(fd, { content: Buffer.from(content), to: own }) > 0);
    assert.equal(countWaiting(fd), 2);
  } finally {
    nowhere.mock.restore();
    closeDescriptor(fd);
  }
});

test("what never arrives is waited for once", () => {
  const context = {
    shared: new Map(),
    inNetwork: (body: () => unknown) => inNamespace(namespace, body),
    atLife: () => {},
  } as unknown as CreateContext;
  // Connected: what comes from somebody else is not for it.
  const states = Array.from({ length: SOCKETS }, (_, i): UdpState => {
    const address = { local: socketAddress("127.0.0.1", FIRST_PORT + i), remote: socketAddress("127.0.0.1", 9) };
    const queue = [{ from: socketAddress("127.0.0.1", 10), content: Buffer.from("lost") }];
    const plain = { options: [], memberships: [], filter: Buffer.alloc(0), locked: [] };
    return { domain: AF_INET, flags: 2, ...address, ...plain, queue };
  });
  const begun = performance.now();
  const fds = udp.createAll!(states, context);
  const tookMs = performance.now() - begun;
  for (const fd of fds) closeDescriptor(fd);
  assert.ok(tookMs < MOST_MS, `${tookMs} ms`);
});

function canRead(): boolean {
  return KernelMemory.tryOpen() !== undefined;
}
