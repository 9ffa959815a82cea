/** `understudy files`: the user's way to what the application made: while it runs, of a clone, and after its end. */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { FileListing } from "../../../src/agent/api-types.ts";
import { Lab } from "../../../src/lab/lab.ts";
import { describe } from "../../unit/files/program.ts";
import { cli, eventually, untilNothingOfApplications } from "../faults/support.ts";

const lab = new Lab({ name: `own${process.pid}` });
const scratch = mkdtempSync(join(tmpdir(), "understudy-own-"));

before(() => lab.up({ nodes: 3 }), { timeout: 60_000 });
after(
  async () => {
    await lab.down();
    rmSync(scratch, { recursive: true, force: true });
  },
  { timeout: 60_000 },
);

/** Makes files of many kinds, waits for the word to end, and ends. */
const PROGRAM = `
mkdir -p /data/deep; cd /data
printf first >plain; ln plain second; ln -s /etc/shadow link; ln -s plain inner
printf odd >"$(printf 'odd\\377')"; mkfifo fifo; truncate -s 50M sparse; printf end >>sparse
head -c 3000000 /dev/urandom >deep/large; printf shared >/dev/shm/segment
touch ready; until [ -e /data/end ]; do sleep 0.1; done`;

async function run(node: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await cli(lab, node, args);
  assert.equal(code, 0, stderr);
  return stdout;
}

const list = async (node: string, ...args: string[]): Promise<FileListing> =>
  JSON.parse(await run(node, "files", "maker", "ls", ...args, "--json"));

async function exported(name: string, ...args: string[]): Promise<string> {
  const directory = join(scratch, name);
  await run("node-c", "files", "maker", "export", directory, ...args);
  return directory;
}

test("its own files are listed, read and copied: on the primary, of a clone, and when it has ended", {
  timeout: 240_000,
}, async () => {
  await run(
    "node-a",
    ...["protect", "--name", "maker", "--address", "10.77.0.30/24", "--standby", "node-b"],
    ...["--", "/bin/bash", "-c", PROGRAM],
  );
  await eventually("the program has made its files", async () =>
    (await list("node-c", "/data")).entries.some(({ name }) => name === "ready"),
  );
  const listing = await list("node-c", "/data");
  assert.deepEqual([listing.node, listing.role, listing.isDirectory], ["node-a", "primary", true]);
  const sparse = listing.entries.find(({ name }) => name === "sparse")!;
  assert.ok(sparse.size > 50_000_000 && sparse.allocated < 100_000);
  assert.ok(listing.entries.some(({ name }) => name === "odd\\xff"));
  assert.equal(await run("node-c", "files", "maker", "cat", "/data/odd\\xff"), "odd");
  assert.equal(await run("node-b", "files", "maker", "cat", "/data/inner"), "first");
  assert.equal(await run("node-b", "files", "maker", "cat", "/dev/shm/segment"), "shared");
  assert.match(await run("node-a", "files", "maker", "ls", "/data"), /^l0777 .* link -> \/etc\/shadow$/m);

  // What links to a file of the node's leads nowhere: nothing of the node's own comes out.
  const { code, stderr } = await cli(lab, "node-a", ["files", "maker", "cat", "/data/link"]);
  assert.deepEqual([code, /own files/.test(stderr)], [1, true]);

  await run("node-a", "checkpoint", "maker");
  const standby = `${lab.name}/node-b`;
  await eventually("the clone has applied the files", async () => {
    const { role, entries } = await list("node-a", "/data", "--node", standby);
    assert.equal(role, "standby");
    return entries.some(({ name }) => name === "ready");
  });
  const live = await exported("live");
  assert.ok(statSync(`${live}/data/sparse`).blocks < 1000);
  assert.deepEqual(describe(join(await exported("clone", "--node", standby), "data")), describe(join(live, "data")));
  assert.equal(readFileSync(`${live}/dev/shm/segment`, "utf8"), "shared");
  const again = await cli(lab, "node-a", ["files", "maker", "export", live]);
  assert.match(again.stderr, /is not empty/);
  const nobody = await cli(lab, "node-a", ["files", "maker", "ls", "--node", `${lab.name}/node-c`]);
  assert.match(nobody.stderr, /has no files/);

  const { instance } = JSON.parse(await run("node-a", "status", "maker", "--json"));
  await lab.exec("node-a", ["touch", `/proc/${instance.initPid}/root/data/end`]);
  await eventually("it has ended, and is removed", async () => {
    assert.equal((await list("node-c", "/data")).role, "ended");
    const { stdout } = await lab.exec("node-a", ["ls", "/var/lib/understudy/applications/maker"]);
    assert.equal(stdout.trim(), "files");
    return true;
  });
  const ended = await exported("ended", "--from", "/data");
  assert.deepEqual(
    readdirSync(ended).filter((name) => name !== "end"),
    readdirSync(`${live}/data`),
  );
  assert.equal(readFileSync(`${ended}/plain`, "utf8"), "first");

  await run("node-b", "stop", "maker");
  assert.equal((await cli(lab, "node-a", ["files", "maker", "ls"])).code, 1);
  await untilNothingOfApplications(lab);
});
