/** Whatever is asked wrongly ends with a clear error, and leaves nothing behind on any node. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { Lab } from "../../../src/lab/lab.ts";
import { cli, downAndGone, eventually, untilNothingOfApplications } from "./support.ts";

const lab = new Lab({ name: `bad${process.pid}` });
const ADDRESS = "10.77.0.20/24";

before(() => lab.up({ nodes: 3 }), { timeout: 90_000 });
after(() => downAndGone(lab), { timeout: 60_000 });

function protect(options: string[], command: string[] = ["sleep", "1000"]) {
  return cli(lab, "node-a", ["protect", "--json", ...options, "--", ...command]);
}

const named = (name: string, standby = "node-b", address = ADDRESS) => [
  ...["--name", name, "--address", address],
  ...["--standby", standby],
];

async function assertRefused(code: string, message: RegExp, options: string[], command?: string[]): Promise<void> {
  const result = await protect(options, command);
  assert.equal(result.code, 1, `${result.stdout}\n${result.stderr}`);
  const { error } = JSON.parse(result.stdout);
  assert.equal(error.code, code, JSON.stringify(error));
  assert.match(error.message, message);
  assert.ok(result.stderr.includes(error.message), "The message stands on standard error, too");
}

test("an unknown command or option: exit code 2 and what was meant", async () => {
  for (const [args, suggestion] of [
    [["protct"], /protect/],
    [["status", "--jsn"], /--json/],
    [["lab", "power-of", "node-a"], /power-off/],
  ] as const) {
    const { code, stderr } = await cli(lab, "node-a", [...args]);
    assert.equal(code, 2, stderr);
    assert.match(stderr, suggestion);
  }
});

test("programs that cannot run", { timeout: 120_000 }, async () => {
  await assertRefused("program-not-found", /"no-such-program" is not on this node/, named("x"), ["no-such-program"]);
  await assertRefused("program-not-executable", /not executable/, named("x"), ["/etc/passwd"]);
  await assertRefused("program-ended", /"false" ended at once/, named("x"), ["false"]);
  await assertRefused("program-ended", /ended at once/, named("x"), ["sh", "-c", "kill -SEGV $$"]);
  await untilNothingOfApplications(lab);
});

test("a program that is no program", { timeout: 60_000 }, async () => {
  await lab.exec("node-a", ["sh", "-c", "head -c 100 /dev/urandom > /tmp/noise; chmod +x /tmp/noise"]);
  const result = await protect(named("x"), ["/tmp/noise"]);
  assert.equal(result.code, 1);
  assert.match(JSON.parse(result.stdout).error.message, /noise/);
  await untilNothingOfApplications(lab);
});

test("standbys that are not there", { timeout: 120_000 }, async () => {
  await assertRefused("node-unknown", /"node-x"/, named("x", "node-x"));
  await assertRefused("standby-is-primary", /"node-a"/, named("x", "node-a"));
  await lab.powerOff("node-c");
  await assertRefused("node-unreachable", /"node-c"/, named("x", "node-c"));
  await lab.powerOn("node-c");
  await untilNothingOfApplications(lab);
});

test("addresses that are not free or no addresses", { timeout: 120_000 }, async () => {
  await assertRefused("request-invalid", /"10\.77\.0\.300\/24"/, named("x", "node-b", "10.77.0.300/24"));
  await assertRefused("address-in-use", /10\.77\.0\.250/, named("x", "node-b", "10.77.0.250/24"));
  await assertRefused("address-in-use", /node-b/, named("x", "node-b", "10.77.0.2/24"));
});

test("a second application of the same name or address", { timeout: 120_000 }, async () => {
  const first = await protect(named("first"));
  assert.equal(first.code, 0, first.stderr);
  await assertRefused("name-in-use", /"first"/, named("first", "node-b", "10.77.0.21/24"));
  await assertRefused("address-in-use", /10\.77\.0\.20/, named("second"));
  const twice = await Promise.all(
    ["node-a", "node-b"].map((node) => {
      const standby = node === "node-a" ? "node-b" : "node-c";
      const options = ["--json", ...named("race", standby, "10.77.0.22/24")];
      return cli(lab, node, ["protect", ...options, "--", "sleep", "1000"]);
    }),
  );
  assert.deepEqual(twice.map(({ code }) => code).sort(), [0, 1], twice.map(({ stdout }) => stdout).join("\n"));
  for (const name of ["first", "race"]) assert.equal((await cli(lab, "node-a", ["stop", name])).code, 0);
  await untilNothingOfApplications(lab);
});

test("what does not exist, or is not so", { timeout: 120_000 }, async () => {
  const ask = async (code: string, ...args: string[]) => {
    const result = await cli(lab, "node-a", [...args, "--json"]);
    assert.equal(result.code, 1, result.stdout);
    assert.equal(JSON.parse(result.stdout).error.code, code, result.stdout);
  };
  for (const command of ["status", "stop", "switch", "checkpoint", "checkpoints"])
    await ask("application-unknown", command, "nobody");
  const alone = await cli(lab, "node-a", ["protect", "--name", "alone", "--address", ADDRESS, "--", "sleep", "1000"]);
  assert.equal(alone.code, 0, alone.stderr);
  await ask("no-standby", "switch", "alone");
  await ask("node-unknown", "switch", "alone", "--to", "node-x");
  await ask("already-primary", "switch", "alone", "--to", "node-a");
  await ask("not-in-sync", "switch", "alone", "--to", "node-b");
  await ask("no-standby", "checkpoint", "alone");
  assert.equal((await cli(lab, "node-b", ["stop", "alone"])).code, 0);
  await untilNothingOfApplications(lab);
});

test("an application that ends by itself is told of and not taken over", { timeout: 60_000 }, async () => {
  const script = "/tmp/until-told";
  await lab.exec("node-a", ["sh", "-c", `printf 'while [ ! -e /tmp/enough ]; do sleep 0.1; done; exit 3' > ${script}`]);
  const done = await protect(named("brief"), ["sh", script]);
  assert.equal(done.code, 0, done.stderr);
  // Its own root directory: the file has to appear there.
  const { instances } = JSON.parse((await cli(lab, "node-a", ["status", "brief", "--json"])).stdout).instance
    ? { instances: JSON.parse((await cli(lab, "node-a", ["status", "brief", "--json"])).stdout).instance }
    : { instances: undefined };
  assert.ok(instances.initPid > 0);
  writeFileSync(`/proc/${instances.initPid}/root/tmp/enough`, "");
  const ended = await eventually("it has ended", async () => {
    const report = JSON.parse((await cli(lab, "node-a", ["status", "brief", "--json"])).stdout);
    return report.state === "ended" ? report : undefined;
  });
  assert.match(ended.ended.reason, /exited with code 3/);
  assert.equal(ended.term, 1);
  assert.equal((await cli(lab, "node-a", ["stop", "brief"])).code, 0);
  await untilNothingOfApplications(lab);
});
