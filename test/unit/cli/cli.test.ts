/** The command line against real agents with fake instances, and its own manners. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { bytes, milliseconds, shellWords } from "../../../src/cli/output.ts";
import { eventually, TestCluster } from "../agent/harness.ts";

const program = new URL("../../../src/cli/main.ts", import.meta.url).pathname;

interface Result {
  code: number | null;
  stdout: string;
  stderr: string;
}

function run(
  args: string[],
  node?: string,
  onStderr: (text: string, kill: () => void) => void = () => {},
): Promise<Result> {
  const env = { ...process.env, NO_COLOR: "1", FORCE_COLOR: "0", ...(node !== undefined && { UNDERSTUDY_NODE: node }) };
  const child = spawn(process.execPath, [program, ...args], { stdio: ["ignore", "pipe", "pipe"], env });
  const result = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk) => {
    result.stdout += chunk;
  });
  child.stderr.on("data", (chunk) => {
    result.stderr += chunk;
    onStderr(result.stderr, () => child.kill("SIGINT"));
  });
  return new Promise((resolve) => child.on("close", (code) => resolve({ code, ...result })));
}

describe("usage", () => {
  it("ends with 2 and a suggestion for what is not known", async () => {
    for (const [args, message, suggestion] of [
      [["statsu"], /Unknown command 'statsu'/, /status/],
      [["ps", "--jsno"], /Unknown option '--jsno'/, /--json/],
      [["switch"], /Missing required argument 'name'/, /--help/],
      [["protect", "--name", "x", "--address", "10.0.0.1/24"], /Say -- COMMAND/, /--help/],
      [["protect", "--commit", "maybe"], /checkpoint, none/, /--help/],
    ] as const) {
      const { code, stdout, stderr } = await run([...args]);
      assert.equal(code, 2, stderr);
      assert.equal(stdout, "");
      assert.match(stderr, message);
      assert.match(stderr, suggestion);
    }
  });

  it("says errors as a document with --json", async () => {
    const { code, stdout } = await run(["status", "--json", "--colour"]);
    assert.equal(code, 2);
    assert.equal(JSON.parse(stdout).error.code, "usage");
  });

  it("shows help and version", async () => {
    assert.equal((await run(["--help"])).code, 0);
    assert.equal((await run(["protect", "--help"])).code, 0);
    assert.match((await run(["--version"])).stdout, /^\d+\.\d+\.\d+\n$/);
    assert.equal((await run([])).code, 2);
  });

  it("checks a program before it runs", async () => {
    assert.equal((await run(["check", "--", "sleep", "1"])).code, 0);
    const missing = await run(["check", "--", "no-such-program"]);
    assert.equal(missing.code, 1);
    assert.match(missing.stderr, /"no-such-program" is not on this node/);
  });
});

describe("figures", () => {
  it("are short", () => {
    assert.deepEqual([0, 999, 1000, 1_500_000, 250e6].map(bytes), ["0 B", "999 B", "1.0 kB", "1.5 MB", "250 MB"]);
    assert.deepEqual([430, 12_340, 394_000].map(milliseconds), ["0.43 ms", "12.3 ms", "394 ms"]);
    assert.equal(shellWords(["redis-server", "--save", "", "it's"]), "redis-server --save '' 'it'\\''s'");
  });
});

describe("commands", { timeout: 240_000 }, () => {
  let cluster: TestCluster;
  let socket: string;
  before(async () => {
    cluster = await TestCluster.start(["node-a", "node-b"]);
    socket = join(cluster.node("node-a").run, "agent.sock");
  });
  after(() => cluster.close());
  afterEach(() => run(["stop", "app"], socket));
  const protect = ["protect", "--name", "app", "--address", "10.99.0.10/24", "--standby", "node-b"];

  it("protect, look, switch, stop", async () => {
    const done = await run([...protect, "--", "sleep", "1000"], socket);
    assert.equal(done.code, 0, done.stderr);
    assert.match(done.stdout, /"app" runs on node-a under 10\.99\.0\.10\/24, in sync on node-b/);
    assert.match((await run(["ps"], socket)).stdout, /app +protected +node-a +1 +node-b \(in-sync\)/);
    const status = await run(["status", "app", "--json"], socket);
    assert.equal(JSON.parse(status.stdout).primary, "node-a");
    assert.match((await run(["status", "app"], socket)).stdout, /primary +node-a, term 1/);
    assert.equal(JSON.parse((await run(["checkpoint", "app", "--json"], socket)).stdout).epoch, 1);
    assert.deepEqual(JSON.parse((await run(["checkpoints", "app", "--json"], socket)).stdout), { checkpoints: [] });
    const moved = await run(["switch", "app", "--to", "node-b", "--json"], socket);
    assert.deepEqual(JSON.parse(moved.stdout).to, "node-b", moved.stderr);
    const nodes = JSON.parse((await run(["nodes", "--json"], socket)).stdout).nodes;
    assert.deepEqual(
      nodes.map(({ name, primaryOf }: { name: string; primaryOf: string[] }) => [name, primaryOf]),
      [
        ["node-a", []],
        ["node-b", ["app"]],
      ],
    );
    for (const words of [["--application", "app"], ["app"]])
      assert.match((await run(["events", ...words], socket)).stdout, /switch-begun/);
    assert.equal((await run(["stop", "app"], socket)).code, 0);
    const gone = await run(["status", "app", "--json"], socket);
    assert.equal(gone.code, 1);
    assert.equal(JSON.parse(gone.stdout).error.code, "application-unknown");
    assert.match(gone.stderr, /understudy ps/);
  });

  it("protect from a file, options first", async () => {
    const file = join(cluster.directory, "app.yaml");
    writeFileSync(file, "name: other\naddress: 10.99.0.10/24\ncommand: [sleep, '1000']\n");
    const done = await run(["protect", "-f", file, "--name", "app", "--json"], socket);
    assert.equal(JSON.parse(done.stdout).name, "app", done.stderr);
  });

  it("protect writes the same specification as a file does: restart, health, balance", async () => {
    const options = ["--restart", "newest,cold", "--health", "http:80/alive", "--balance", "auto"];
    const done = await run([...protect, ...options, "--", "sleep", "1000"], socket);
    assert.equal(done.code, 0, done.stderr);
    const file = join(cluster.directory, "same.yaml");
    const lines = [
      "name: app",
      "address: 10.99.0.10/24",
      "standby: [node-b]",
      "command: [sleep, '1000']",
      "restart: { on: failure, steps: [newest, cold] }",
      "health: { probe: http, port: 80, path: /alive }",
    ];
    const diff = async (last: string) => {
      writeFileSync(file, [...lines, last, ""].join("\n"));
      const { code, stdout, stderr } = await run(["diff", "-f", file, "--exit-code", "--json"], socket);
      const [plan] = JSON.parse(stdout).applications;
      return { code, stderr, keys: plan.changes.map(({ key }: { key: string }) => key) };
    };
    const same = await diff("balance: auto");
    assert.deepEqual([same.code, same.keys], [0, []], same.stderr);
    const other = await diff("balance: manual");
    assert.deepEqual([other.code, other.keys], [1, ["balance"]]);
  });

  it("protect takes no other words for probes, steps and who moves it", async () => {
    for (const [option, word, message] of [
      ["--health", "tcp:", /tcp:PORT, http:PORT\/PATH or exec:COMMAND/],
      ["--balance", "sometimes", /manual, auto/],
    ] as const) {
      const { code, stderr } = await run([...protect, option, word, "--", "sleep", "1000"], socket);
      assert.equal(code, 2, stderr);
      assert.match(stderr, message);
    }
    const { code, stderr } = await run([...protect, "--restart", "youngest", "--", "sleep", "1000"], socket);
    assert.notEqual(code, 0);
    assert.match(stderr, /newest/);
    assert.equal((await run(["status", "app"], socket)).code, 1, "nothing was started");
  });

  it("shows progress when it takes long, and undoes on SIGINT", async () => {
    const slow = [...protect, "--env", "FAKE_SYNC_MS=60000", "--", "sleep", "1000"];
    let interrupted = false;
    const done = await run(slow, socket, (text, kill) => {
      if (interrupted) return;
      interrupted = /Synchronising "node-b" \(files\): 1\.0 kB of 2\.0 kB/.test(text);
      if (interrupted) kill();
    });
    assert.equal(done.code, 1, done.stderr);
    assert.match(done.stderr, /Interrupted/);
    assert.equal((await run(["status", "app"], socket)).code, 1);
    await eventually(async () => (await run(["ps"], socket)).stdout === "No applications.\n", "Nothing is left");
  });

  it("fails with the program's own words", async () => {
    const { code, stderr } = await run([...protect, "--", "sh", "-c", "exit 7"], socket);
    assert.equal(code, 1);
    assert.match(stderr, /ended with status 7/);
  });
});
