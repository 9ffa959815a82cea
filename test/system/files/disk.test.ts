/** An application on a disk of its own: its files keep their inode numbers, a full one is its own affair, nothing of it is left. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { after, afterEach, before, type TestContext, test } from "node:test";
import { Lab } from "../../../src/lab/lab.ts";
import { labPlaces } from "../../../src/lab/layout.ts";
import { ProtectedApplication } from "../../../workload/application.ts";
import {
  cli,
  downAndGone,
  eventually,
  instancePid,
  tellEvents,
  untilNothingOfApplications,
} from "../faults/support.ts";

const lab = new Lab({ name: `odk${process.pid}` });

/** Makes files of all kinds, has some open whose names are gone, and then makes and removes files all the time. */
const MANY = `
import os, socket, time
os.makedirs("/data/deep/er"); os.chdir("/data")
open("plain", "w").write("plain"); os.link("plain", "second"); os.symlink("plain", "link"); os.mkfifo("fifo")
listening = socket.socket(socket.AF_UNIX); listening.bind("/data/socket"); listening.listen()
gone = open("gone", "w+"); gone.write("gone"); gone.flush(); os.unlink("gone")
os.mkdir("gonedir"); gonedir = os.open("gonedir", os.O_RDONLY); os.rmdir("gonedir")
os.mkfifo("gonefifo"); gonefifo = os.open("gonefifo", os.O_RDWR); os.unlink("gonefifo")
os.remove("/etc/motd"); os.mkdir("/etc/motd")
turn = 0
while True:
    turn += 1
    open("new", "w").write(str(turn)); os.rename("new", "renamed")
    for i in range(20):
        open("reused", "w").close(); os.unlink("reused"); os.mkdir("reused"); os.rmdir("reused")
    open("deep/er/%d" % (turn % 50), "w").write("x" * turn); os.utime("deep")
    open("turn", "w").write(str(turn)); time.sleep(0.02)
`;
const many = new ProtectedApplication(lab, {
  name: "many",
  command: ["/usr/bin/python3", "-c", MANY],
  address: "10.77.0.30/24",
  disk: "128M",
});

before(() => lab.up({ nodes: 2 }), { timeout: 60_000 });
afterEach((context) => tellEvents(many, context as TestContext));
after(() => downAndGone(lab), { timeout: 60_000 });

/** A shell command on the node where the application runs; its first process is $P. */
async function beside(site: ProtectedApplication, script: string): Promise<string> {
  const { primary } = await site.report();
  const run = `cd /run/understudy; I=$(grep -o '"initPid":[0-9]*' ${site.name}.pid.json | cut -d: -f2)
    P=$(cat /proc/$I/task/*/children | cut -d' ' -f1); ${script}`;
  const { code, stdout, stderr } = await lab.exec(primary!, ["bash", "-c", run]);
  assert.equal(code, 0, stderr);
  return stdout;
}

/** Inode numbers as the application sees them, of what it does not change. */
const numbers = () =>
  beside(
    many,
    `cd /proc/$P/root/data; stat -c '%i %n' plain second link fifo socket deep deep/er ../etc/motd .
     for fd in /proc/$P/fd/*; do case "$(readlink $fd)" in /data/gone*) stat -L -c "%i $(readlink $fd)" $fd;; esac; done |
       sed s/.~deleted//g`,
  );
const turn = async () => Number(await beside(many, "cat /proc/$P/root/data/turn"));

async function goesOn(): Promise<void> {
  const before = await turn();
  await eventually("the program goes on", async () => (await turn()) > before + 10);
}

/** The nodes' images of disks, by inode number. */
function images(): Set<number> {
  const found = execFileSync("find", [labPlaces(lab.name).directory, "-name", "*.img", "-printf", "%i\\n"]);
  return new Set(found.toString().split("\n").filter(Boolean).map(Number));
}

/** Of these, those on loop devices: wherever they are mounted. */
function inUse(known: Set<number>): number[] {
  const list = execFileSync("losetup", ["--list", "--noheadings", "--output", "BACK-INO"], { encoding: "utf8" });
  return list
    .split("\n")
    .map(Number)
    .filter((inode) => known.has(inode));
}

test("files of all kinds keep their inode numbers in switches and power failures", { timeout: 300_000 }, async () => {
  await many.protect({ limitMs: 120_000 });
  const first = await numbers();
  assert.match(first, /^\d+ plain$/m);
  assert.equal(first.split("\n").filter((line) => line.includes("(deleted)")).length, 3, first);
  for (const how of ["switch", "power-off", "power-off", "switch"]) {
    const { primary, standbys, term } = await many.untilProtected({ timeoutMs: 120_000 });
    await goesOn();
    if (how === "switch") await many.switchTo(standbys[0]!.node);
    else await lab.powerOff(primary!);
    await eventually("the other node has it", async () => (await many.report()).term > term);
    await goesOn();
    const now = await numbers();
    if (how === "power-off") await lab.powerOn(primary!);
    assert.equal(now, first, how);
  }
  const events = await many.events();
  assert.deepEqual(
    events.filter(({ kind }) => kind === "inode-number-missed" || kind === "clone-lost").map(({ message }) => message),
    [],
  );
});

