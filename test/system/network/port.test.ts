/** The application's port: nothing leaks while it is blocked, what comes while it collects is delivered, output is held. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { FrameSender, interfaceIndex } from "../../../src/kernel/link.ts";
import { OutputHold } from "../../../src/network/hold.ts";
import { ApplicationInterface } from "../../../src/network/interface.ts";
import { type Host, Network, pause } from "./lab.ts";

const ADDRESS = "10.98.0.10";
const NAME = "ustcp-port";

/** Sends numbered datagrams to the application, whose side sends each back; prints the numbers that returned, in order. */
const ASK = `
const [address, count, seconds] = process.argv.slice(1);
const socket = require("node:dgram").createSocket("udp4");
const got = [];
const end = () => { console.log(got.join(",")); process.exit(); };
socket.on("message", (data) => { if (got.push(String(data)) === Number(count)) end(); });
socket.on("error", end);
for (let i = 0; i < Number(count); i++) socket.send(String(i), 7000, address, () => {});
setTimeout(end, Number(seconds) * 1000);
`;
const ANSWER = `
const socket = require("node:dgram").createSocket("udp4");
socket.on("message", (data, peer) => socket.send(data, peer.port, peer.address, () => {}));
socket.bind(7000, "${ADDRESS}", () => console.log("ready"));
`;

let network: Network;
let node: Host;
let client: Host;
let application: Host;
let port: ApplicationInterface;

before(async () => {
  network = await Network.create();
  node = await network.node("10.98.0.1/24");
  client = await network.client("10.98.0.250/24");
  application = await network.application();
  port = node.run(() =>
    ApplicationInterface.create({
      application: NAME,
      initPid: application.pid,
      bridge: "br0",
      address: `${ADDRESS}/24`,
    }),
  );
  const answer = application.spawn(process.execPath, ["-e", ANSWER]);
  await new Promise((resolve) => answer.stdout!.once("data", resolve));
});
after(() => network.close());

function ask(count: number, waitSeconds = 0.3, from = client): string {
  return from.exec(process.execPath, "-e", ASK, ADDRESS, String(count), String(waitSeconds)).trim();
}

function askAsync(count: number, waitSeconds: number): () => Promise<string> {
  const child = client.spawn(process.execPath, ["-e", ASK, ADDRESS, String(count), String(waitSeconds)]);
  let output = "";
  child.stdout!.on("data", (data) => {
    output += data;
  });
  const ended = new Promise((resolve) => child.once("close", resolve));
  return async () => {
    await ended;
    return output.trim();
  };
}

test("a port is blocked from its creation, both ways, even when the bridge comes up again", () => {
  assert.equal(port.portState, "blocked");
  assert.equal(ask(1), "");
  node.exec("ip", "link", "set", "br0", "down");
  node.exec("ip", "link", "set", "br0", "up");
  assert.equal(ask(1), "");
  assert.equal(application.exec(process.execPath, "-e", ASK, "10.98.0.250", "1", "0.1").trim(), "");
});

test("what arrives while the port collects is delivered when it forwards", async () => {
  port.setPort("collecting");
  port.announce();
  const answers = askAsync(3, 2);
  await pause(1200);
  const begun = performance.now();
  port.setPort("speaking");
  port.setPort("forwarding");
  assert.ok(performance.now() - begun < 50);
  assert.equal(await answers(), "0,1,2");
  assert.equal(ask(2), "0,1");
});

test("frames that the hold could not see do not leave", () => {
  const before = port.dropped().out;
  application.run(() => {
    const sender = new FrameSender(interfaceIndex("eth0")!);
    const addresses = Buffer.alloc(12, 2);
    sender.send(Buffer.concat([addresses, Buffer.from([0x81, 0, 0, 1, 8, 0]), Buffer.alloc(50)]));
    sender.send(Buffer.concat([addresses, Buffer.from([0x88, 0xb5]), Buffer.alloc(50)]));
    sender.close();
  });
  assert.equal(port.dropped().out - before, 2);
});

test("held output leaves in order at its release, to the own node too; a dead owner lets nothing out", async () => {
  const hold = node.run(() => OutputHold.open(port));
  assert.equal(hold.holding, false);
  assert.equal(ask(2), "0,1");
  assert.equal(hold.pending, 0);

  hold.hold();
  let seen = 0;
  hold.onPacket((packets) => {
    seen += packets;
  });
  const answers = askAsync(5, 5);
  for (let i = 0; i < 400 && hold.pending < 5; i++) await pause(10);
  assert.equal(hold.pending, 5);
  assert.equal(seen, 5);
  const { lastId } = hold.drain();
  hold.release(lastId - 2);
  assert.equal(hold.pending, 2);
  hold.release(lastId - 2);
  hold.release(lastId);
  assert.equal(hold.pending, 0);
  assert.equal(await answers(), "0,1,2,3,4");

  assert.equal(ask(1, 0.3, node), "", "to the node itself");
  hold.drain();
  hold.discard();
  assert.equal(hold.pending, 0);

  hold.passThrough();
  assert.equal(ask(2), "0,1");
  hold.hold();
  hold.close();
  assert.equal(ask(2), "", "owner gone");

  const next = node.run(() => OutputHold.open(port));
  assert.equal(next.holding, true, "goes on holding");
  assert.equal(node.exec("iptables-legacy", "-t", "mangle", "-S").match(/NFQUEUE/g)?.length, 1);
  next.passThrough();
  assert.equal(ask(2), "0,1");
  node.run(() => next.remove());
  assert.equal(node.exec("iptables-legacy", "-t", "mangle", "-S").match(/NFQUEUE/g), null);
  assert.equal(ask(2), "0,1");
});

test("routes are tuned by a program that the event loop does not know of", async () => {
  const known = () => process.getActiveResourcesInfo().filter((kind) => kind === "ProcessWrap").length;
  const before = known();
  for (const restoring of [true, false]) {
    node.run(() => port.tuneRoutes(restoring));
    // One of those before may have ended meanwhile.
    assert.ok(known() <= before);
    const isTuned = () => application.exec("ip", "route").includes("initcwnd");
    for (let i = 0; i < 100 && isTuned() !== restoring; i++) await pause(20);
    assert.equal(isTuned(), restoring);
  }
});

test("a successor adopts the interface as it is", () => {
  const options = { application: NAME, initPid: application.pid, bridge: "br0", address: `${ADDRESS}/24` };
  const adopted = node.run(() => ApplicationInterface.adopt(options));
  assert.equal(adopted?.portState, "forwarding");
  adopted!.setPort("blocked");
  assert.equal(ask(1), "");
  adopted!.setPort("forwarding");
  assert.equal(ask(1), "0");
  node.run(() => adopted!.remove());
  assert.equal(
    node.run(() => ApplicationInterface.adopt(options)),
    undefined,
  );
});
