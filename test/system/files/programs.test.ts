/** Nodes whose programs and libraries differ: a clone is brought the primary's; what cannot be brought is refused by name. */
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
const SOURCE = new URL("programs.c", import.meta.url).pathname;
const site = new ProtectedApplication(lab, {
  name: "parts",
  command: ["/bin/sh", "-c", "mkdir -p /data; exec /usr/local/bin/parts"],
  address: "10.77.0.30/24",
});

/** `VERSION/` with the program and its libraries of that version. */
function build(version: number): string {
  const directory = join(scratch, String(version));
  const make = (...args: string[]) => execFileSync("gcc", args, { cwd: directory });
  execFileSync("mkdir", ["-p", directory]);
  for (const name of ["base_version", "version"])
    writeFileSync(join(directory, `${name}.c`), `int ${name}(void) { return ${version}; }`);
  const library = (source: string, to: string) =>
    make("-shared", "-fPIC", `-Wl,-soname,${to}`, "-o", to, `${source}.c`);
  library("base_version", "libbase.so.1");
  library("version", "libpart.so");
  library("version", "libother.so");
  const main = ["-o", "parts", `-DVERSION=${version}`, SOURCE, "./libbase.so.1", "-Wl,-rpath,/usr/local/lib", "-ldl"];
  make(...main);
  return directory;
}

before(
  async () => {
    const [one, two] = [build(1), build(2)];
    await lab.up({ nodes: 2 });
    const install = (node: string, script: string) => lab.exec(node, ["sh", "-ec", script]);
    await install(
      "node-a",
      `cp ${one}/parts /usr/local/bin; cp ${one}/libpart.so /usr/local/lib
       cp ${one}/libbase.so.1 /usr/local/lib/libbase.so.1.0; ln -s libbase.so.1.0 /usr/local/lib/libbase.so.1
       mkdir /usr/local/lib/sub; cp ${one}/libother.so /usr/local/lib/sub`,
    );
    // No program, no such base library but an older one, others of another version.
    await install(
      "node-b",
      `cp ${two}/libpart.so /usr/local/lib; cp ${two}/libbase.so.1 /usr/local/lib/libbase.so.1.1
       ln -s libbase.so.1.1 /usr/local/lib/libbase.so.1; ln -s /tmp /usr/local/lib/sub`,
    );
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

const told = async (node: string, pattern: RegExp) =>
  (await site.events()).filter((event) => event.node === node && pattern.test(event.message));

/** What the application's file says, where it runs now. */
async function says(file: string): Promise<string> {
  const { primary } = await site.report();
  const { stdout } = await cli(lab, primary!, ["files", "parts", "cat", `/data/${file}`]);
  return stdout.trim();
}

/** Removes what the program has said and waits until it has said it anew. */
async function saysAnew(base: string): Promise<void> {
  const { primary } = await site.report();
  await lab.exec(primary!, ["bash", "-c", "rm -f /proc/$(pgrep -ox parts)/root/data/{says,anew}"]);
  await eventually(`it says "${base}"`, async () => (await says("says")) === base);
}

const runsOn = (node: string) => eventually(`it runs on ${node}`, async () => (await site.report()).primary === node);

async function tell(file: string): Promise<void> {
  const { primary } = await site.report();
  await lab.exec(primary!, ["sh", "-c", `touch /proc/$(pgrep -ox parts)/root/data/${file}`]);
}

test("a program that is missing on the standby, libraries that are others: the clone has the primary's", {
  timeout: 200_000,
}, async () => {
  const { name, address, command } = site.program;
  const protect = ["protect", "--name", name, "--address", address, "--standby", "node-b", "--", ...command];
  const { code, stderr } = await cli(lab, "node-a", protect);
  assert.equal(code, 0, stderr);
  assert.deepEqual((await site.report()).inSync, ["node-b"]);
  await saysAnew("program 1 base 1 part 0");

  // Loaded while the clone follows: it is sent with the checkpoint, and the clone is not given up for it.
  await tell("load");
  await saysAnew("program 1 base 1 part 1");
  await eventually(
    "the library is sent",
    async () => (await told("node-b", /libpart\.so.*primary's is used/)).length > 0,
  );
  await eventually("the standby has that", async () => (await site.report()).inSync.includes("node-b"));
  assert.deepEqual(await told("node-b", /is given up/), []);

  await lab.powerOff("node-a");
  await runsOn("node-b");
  await saysAnew("program 1 base 1 part 1");
  // Found by the names that the program knows it by.
  await eventually("so does another run of it", async () => (await says("anew")) === "program 1 base 1");

  // And it takes it all along from there, wherever it goes.
  await lab.powerOn("node-a");
  await site.untilProtected({ term: 2 });
  await lab.powerOff("node-b");
  await runsOn("node-a");
  await saysAnew("program 1 base 1 part 1");
  await lab.powerOn("node-b");
  await site.untilProtected({ term: 3 });
});

test("a library for which there is no place on the standby: the clone is given up by name until there is", {
  timeout: 200_000,
}, async () => {
  assert.equal((await site.report()).primary, "node-a");
  await tell("load-other");
  const refused = () => told("node-b", /"\/usr\/local\/lib\/sub" cannot be brought to this node/);
  await eventually("the clone is given up", async () => (await refused()).length > 0);
  await eventually("nobody is in sync", async () => (await site.report()).inSync.length === 0);
  await lab.exec("node-b", ["rm", "/usr/local/lib/sub"]);
  await eventually("the standby is in sync again", async () => (await site.report()).inSync.includes("node-b"));
});