test("what was kept of a clone is not sent again, and goes", { timeout: 120_000 }, async () => {
  const { primary, standbys } = await many.untilProtected();
  const standby = standbys[0]!.node;
  await beside(many, "head -c 20000000 /dev/urandom >/proc/$P/root/data/large");
  const digest = await beside(many, "sha256sum </proc/$P/root/data/large");
  // Its size comes first, its bytes in several parts.
  await eventually("the clone has all of it", async () => {
    const path = `/var/lib/understudy/applications/many/files/disk/upper/data/large`;
    return (await lab.exec(standby, ["sh", "-c", `sha256sum <${path}`])).stdout === digest;
  });
  const kept = async () => (await lab.exec(standby, ["ls", "/var/lib/understudy/kept/many"])).code === 0;
  process.kill(await instancePid(lab, standby, "many"), "SIGKILL");
  await eventually("another clone has come", async () => {
    const last = (await many.events()).findLast(({ kind }) => kind === "synchronised");
    return (last?.details?.keptBytes as number) >= 20_000_000;
  });
  await eventually("what was kept is gone", async () => !(await kept()));
  // An instance that dies leaves the disk where it is.
  process.kill(await instancePid(lab, primary!, "many"), "SIGKILL");
  const first = await numbers();
  await many.untilProtected();
  await goesOn();
  assert.equal(await numbers(), first);
});

test("what has ended can be read until it is removed; then nothing is left", { timeout: 120_000 }, async () => {
  const { primary } = await many.report();
  await beside(many, "kill -KILL $P");
  await eventually("it has ended", async () => (await many.report()).state === "ended");
  const read = await eventually("its files are the user's", async () => {
    const { code, stdout } = await cli(lab, primary!, ["files", "many", "cat", "/data/plain"]);
    return code === 0 ? stdout : undefined;
  });
  assert.equal(read, "plain");
  const known = images();
  assert.equal(inUse(known).length, 1);
  await many.stop();
  await untilNothingOfApplications(lab);
  assert.equal(images().size, 0);
  await eventually("no image is left", () => inUse(known).length === 0);
});

const FULL = `
mkdir /data; cd /data; (cat /dev/zero >zeros) 2>error; grep -c "No space left" error >full
rm -f zeros; while :; do date >now; sleep 0.05; done`;
const full = new ProtectedApplication(lab, {
  name: "full",
  command: ["/bin/bash", "-c", `${FULL.replace("rm -f zeros", "sleep 2; rm -f zeros")}`],
  address: "10.77.0.31/24",
  disk: "64M",
});

test("a full disk is the program's own error; it goes on, with a clone that has the same", {
  timeout: 120_000,
}, async () => {
  await full.protect();
  await eventually("it was full", async () => (await beside(full, "cat /proc/$P/root/data/full || true")) === "1\n");
  const { standbys, term } = await full.untilProtected();
  await full.switchTo(standbys[0]!.node);
  await eventually("the other node has it", async () => (await full.report()).term > term);
  await beside(full, "grep -q 'No space left' /proc/$P/root/data/error");
  await full.stop();
});

test("a node without the room that was promised is told of by name", { timeout: 120_000 }, async () => {
  const onB = (script: string) => lab.exec("node-b", ["sh", "-c", script]);
  const state = "/var/lib/understudy";
  await untilNothingOfApplications(lab);
  await onB(`mount -t tmpfs -o size=100m tmpfs ${state}`);
  const options = ["--name", "large", "--address", "10.77.0.32/24", "--disk", "200M"];
  const { code, stdout } = await cli(lab, "node-a", [
    ...["protect", "--json", ...options, "--standby", "node-b", "--", "sleep", "1000"],
  ]);
  assert.equal(code, 1, stdout);
  assert.equal(JSON.parse(stdout).error.code, "disk-no-room", stdout);
  const here = await cli(lab, "node-a", ["protect", "--json", ...options.slice(0, -1), "16T", "--", "sleep", "1000"]);
  assert.equal(JSON.parse(here.stdout).error.code, "disk-no-room", here.stdout);
  await untilNothingOfApplications(lab);
  await onB(`umount -l ${state}`);
});

test("a lab that goes down takes its images with it", { timeout: 120_000 }, async () => {
  await full.protect();
  const known = images();
  assert.equal(inUse(known).length, 2);
  await lab.down();
  await eventually("no image is left", () => inUse(known).length === 0);
  assert.ok(!existsSync(`/var/lib/understudy-lab/${lab.name}`));
});
