/** Applications that hang: noticed from inside their network by tcp, http and exec probes, restarted as their owners wish. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { after, afterEach, before, type TestContext, test } from "node:test";
import { Lab } from "../../../src/lab/lab.ts";
import { type Program, ProtectedApplication } from "../../../workload/application.ts";
import { downAndGone, eventually, tellEvents } from "../faults/support.ts";

const lab = new Lab({ name: `health${process.pid}` });
const NODES = ["node-a", "node-b"];

/** Counts its visitors; lets its port go, and lives on, when asked for /close. */
const server = `
import http.server, threading, time
visitors = 0
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global visitors
        if self.path == "/visit": visitors += 1
        self.send_response(503 if self.path == "/sick" else 200)
        self.end_headers()
        self.wfile.write(str(visitors).encode())
        if self.path == "/close": threading.Thread(target=close).start()
    def log_message(self, *words): pass
def close():
    server.shutdown()
    server.server_close()
server = http.server.ThreadingHTTPServer(("0.0.0.0", 80), Handler)
server.serve_forever()
while True: time.sleep(1)
`;
const python = ["python3", "-c", server];
const quick = { interval: 0.3, timeout: 2, failures: 2 };
const applications: ProtectedApplication[] = [];

before(() => lab.up({ nodes: NODES.length }), { timeout: 60_000 });
afterEach(async (context) => {
  for (const one of applications) await tellEvents(one, context as TestContext);
});
after(() => downAndGone(lab), { timeout: 60_000 });

const hostOf = ({ program }: ProtectedApplication) => program.address.split("/")[0]!;

async function protect(program: Omit<Program, "address">): Promise<ProtectedApplication> {
  const one = new ProtectedApplication(lab, { ...program, address: `10.77.0.${60 + applications.length}/24` });
  applications.push(one);
  await one.protect();
  await untilHealth(one, "passing");
  return one;
}

const untilHealth = (one: ProtectedApplication, state: string) =>
  eventually(`its health is "${state}"`, async () => {
    const { instance } = await one.report();
    assert.deepEqual(instance?.health?.state, state, JSON.stringify(instance?.health));
    return true;
  });
const eventsOf = async (one: ProtectedApplication, kind: string) =>
  (await one.events()).filter((event) => event.kind === kind);
const steps = async (one: ProtectedApplication) =>
  (await eventsOf(one, "restarting")).flatMap(({ details }) => details?.step ?? []);
const get = async (one: ProtectedApplication, path: string) =>
  (await lab.client(["curl", "-s", "--max-time", "20", `http://${hostOf(one)}${path}`])).stdout;

/** Nothing of probes is left when none is under way: as soon as one instant shows so. */
const nothingLeft = (name: string) =>
  eventually("no probe is left", () => NODES.every((node) => !existsSync(`${lab.cgroup(node)}/probes/${name}`)));

/** To all processes of the application on its primary's node. */
async function signal(one: ProtectedApplication, what: NodeJS.Signals): Promise<void> {
  const { primary, instance } = await one.report();
  const procs = readFileSync(`${lab.cgroup(primary!)}/apps/${one.name}/cgroup.procs`, "utf8");
  for (const pid of procs.split("\n").filter(Boolean).map(Number))
    if (pid !== instance?.initPid) process.kill(pid, what);
}

/** Stands still until that is noticed; should a starved machine switch by itself meanwhile, where it runs then. */
async function hang(one: ProtectedApplication): Promise<string> {
  const before = (await eventsOf(one, "hangs")).length;
  let stoppedIn = 0;
  const noticed = await eventually("the hang is noticed", async () => {
    const { term, state } = await one.report();
    const found = (await eventsOf(one, "hangs")).slice(before)[0];
    if (found === undefined && term !== stoppedIn && state === "protected") {
      stoppedIn = term;
      await signal(one, "SIGSTOP");
    }
    return found;
  });
  return noticed.message;
}

test("http: a standby goes on with what stands still on the primary's node, and nothing is lost", {
  timeout: 180_000,
}, async () => {
  const one = await protect({
    name: "still",
    command: python,
    health: { probe: "http", port: 80, ...quick },
    restart: { on: "failure" },
  });
  assert.equal(await get(one, "/visit"), "1");
  const { term } = await one.untilProtected();
  assert.match(await hang(one), /The http probe failed, 2 times in a row: .* does not answer/);
  await one.untilProtected({ term: term + 1 });
  assert.deepEqual(await steps(one), ["newest"]);
  assert.equal(await get(one, "/visit"), "2");
  await untilHealth(one, "passing");
  await one.stop();
});

test("tcp: what nobody serves any more is started anew; the loop ends", { timeout: 180_000 }, async () => {
  const one = await protect({
    name: "deaf",
    command: python,
    health: { probe: "tcp", port: 80, ...quick },
    restart: { on: "failure", steps: ["cold"] },
  });
  const { term } = await one.untilProtected();
  assert.equal(await get(one, "/visit"), "1");
  await get(one, "/close");
  await eventually("it is started anew", async () => (await steps(one)).length > 0);
  await one.untilProtected({ term: term + 1 });
  assert.deepEqual(await steps(one), ["cold"]);
  assert.equal(await get(one, "/visit"), "1");
  await untilHealth(one, "passing");
  await get(one, "/close");
  await eventually("it has ended", async () => (await one.report()).state === "ended");
  assert.match((await one.report()).ended!.reason, /tcp probe failed.*; not restarted: it was restarted once within/);
  await one.stop();
});

test("exec: over a unix socket, beside checkpoints; a command that hangs is killed", { timeout: 180_000 }, async () => {
  const one = await protect({
    name: "stopped",
    command: [
      "redis-server",
      "--bind",
      "0.0.0.0",
      "--protected-mode",
      "no",
      "--save",
      "",
      "--unixsocket",
      "/tmp/redis",
    ],
    health: { probe: "exec", command: ["redis-cli", "-s", "/tmp/redis", "ping"], ...quick, timeout: 5 },
    restart: { on: "failure", steps: ["cold"] },
    keep: 3,
  });
  const ask = async (...args: string[]) => (await lab.client(["redis-cli", "-h", hostOf(one), ...args])).stdout.trim();
  for (let i = 0; i < 100; i++) assert.equal(await ask("incr", "n"), String(i + 1));
  assert.deepEqual(
    (await one.events()).filter(({ kind }) => kind.startsWith("unprotectable")),
    [],
  );
  const { term } = await one.untilProtected();
  assert.match(await hang(one), /"redis-cli" has not ended in time/);
  await one.untilProtected({ term: term + 1 });
  assert.deepEqual(await steps(one), ["cold"]);
  await untilHealth(one, "passing");
  assert.equal(await ask("ping"), "PONG");
  await nothingLeft(one.name);
  await one.stop();
  await nothingLeft(one.name);
});

test("without a wish for restarts a hang is told, and that it is over", { timeout: 180_000 }, async () => {
  const one = await protect({
    name: "told",
    command: python,
    health: { probe: "http", port: 80, ...quick },
  });
  await hang(one);
  assert.equal((await one.report()).instance?.health?.state, "hangs");
  await signal(one, "SIGCONT");
  await untilHealth(one, "passing");
  assert.ok((await eventsOf(one, "healthy-again")).length > 0);
  assert.deepEqual(await steps(one), []);
  await one.stop();
});
