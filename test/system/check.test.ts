/**
 * What cannot be protected is named: before it runs (check -- COMMAND --run), when its protection starts, and while it runs
 * (events, check NAME), where `onUnprotectable` decides on its output. And understudy tree of what is protected.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { ApplicationReport } from "../../src/agent/api-types.ts";
import { cgroupMount } from "../../src/agent/cgroup.ts";
import { Lab } from "../../src/lab/lab.ts";
import { clientAddress } from "../../src/lab/layout.ts";
import type { Graph } from "../../src/tree/graph.ts";
import { cli, eventually } from "./faults/support.ts";

const lab = new Lab({ name: `chk${process.pid}` });
const run = (...args: string[]) => cli(lab, "node-a", args);

/** A device with state outside: /dev/kmsg under another name. */
const ODD = "mknod /dev/odd c 1 11";

before(() => lab.up({ nodes: 2 }), { timeout: 60_000 });
after(() => lab.down(), { timeout: 60_000 });

function leftovers(): string[] {
  const state = "/var/lib/understudy";
  const all = [...readdirSync(cgroupMount()), ...(existsSync(state) ? readdirSync(state) : [])];
  return all.filter((name) => name.startsWith("understudy-check-"));
}

test("check runs a command in a sandbox", { timeout: 60_000 }, async () => {
  const good = await run("check", "--run", "0.5", "--json", "--", "sleep", "100");
  assert.equal(good.code, 0, good.stderr);
  assert.equal(JSON.parse(good.stdout).program.ok, true);
  const script = `${ODD}; exec 3</dev/odd 4</dev/odd 5>/tmp/gone 6</dev/null; rm /tmp/gone; sleep 100`;
  const bad = await run("check", "--run", "0.5", "--", "bash", "-c", script);
  assert.equal(bad.code, 1);
  assert.match(bad.stdout, /no +The application has "\/dev\/odd" open, a device with state outside/);
  assert.match(bad.stdout, /Run it without that device/);
  assert.match(bad.stderr, /"bash" cannot be protected/);
  const short = await run("check", "--run", "5", "--", "sh", "-c", "echo the reason; exit 3");
  assert.equal(short.code, 1);
  assert.match(short.stdout, /exited with code 3 .*\n.*the reason/);
  assert.deepEqual(leftovers(), []);
});

/** Begins as such a database does: page size, then who writes it and who reads it. */
const database = (version: number) => `printf 'SQLite format 3\\0\\020\\0\\00${version}\\00${version}' >/tmp/ledger`;

/** What `check --run` says of a shell that has come to the end of its script: on a busy machine that takes longer. */
async function checkedAtItsEnd(script: string) {
  // A second process says that it has.
  const command = ["--", "bash", "-c", `${script}; sleep 1000 & wait`];
  for (let seconds = 0.5; ; seconds *= 2) {
    const { code, stdout, stderr } = await run("check", "--run", String(seconds), ...command);
    assert.equal(code, 0, stdout + stderr);
    if (/It ran with 2 processes/.test(stdout)) return stdout;
  }
}

test("check names a database that cannot be written after a switch", { timeout: 240_000 }, async () => {
  const rollback = await checkedAtItsEnd(`${database(1)}; exec 3<>/tmp/ledger`);
  assert.match(rollback, /but +"\/tmp\/ledger" is an SQLite database with a rollback journal/);
  assert.match(rollback, /--disk SIZE.*journal_mode=WAL/s);
  const ahead = await checkedAtItsEnd(`${database(2)}; exec 3<>/tmp/ledger`);
  assert.doesNotMatch(ahead, /SQLite/);
});

/** What a program may do, and how it is refused for it. */
const REFUSED: Array<[code: string, script: string]> = [
  // A stand-in for a GPU: what is behind the node of that name has state outside.
  ["unprotectable-device", "mkdir /dev/dri; mknod /dev/dri/renderD128 c 1 11; exec 3</dev/dri/renderD128; sleep 1000"],
  ["unprotectable-device", "mknod /tmp/odd c 1 11; exec 3</tmp/odd; sleep 1000"],
  ["unprotectable-namespace", "unshare --mount sleep 1000"],
  ["unprotectable-namespace", "unshare --user --map-root-user sleep 1000"],
  ["unprotectable-namespace", "unshare --net --ipc --uts sleep 1000"],
  ["unprotectable-namespace", "unshare --pid --fork sleep 1000"],
  ["unprotectable-mount", "mount -t tmpfs none /mnt; sleep 1000"],
  ["unprotectable-mount", "mount -t proc again /proc; sleep 1000"],
  ["unprotectable-debugger", "exec perl -e 'syscall(101, 0, 0, 0, 0); sleep 1000'"],
  ["unprotectable-descriptor", "exec perl -e 'socket(S, 17, 3, 0); sleep 1000'"],
];

