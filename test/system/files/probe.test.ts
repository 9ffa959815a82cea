/**
 * The consistency probe through power failures: what is in files, in memory and said to a client agrees, in that order. Its files
 * are in its own layer, in a volume that is a directory of each node, and, open, in scratch space; the disk has what is acknowledged.
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import type { ApplicationReport, FileListing } from "../../../src/agent/api-types.ts";
import { Lab } from "../../../src/lab/lab.ts";
import { cli, eventually, untilNothingOfApplications } from "../faults/support.ts";

const NODES = ["node-a", "node-b", "node-c"];
const POWER_FAILURES = 3;
const ADDRESS = "10.77.0.40";
/** With a file open and its working directory in scratch space. */
const PROGRAM = `mkdir /var/scratch/deep; cd /var/scratch/deep; echo text >other; exec 5>open; echo text >&5
exec /usr/local/bin/probe 7000 /var/lib/count /data/count`;
const lab = new Lab({ name: `probe${process.pid}` });
const scratch = mkdtempSync(join(tmpdir(), "understudy-probe-"));

before(
  async () => {
    const binary = join(scratch, "probe");
    execFileSync("gcc", ["-O1", "-o", binary, join(import.meta.dirname, "probe.c")]);
    await lab.up({ nodes: NODES.length });
    for (const node of NODES) await lab.exec(node, ["cp", binary, "/usr/local/bin/probe"]);
  },
  { timeout: 120_000 },
);
after(
  async () => {
    await lab.down();
    rmSync(scratch, { recursive: true, force: true });
  },
  { timeout: 60_000 },
);

async function run(node: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await cli(lab, node, args);
  assert.equal(code, 0, stderr);
  return stdout;
}

const on = async (node: string, ...argv: string[]) => (await lab.exec(node, argv)).stdout.trim();
const status = async (node: string) => JSON.parse(await run(node, "status", "probe", "--json")) as ApplicationReport;

interface Told {
  last: number;
  wrong: string[];
}

class Client {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(child: ChildProcess) {
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  }

  async ask(): Promise<Told> {
    this.#child.stdin!.write("\n");
    const told = JSON.parse((await this.#lines.next()).value as string) as Told;
    assert.deepEqual(told.wrong, []);
    return told;
  }

  /** Numbers come, beyond what came before. */
  async goesOn(): Promise<Told> {
    const { last } = await this.ask();
    return eventually("the probe is heard", async () => {
      const told = await this.ask();
      return told.last > last + 50 ? told : undefined;
    });
  }

  close(): void {
    this.#child.kill();
  }
}

test("a volume that holds other files on a standby is refused by name", { timeout: 120_000 }, async () => {
  await on("node-b", "sh", "-c", "mkdir -p /srv/other && echo mine >/srv/other/file");
  const { code, stderr } = await cli(lab, "node-a", [
    ...["protect", "--name", "other", "--address", "10.77.0.41/24", "--standby", "node-b"],
    ...["--volume", "/data=/srv/other", "--", "/bin/sleep", "1000"],
  ]);
  assert.equal(code, 1);
  assert.match(stderr, /\/srv\/other" holds files that are not of "other"/);
  assert.equal(await on("node-b", "cat", "/srv/other/file"), "mine");
  await untilNothingOfApplications(lab);
  // Where /var/lock leads, not where it seems to be.
  const link = await cli(lab, "node-a", [
    ...["protect", "--name", "other", "--address", "10.77.0.41/24", "--volume", "/var/lock/mine=scratch"],
    ...["--", "/bin/sleep", "1000"],
  ]);
  assert.match(link.stderr, /"\/var\/lock\/mine" leads through a symbolic link/);
  await untilNothingOfApplications(lab);
});

test("files, memory and what was said agree after power failures; volumes, scratch space and disks are as promised", {
  timeout: 280_000,
}, async () => {
  await on("node-a", "sh", "-c", "mkdir -p /srv/volume && echo before >/srv/volume/before");
  await run(
    "node-a",
    ...["protect", "--name", "probe", "--address", `${ADDRESS}/24`, "--standby", "node-b,node-c", "--durable"],
    ...["--volume", "/data=/srv/volume", "--volume", "/var/scratch=scratch", "--"],
    ...["/bin/sh", "-c", PROGRAM],
  );
  assert.equal(await on("node-b", "cat", "/srv/volume/before"), "before");
  const argv = [process.execPath, join(import.meta.dirname, "probe-client.ts"), ADDRESS, "7000"];
  const client = new Client(await lab.spawnInClient(argv, { stdio: ["pipe", "pipe", "inherit"] }));
  try {
    await client.goesOn();
    for (let failure = 0; failure < POWER_FAILURES; failure++) {
      const { primary, inSync } = await eventually("both standbys are in sync", async () => {
        const report = await status("node-c");
        return report.inSync.length === 2 ? report : undefined;
      });
      await client.goesOn();
      // What is acknowledged was on the disk before.
      const { epoch } = JSON.parse(await run(primary!, "checkpoint", "probe", "--json")) as { epoch: number };
      const place = "/var/lib/understudy/applications/probe/files/checkpoint.json";
      for (const node of inSync) assert.ok(JSON.parse(await on(node, "cat", place)).epoch >= epoch);
      await lab.powerOff(primary!);
      await client.goesOn();
      await lab.powerOn(primary!);
    }
    const { primary } = await eventually("all are in sync again", async () => {
      const report = await status("node-c");
      return report.inSync.length === 2 && report.state === "protected" ? report : undefined;
    });
    await client.goesOn();
    const listing = JSON.parse(await run(primary!, "files", "probe", "ls", "/data", "--json")) as FileListing;
    assert.deepEqual(
      listing.entries.map(({ name }) => name),
      ["before", "count"],
    );
    for (const node of NODES) assert.equal(await on(node, "ls", "/srv/volume"), "before\ncount");
    const space = "/var/lib/understudy/applications/probe/files/scratch-0";
    const inside = await on(primary!, "sh", "-c", `cd ${space}; find . -type f -size -1`);
    assert.deepEqual([inside, await on(primary!, "find", space, "-type", "f")], ["./deep/open", `${space}/deep/open`]);
  } finally {
    client.close();
  }
  await run("node-a", "stop", "probe");
  await untilNothingOfApplications(lab);
  for (const node of NODES) assert.equal(await on(node, "cat", "/srv/volume/before"), "before");
});
