/** The lab, for real: namespaces, cgroups and mounts of this machine, with a stand-in for the agent. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { LeftLabs } from "../../scripts/left-labs.ts";
import { cgroupMount } from "../../src/agent/cgroup.ts";
import { labsFound, labsUp } from "../../src/lab/find.ts";
import { Lab } from "../../src/lab/lab.ts";
import { labPlaces, nodePlaces } from "../../src/lab/layout.ts";
import { namespacesOf } from "../../src/lab/network.ts";

const standIn = join(import.meta.dirname, "../support/stand-in-agent.ts");
const agentCommand = [process.execPath, standIn];
const own = (suffix: string) => `t${process.pid}${suffix}`;

/** Nothing of the lab is on this machine. */
function assertGone(name: string): void {
  assert.deepEqual(namespacesOf(name), []);
  for (const path of [
    `/var/lib/understudy-lab/${name}`,
    `/run/understudy-lab/${name}`,
    `/run/understudy-lab-${name}.lock`,
  ])
    assert.ok(!existsSync(path), `${path} is left`);
  assert.ok(!existsSync(join(cgroupMount(), "understudy-lab", name)), "cgroups are left");
  assert.ok(!readFileSync("/proc/mounts", "utf8").includes(`/${name}/`), "mounts are left");
  const processes = readdirSync("/proc").filter((pid) => /^\d+$/.test(pid));
  const left = processes.filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(`/understudy-lab/${name}/`);
    } catch {
      return false;
    }
  });
  assert.deepEqual(left, [], "processes are left");
}

/** Long enough for an answer on a busy machine; and for being sure enough that none comes. */
const PATIENCE_MS = { answer: 10_000, silence: 700 };

/** What answers at a node's port, seen from another host; empty when nothing does. */
async function ask(
  lab: Lab,
  from: string,
  address: string,
  expect: keyof typeof PATIENCE_MS = "answer",
): Promise<string> {
  const script = `
    const c = require("net").connect(7700, "${address}");
    setTimeout(() => process.exit(0), ${PATIENCE_MS[expect]});
    c.on("data", (d) => { process.stdout.write(d); process.exit(0); }).on("error", () => process.exit(0));`;
  const argv = [process.execPath, "-e", script];
  return (await (from === "client" ? lab.client(argv) : lab.exec(from, argv))).stdout;
}

async function until(what: string, condition: () => Promise<boolean> | boolean): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (await condition()) return;
    await sleep(20);
  }
  assert.fail(`Never: ${what}`);
}