for (const [code, script] of REFUSED)
  test(`${code}: ${script}`, { timeout: 120_000 }, async () => {
    const checked = await run("check", "--run", "0.7", "--json", "--", "bash", "-c", script);
    assert.equal(checked.code, 1, checked.stdout);
    const { findings } = JSON.parse(checked.stdout).program as { findings: Array<{ ok: boolean; code?: string }> };
    assert.deepEqual(new Set(findings.filter(({ ok }) => !ok).map((one) => one.code)), new Set([code]));
    const options = ["--name", "refused", "--address", "10.77.0.34/24", "--standby", "node-b", "--json"];
    const { code: exit, stdout } = await run("protect", ...options, "--", "bash", "-c", script);
    assert.equal(exit, 1);
    assert.equal(JSON.parse(stdout).error.code, code, stdout);
    assert.equal((await run("ps")).stdout, "No applications.\n");
  });

/** Both fail on every machine, with these arguments; where there is none, with ENOSYS. */
const ABSENT = [
  { what: "io_uring", call: "syscall(425, 8, 0)", code: "unprotectable-io-uring", address: "10.77.0.35/24" },
  { what: "io_setup", call: "syscall(206, 0, 0)", code: "unprotectable-aio", address: "10.77.0.37/24" },
];

for (const { what, call, code: expected, address } of ABSENT)
  test(`${what}: absent for who can do without, a reason for who ends without it`, { timeout: 120_000 }, async () => {
    const asks = `${call}; my $absent = $!{ENOSYS};`;
    const check = async (then: string) => {
      const { code, stdout } = await run("check", "--run", "0.7", "--json", "--", "perl", "-e", `${asks} ${then}`);
      return { code, findings: JSON.parse(stdout).program.findings as Array<{ ok: boolean; code?: string }> };
    };
    assert.equal((await check("die unless $absent; sleep 1000")).code, 0);
    const needs = "exit 3 if $absent; sleep 1000";
    const { code, findings } = await check(needs);
    assert.equal(code, 1);
    assert.ok(
      findings.some((one) => !one.ok && one.code === expected),
      JSON.stringify(findings),
    );
    const options = ["--name", what.replace("_", "-"), "--address", address, "--standby", "node-b", "--json"];
    const refused = await run("protect", ...options, "--", "perl", "-e", `${asks} ${needs}`);
    assert.equal(refused.code, 1);
    assert.match(JSON.parse(refused.stdout).error.message, new RegExp(`exited with code 3; it had asked for ${what}`));
  });

test("a unix socket whose other end is outside", { timeout: 240_000 }, async (t) => {
  const directory = "/tmp/outside";
  const listen = `require("node:net").createServer(() => {}).listen("${directory}/socket", () => console.log("listening"))`;
  await lab.exec("node-a", ["mkdir", "-p", directory]);
  const listener = await lab.spawn("node-a", [process.execPath, "-e", listen], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => listener.kill());
  await new Promise((done) => listener.stdout!.once("data", done));
  const options = ["--name", "outside", "--address", "10.77.0.36/24", "--standby", "node-b", "--json"];
  const connect = "use IO::Socket::UNIX; our $s = IO::Socket::UNIX->new(Peer => '/data/socket') or die; sleep 1000";
  const { code, stdout } = await run(
    "protect",
    ...options,
    "--volume",
    `/data=${directory}`,
    "--",
    "perl",
    "-e",
    connect,
  );
  assert.equal(code, 1, stdout);
  assert.equal(JSON.parse(stdout).error.code, "unprotectable-unix-socket", stdout);
  assert.equal((await run("ps")).stdout, "No applications.\n");
});

test("protect refuses what it cannot copy, and starts nothing", { timeout: 60_000 }, async () => {
  const protect = ["protect", "--name", "odd", "--address", "10.77.0.31/24", "--standby", "node-b", "--json"];
  const { code, stdout } = await run(...protect, "--", "bash", "-c", `${ODD}; exec 3</dev/odd; sleep 1000`);
  assert.equal(code, 1);
  const { error } = JSON.parse(stdout);
  assert.equal(error.code, "unprotectable-device");
  assert.match(error.remedy, /without that device/);
  assert.equal((await run("ps")).stdout, "No applications.\n");
});

/** Told by signals: what is said over the network waits for acknowledgements, which are held. */
const TICKER = `${ODD}
trap 'exec 8</dev/odd' USR1
trap 'exec 8<&-' USR2
exec 7<>/dev/tcp/${clientAddress}/$1
i=0
while :; do
  read -r -t 0.05 -u 7
  i=$((i+1)); echo "$i" >&7
done`;

