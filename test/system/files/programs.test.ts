/** Nodes whose libraries differ: a clone that would map another than the primary's is refused by name, at once and later. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Lab } from "../../../src/lab/lab.ts";
import { ProtectedApplication } from "../../../workload/application.ts";
import { cli, downAndGone, eventually } from "../faults/support.ts";

const lab = new Lab({ name: `prg${process.pid}` });
const scratch = mkdtempSync(join(tmpdir(), "understudy-programs-"));
/** Loads the library when it is told to. */
const MAIN = `#include <dlfcn.h>
#include <unistd.h>
int main(void) { while (access("/data/load", F_OK)) usleep(20000); return dlopen("/usr/local/lib/libpart.so", RTLD_NOW) ? pause() : 1; }`;
const site = new ProtectedApplication(lab, {
  name: "parts",
  command: ["/bin/sh", "-c", "mkdir -p /data; exec /usr/local/bin/parts"],
  address: "10.77.0.30/24",
});

before(
  async () => {
    writeFileSync(join(scratch, "main.c"), MAIN);
    execFileSync("gcc", ["-o", join(scratch, "parts"), join(scratch, "main.c")]);
    for (const version of [1, 2]) {
      writeFileSync(join(scratch, "part.c"), `int version(void) { return ${version}; }`);
      execFileSync("gcc", ["-shared", "-fPIC", "-o", join(scratch, `part${version}`), join(scratch, "part.c")]);
    }
    await lab.up({ nodes: 2 });
    for (const [node, version] of [
      ["node-a", 1],
      ["node-b", 2],
    ] as const) {
      await lab.exec(node, ["cp", join(scratch, "parts"), "/usr/local/bin/parts"]);
      await lab.exec(node, ["cp", join(scratch, `part${version}`), "/usr/local/lib/libpart.so"]);
    }
  },
  { timeout: 120_000 },
);
after(
  async () => {
    await downAndGone(lab);
    rmSync(scratch, { recursive: true, force: true });
  },
  { timeout: 60_000 },
);

const refused = async () =>
  (await site.events()).filter(({ message }) => /libpart\.so" on this node is another/.test(message));

test("a library that is another on the standby, mapped later: the clone is given up by name until it is the same", {
  timeout: 200_000,
}, async () => {
  const { name, address, command } = site.program;
  const protect = ["protect", "--name", name, "--address", address, "--standby", "node-b", "--", ...command];
  const { code, stderr } = await cli(lab, "node-a", protect);
  assert.equal(code, 0, stderr);
  assert.deepEqual((await site.report()).inSync, ["node-b"]);
  await lab.exec("node-a", ["sh", "-c", "touch /proc/$(pgrep -x parts)/root/data/load"]);
  await eventually("the clone is given up", async () => (await refused()).length > 0);
  await eventually("nobody is in sync", async () => (await site.report()).inSync.length === 0);
  await lab.exec("node-b", ["cp", join(scratch, "part1"), "/usr/local/lib/libpart.so"]);
  await eventually("the standby is in sync again", async () => (await site.report()).inSync.includes("node-b"));
});