describe("a lab of three nodes", () => {
  const name = own("a");
  const lab = new Lab({ name, agentCommand });
  before(() => lab.up());
  after(async () => {
    await lab.down();
    assertGone(name);
  });

  test("every host reaches every node, under the node's own host name", async () => {
    for (const from of ["node-a", "node-b", "client"]) {
      const answers = await Promise.all([1, 2, 3].map((n) => ask(lab, from, `10.77.0.${n}`)));
      assert.deepEqual(answers, ["node-a", "node-b", "node-c"]);
    }
  });

  test("says what it is", async () => {
    const status = await lab.status();
    assert.ok(status.up && labsUp().includes(name));
    assert.deepEqual(
      status.nodes.map((node) => [node.name, node.address, node.power, node.agent]),
      [1, 2, 3].map((n) => [`node-${" abc"[n]}`, `10.77.0.${n}`, "on", "running"]),
    );
  });

  test("passes on exit code, input and output of a command", async () => {
    const result = await lab.exec("node-a", ["sh", "-c", "cat; echo there >&2; exit 7"], { input: "here" });
    assert.deepEqual(result, { code: 7, stdout: "here", stderr: "there\n" });
    assert.equal((await lab.exec("node-a", ["no-such-program"])).code, 127);
    assert.equal((await lab.client(["sh", "-c", "kill -9 $$"])).code, 137);
  });

  test("a node's files are its own; only the store is shared", async () => {
    const write =
      "echo secret | tee /etc/us-test /tmp/us-test /run/us-test /dev/shm/us-test /var/lib/understudy/us-test";
    assert.equal(
      (await lab.exec("node-a", ["sh", "-c", `${write} && echo x > /var/lib/understudy-store/us-test`])).code,
      0,
    );
    const look =
      "cat /etc/us-test /tmp/us-test /run/us-test /dev/shm/us-test /var/lib/understudy/us-test 2>/dev/null; true";
    assert.equal((await lab.exec("node-b", ["sh", "-c", look])).stdout, "");
    assert.equal((await lab.exec("node-b", ["cat", "/var/lib/understudy-store/us-test"])).stdout, "x\n");
    assert.equal((await lab.exec("node-b", ["sh", "-c", "ls /var/lib/understudy-lab"])).stdout, "");
    for (const path of ["/etc/us-test", "/tmp/us-test", "/dev/shm/us-test"]) assert.ok(!existsSync(path));
    assert.equal(readFileSync(join(lab.stateDirectory("node-a"), "us-test"), "utf8"), "secret\n");
  });

  test("an overlay can be mounted on a node with its state directory above", async () => {
    const script = `cd /var/lib/understudy && mkdir u w m && unshare -m sh -c '
      mount -t overlay o -o lowerdir=/,upperdir=u,workdir=w m && echo x > m/etc/new && test -x m/bin/sh' && cat u/etc/new`;
    assert.deepEqual(await lab.exec("node-a", ["sh", "-c", script]), { code: 0, stdout: "x\n", stderr: "" });
  });

  test("bridged packets of a node pass iptables, its bridge keeps its address", async () => {
    const script = `cat /proc/sys/net/bridge/bridge-nf-call-iptables
      ip link add name us0 address 02:00:00:00:00:01 type veth peer name us1
      ip link set us0 master br0; cat /sys/class/net/br0/address; ip link delete us0`;
    assert.equal((await lab.exec("node-a", ["sh", "-c", script])).stdout, "1\n02:75:73:00:00:01\n");
  });

  test("a link is cut one way or both, and healed", async () => {
    await lab.cut("node-a", "client", { oneWay: true });
    assert.deepEqual((await lab.status()).cuts, [{ from: "node-a", to: "client" }]);
    assert.equal(await ask(lab, "client", "10.77.0.1", "silence"), "");
    assert.equal(await ask(lab, "client", "10.77.0.2"), "node-b");
    await lab.cut("node-a", "node-b");
    assert.equal(await ask(lab, "node-a", "10.77.0.2", "silence"), "");
    assert.equal(await ask(lab, "node-a", "10.77.0.3"), "node-c");
    await lab.heal("node-a", "node-b");
    assert.equal(await ask(lab, "node-a", "10.77.0.2"), "node-b");
    await lab.heal();
    await lab.heal();
    assert.equal(await ask(lab, "client", "10.77.0.1"), "node-a");
    assert.deepEqual((await lab.status()).cuts, []);
  });

  test("one-way means one way: what comes still comes", async () => {
    await lab.exec("node-a", [
      "sh",
      "-c",
      "ip neigh flush all; ip neigh replace 10.77.0.2 lladdr 02:75:73:00:00:02 dev br0",
    ]);
    await lab.exec("node-b", ["ip", "neigh", "replace", "10.77.0.1", "lladdr", "02:75:73:00:00:01", "dev", "br0"]);
    const listen = `const s = require("dgram").createSocket("udp4");
      s.on("message", (m) => { process.stdout.write(m); process.exit(0); });
      s.bind(9999, () => s.send("hello", 9999, process.argv[1])); setTimeout(() => process.exit(1), 10000);`;
    const say = `const s = require("dgram").createSocket("udp4"); s.bind(9999);
      s.on("message", (m) => { process.stdout.write(m); });
      const t = setInterval(() => s.send("hello", 9999, process.argv[1]), 50); setTimeout(() => process.exit(0), 3000);`;
    await lab.cut("node-b", "node-a", { oneWay: true });
    const [heard, spoke] = await Promise.all([
      lab.exec("node-b", [process.execPath, "-e", listen, "10.77.0.1"]),
      lab.exec("node-a", [process.execPath, "-e", say, "10.77.0.2"]),
    ]);
    await lab.heal("node-a", "node-b");
    assert.equal(heard.stdout, "hello");
    assert.equal(spoke.stdout, "");
  });

  test("an agent that dies is started again; the rest of the node lives on", async () => {
    const sleeper = await lab.spawn("node-c", ["sleep", "100"], { stdio: "ignore" });
    const agents = () => readFileSync(join(lab.cgroup("node-c"), "agent/cgroup.procs"), "utf8").trim();
    const first = agents();
    process.kill(Number(first), "SIGKILL");
    await until(
      "another agent",
      async () => agents() !== first && (await ask(lab, "node-a", "10.77.0.3")) === "node-c",
    );
    assert.equal(sleeper.exitCode ?? sleeper.signalCode, null);
    sleeper.kill();
  });

  test("a node without power says no goodbye, keeps its disk, loses /run", async () => {
    await lab.exec("node-b", [
      "sh",
      "-c",
      "echo x > /run/us-x; echo x > /run/understudy/us-x; echo x > /var/lib/understudy/us-x; echo x > /etc/us-x",
    ]);
    // A connection that would see a FIN or RST if the dying node could still send one.
    const script = `const c = require("net").connect(9998, "10.77.0.2", () => console.log("open"));
      c.on("end", () => console.log("FIN")).on("error", (e) => console.log(e.code)); setTimeout(() => process.exit(0), 1500);`;
    const server = `require("net").createServer(() => {}).listen(9998, "10.77.0.2", () => console.log("listening"))`;
    const listener = await lab.spawn("node-b", [process.execPath, "-e", server], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    await once(listener.stdout!, "data");
    const client = await lab.spawnInClient([process.execPath, "-e", script], { stdio: ["ignore", "pipe", "ignore"] });
    let said = "";
    client.stdout!.on("data", (data: Buffer) => {
      said += data.toString();
    });
    await until("an open connection", () => said === "open\n");
    const ended = once(client, "close");
    await lab.powerOff("node-b");
    assert.equal(listener.signalCode ?? (await once(listener, "exit"))[1], "SIGKILL");
    await ended;
    assert.equal(said, "open\n");
    await assert.rejects(lab.exec("node-b", ["true"]), { code: "node-off" });
    await assert.rejects(lab.powerOff("node-b"), { code: "node-off" });
    assert.equal((await lab.status()).nodes[1]!.power, "off");

    await lab.powerOn("node-b");
    await assert.rejects(lab.powerOn("node-b"), { code: "node-on" });
    const look = "cat /run/us-x /run/understudy/us-x 2>/dev/null; cat /var/lib/understudy/us-x /etc/us-x";
    assert.equal((await lab.exec("node-b", ["sh", "-c", look])).stdout, "x\nx\n");
    assert.equal(await ask(lab, "client", "10.77.0.2"), "node-b");
  });

  test("what does not exist is named", async () => {
    await assert.rejects(lab.powerOff("node-x"), { code: "no-such-node", remedy: /node-a, node-b, node-c/ });
    await assert.rejects(lab.cut("node-a", "node-a"), { code: "link-invalid" });
    await assert.rejects(lab.cut("node-a", "nobody"), { code: "no-such-node" });
    await assert.rejects(new Lab({ name: own("none") }).exec("node-a", ["true"]), { code: "lab-down" });
    await assert.rejects(new Lab({ name, agentCommand }).up(), { code: "lab-exists" });
    await assert.rejects(new Lab({ name: own("many") }).up({ nodes: 10 }), { code: "lab-nodes-invalid" });
    assert.throws(() => new Lab({ name: "Not a name" }), { code: "lab-name-invalid" });
  });

  test("a second lab beside it shares nothing with it", async () => {
    const other = own("a-node");
    {
      await using second = new Lab({ name: other, agentCommand });
      await second.up({ nodes: 1 });
      assert.equal(await ask(second, "client", "10.77.0.1"), "node-a");
      assert.equal(await ask(second, "client", "10.77.0.2", "silence"), "");
    }
    assertGone(other);
    assert.equal(await ask(lab, "client", "10.77.0.2"), "node-b");
  });
});

describe("a lab that fails or is interrupted leaves nothing", () => {
  test("an agent that does not come up, and an end to the waiting", async () => {
    const name = own("f");
    const lab = new Lab({ name, agentCommand: ["sh", "-c", "echo cannot begin; sleep 60"] });
    const refused = assert.rejects(lab.up({ nodes: 1 }), { code: "lab-interrupted" });
    await until(
      "the agent's log",
      () => existsSync(lab.agentLog("node-a")) && readFileSync(lab.agentLog("node-a"), "utf8") !== "",
    );
    await lab.down();
    await refused;
    assertGone(name);
  });

  test("what a crash left is cleared away by the next start", async () => {
    const name = own("c");
    const lab = new Lab({ name, agentCommand });
    await lab.up({ nodes: 1 });
    // As a start that was killed in the middle: all is there except the record that is written last.
    const { record } = labPlaces(name);
    rmSync(record);
    assert.ok(!lab.isUp() && labsFound().includes(name));
    const before = readFileSync(nodePlaces(labPlaces(name), 0).pidFile, "utf8");
    await lab.up({ nodes: 2 });
    assert.ok(!existsSync(`/proc/${before}`));
    assert.equal((await lab.status()).nodes.length, 2);
    await lab.down();
    await lab.down();
    assertGone(name);
  });

  test("kill -9 in the middle of a start, then down", async () => {
    const name = own("k");
    const program = `import { Lab } from ${JSON.stringify(join(import.meta.dirname, "../../src/lab/lab.ts"))};
      await new Lab({ name: "${name}", agentCommand: ${JSON.stringify(agentCommand)} }).up();`;
    for (const delayMs of [150, 300, 450]) {
      const child = spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: "ignore" });
      await sleep(delayMs);
      child.kill("SIGKILL");
      await once(child, "exit");
      await new Lab({ name }).down();
      assertGone(name);
    }
  });

  test("what a killed test leaves behind is taken down by its runner, and nobody else's", async () => {
    const mine = new Lab({ name: own("m"), agentCommand });
    await mine.up({ nodes: 1 });
    const program = `import { Lab } from ${JSON.stringify(join(import.meta.dirname, "../../src/lab/lab.ts"))};
      await new Lab({ name: "l" + process.pid, agentCommand: ${JSON.stringify(agentCommand)} }).up({ nodes: 1 });
      console.log("up"); setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    const left = `l${child.pid}`;
    const labs = new LeftLabs();
    try {
      await once(child.stdout, "data");
      labs.look();
      labs.takeDown();
      assert.ok(new Lab({ name: left }).isUp(), "its test still runs");
      child.kill("SIGKILL");
      await once(child, "exit");
      labs.takeDown();
      assertGone(left);
      assert.ok(mine.isUp());
    } finally {
      child.kill("SIGKILL");
      await new Lab({ name: left }).down();
      await mine.down();
    }
  });
});