const LISTENER = `
const server = require("node:net").createServer((socket) => socket.pipe(process.stdout));
server.listen(Number(process.argv[1]), () => console.error("listening"));`;

/** An application that counts aloud, over one connection, to a listener on the client host. */
async function ticker(name: string, address: string, port: number, policy: string) {
  const listener = await lab.spawnInClient([process.execPath, "-e", LISTENER, String(port)], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const numbers: number[] = [];
  let text = "";
  listener.stdout!.setEncoding("utf8").on("data", (data: string) => {
    const lines = (text + data).split("\n");
    text = lines.pop()!;
    numbers.push(...lines.map(Number));
  });
  await new Promise((done) => listener.stderr!.once("data", done));
  const options = ["--name", name, "--address", address, "--standby", "node-b", "--on-unprotectable", policy];
  const started = await run("protect", ...options, "--", "bash", "-c", TICKER, "ticker", String(port));
  assert.equal(started.code, 0, started.stderr);
  const { instance } = JSON.parse((await run("status", name, "--json")).stdout) as ApplicationReport;
  const { initPid } = instance!;
  const pid = Number(readFileSync(`/proc/${initPid}/task/${initPid}/children`, "latin1"));
  const use = (odd: boolean) => process.kill(pid, odd ? "SIGUSR1" : "SIGUSR2");
  const more = (count: number) => {
    const wanted = numbers.length + count;
    return eventually(`${count} more ticks of ${name}`, () => numbers.length >= wanted, 20_000);
  };
  return { numbers, use, more, end: () => listener.kill() };
}

const refusal = async (name: string) => JSON.parse((await run("check", name, "--json")).stdout);

async function isRefused(name: string): Promise<void> {
  await eventually("a refusal", async () => (await refusal(name)).refusal?.code === "unprotectable-device", 20_000);
  const told = await run("check", name);
  assert.equal(told.code, 1);
  assert.match(told.stdout, /no +The application has "\/dev\/odd" open/);
  assert.match((await run("status", name)).stdout, /unprotectable +since .*\/dev\/odd/);
  const events = (await run("events", "--application", name)).stdout;
  assert.match(events, /unprotectable-device/);
  const { inSync } = JSON.parse((await run("status", name, "--json")).stdout);
  // A machine that is too busy may lose the standby for reasons of its own.
  if (!events.includes("standby-lost")) assert.deepEqual(inSync, ["node-b"], "the last good checkpoint stays valid");
  for (let i = 0; i < 3; i++) {
    const { stdout } = await run("checkpoint", name, "--json");
    assert.equal(JSON.parse(stdout).error?.code, "unprotectable-device", stdout);
  }
}

function isComplete(numbers: number[]): void {
  assert.deepEqual(
    numbers,
    numbers.map((_, i) => i + 1),
  );
}

test("onUnprotectable hold: output waits until it can be protected again", { timeout: 120_000 }, async (t) => {
  const { numbers, use, more, end } = await ticker("holds", "10.77.0.32/24", 9032, "hold");
  t.after(end);
  await more(5);
  assert.equal((await run("check", "holds")).code, 0);
  use(true);
  await isRefused("holds");
  const before = numbers.length;
  await sleep(1000);
  assert.equal(numbers.length, before, "nothing leaves");
  use(false);
  await more(20);
  assert.equal((await refusal("holds")).ok, true);
  isComplete(numbers);
  const tree = await run("tree", "holds", "--json");
  const { nodes } = JSON.parse(tree.stdout) as Graph;
  const ids = new Set(nodes.map(({ id }) => id));
  for (const id of ["process/2", "thread/2/2", `host/${clientAddress}`, "file//usr/bin/bash"])
    assert.ok(ids.has(id), `${id} is not in the tree`);
  assert.ok(nodes.find(({ id }) => id === "file//usr/bin/bash")!.details.buildId);
  assert.equal(nodes.find(({ id }) => id === "process/2")!.details.nice, 0, "it has no priority of the instance's");
  assert.match((await run("tree", "holds")).stdout, /tcp 10\.77\.0\.32:\d+ → 10\.77\.0\.250:9032 established/);
  assert.match((await run("tree", "holds", "--dot")).stdout, /^digraph "holds" \{/);
  assert.equal((await run("stop", "holds")).code, 0);
});

test("onUnprotectable warn: output goes on unprotected", { timeout: 120_000 }, async (t) => {
  const { numbers, use, more, end } = await ticker("warns", "10.77.0.33/24", 9033, "warn");
  t.after(end);
  await more(5);
  use(true);
  await isRefused("warns");
  await more(10);
  use(false);
  await eventually("protectable again", async () => (await refusal("warns")).ok, 20_000);
  await more(10);
  isComplete(numbers);
  assert.equal((await run("stop", "warns")).code, 0);
});
