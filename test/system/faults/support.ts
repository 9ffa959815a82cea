/** What the tests of bad days share: the command line on a lab, its instances by process, and a look for what is left. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { after, afterEach, before, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Health } from "../../../src/agent/api-types.ts";
import { AgentClient } from "../../../src/agent/client.ts";
import { Lab } from "../../../src/lab/lab.ts";
import { labPlaces } from "../../../src/lab/layout.ts";
import { namespacesOf } from "../../../src/lab/network.ts";
import type { ProtectedApplication } from "../../../workload/application.ts";
import { startWorkload } from "../../../workload/driver.ts";
import type { CounterResult } from "../../../workload/messages.ts";
import { APPLICATION, RedisSite, SERVICE } from "../../../workload/site.ts";
import { eventually } from "../../support/eventually.ts";

export { eventually } from "../../support/eventually.ts";

export const COUNTERS = { ...SERVICE, connections: 10, progressMs: 0, drainMs: 20_000 };

// --- The command line ---

const program = resolve(import.meta.dirname, "../../../src/cli/main.ts");

export interface CliResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** The command line, asked of a node's agent; `child` to interrupt it. */
export function startCli(lab: Lab, node: string, args: string[]): { child: ChildProcess; ended: Promise<CliResult> } {
  const env = { ...process.env, NO_COLOR: "1", UNDERSTUDY_NODE: lab.agentSocket(node) };
  const child = spawn(process.execPath, [program, ...args], { stdio: ["ignore", "pipe", "pipe"], env });
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      output[name] += text;
    });
  }
  const ended = new Promise<CliResult>((done) => child.on("close", (code) => done({ code, ...output })));
  return { child, ended };
}

export const cli = (lab: Lab, node: string, args: string[]): Promise<CliResult> => startCli(lab, node, args).ended;

// --- Processes ---

export async function health(lab: Lab, node: string): Promise<Health> {
  return AgentClient.unix(lab.agentSocket(node)).json<Health>("GET", "/v1/health", { timeoutMs: 5000 });
}

/** The process that plays the application's primary or standby role on a node. */
export async function instancePid(lab: Lab, node: string, application = APPLICATION): Promise<number> {
  const { instances } = await health(lab, node);
  const found = instances.find((one) => one.application === application);
  assert.ok(found, `"${node}" has no instance of "${application}"`);
  return found.pid;
}

/** Freezes a process; it goes on when the scope ends, if it still lives. */
export function freeze(pid: number): Disposable {
  process.kill(pid, "SIGSTOP");
  return {
    [Symbol.dispose]: () => {
      try {
        process.kill(pid, "SIGCONT");
      } catch {
        // It has ended meanwhile.
      }
    },
  };
}

// --- Nothing lost ---

/** Runs `work` under load of clients that check every answer; afterwards nothing they were told may be missing. */
export async function underLoad(
  site: RedisSite,
  work: (counters: Awaited<ReturnType<typeof startWorkload<"counters">>>) => Promise<void>,
): Promise<CounterResult> {
  const counters = await startWorkload("counters", site.spawn, COUNTERS);
  try {
    await work(counters);
    await answersCome(counters);
    const result = await counters.stop();
    assertNothingLost(result);
    return result;
  } finally {
    await counters.kill();
  }
}

/** Waits until clients get answers again. */
export async function answersCome(counters: Awaited<ReturnType<typeof startWorkload<"counters">>>): Promise<void> {
  await eventually("the clients are answered again", async () => {
    await counters.mark("waiting");
    await sleep(200);
    return (await counters.mark("waited")).answers > 0;
  });
}

/** A planned switch, asked for until it is made: a store that has lost its leader has another in a moment. */
export async function moveTo(site: RedisSite, to: string): Promise<void> {
  await eventually(
    `"${to}" runs it`,
    async () => (await site.report()).primary === to || (await site.switchTo(to)).to === to,
  );
}

export function assertNothingLost(result: CounterResult): void {
  const { connectionsBroken, writesMissing, writesUnverified, valuesUnexpected, errorReplies, findings } = result;
  assert.deepEqual(
    { connectionsBroken, writesMissing, writesUnverified, valuesUnexpected, errorReplies, findings },
    { connectionsBroken: 0, writesMissing: 0, writesUnverified: 0, valuesUnexpected: 0, errorReplies: 0, findings: [] },
  );
  assert.ok(result.writesAcknowledged > 0, "Nothing was acknowledged at all");
}

/** Exactly one copy runs, and as many processes of Redis live there as one copy has; others only hold clones. */
export async function assertOneCopy(site: RedisSite): Promise<void> {
  const { primary } = await site.report();
  await eventually(`only "${primary}" runs a copy`, async () => {
    const copies = await site.copiesRunning();
    return copies.length === 1 && copies[0] === primary && isAt(site, [primary!]);
  });
}

/** Whether the program's processes are in these nodes' cgroups and in no other's; a clone's have no name of their own yet. */
async function isAt({ lab }: RedisSite, wanted: string[]): Promise<boolean> {
  const { nodes } = await lab.status();
  const isProgram = (pid: number) => commandOf(pid).includes("redis-server");
  const having = nodes.filter(({ name }) => processesIn(`${lab.cgroup(name)}/apps`).some(isProgram));
  return having.map(({ name }) => name).join() === wanted.join();
}

// --- Nothing left ---

function processesIn(cgroup: string): number[] {
  if (!existsSync(cgroup)) return [];
  const own = readFileSync(`${cgroup}/cgroup.procs`, "utf8").split("\n").filter(Boolean).map(Number);
  const below = readdirSync(cgroup, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return [...own, ...below.flatMap(({ name }) => processesIn(`${cgroup}/${name}`))];
}

/** What one node has of applications: nothing, when none is protected. */
async function leftOn(lab: Lab, node: string): Promise<string[]> {
  const left: string[] = [];
  const { instances } = await health(lab, node);
  left.push(...instances.map(({ application, pid }) => `instance of ${application} (${pid})`));
  const apps = `${lab.cgroup(node)}/apps`;
  left.push(...processesIn(apps).map((pid) => `process ${pid} ${commandOf(pid)}`));
  const groups = existsSync(apps) ? readdirSync(apps, { withFileTypes: true }) : [];
  left.push(
    ...groups.filter((one) => one.isDirectory() && one.name !== "instances").map(({ name }) => `cgroup ${name}`),
  );
  const look = async (...argv: string[]) => (await lab.exec(node, argv)).stdout.split("\n").filter(Boolean);
  const interfaces = (await look("ip", "-o", "link", "show", "type", "veth")).map((line) => line.split(": ")[1] ?? "");
  left.push(...interfaces.filter((name) => !/^uplink|^eth0/.test(name)).map((name) => `interface ${name}`));
  left.push(
    ...(await look("sh", "-c", "iptables-save 2>/dev/null | grep ^-A; nft list ruleset 2>/dev/null")).map(
      (line) => `rule ${line}`,
    ),
  );
  left.push(
    ...(await look("sh", "-c", "grep -o '/var/lib/understudy/applications[^ ]*' /proc/self/mountinfo")).map(
      (path) => `mount ${path}`,
    ),
  );
  left.push(
    ...(
      await look(
        "sh",
        "-c",
        "ls /run/understudy | grep -v '^agent.sock$'; ls /var/lib/understudy/applications 2>/dev/null",
      )
    ).map((file) => `file ${file}`),
  );
  return left;
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8").trim();
  } catch {
    return "(ended)";
  }
}

/**
 * No node that is on has anything of any application.
 * @param keeping files of an ended one that stay on a node, for whoever wants them: they and nothing else
 */
export async function untilNothingOfApplications(
  lab: Lab,
  keeping?: { node: string; application: string },
): Promise<void> {
  const { nodes } = await lab.status();
  for (const { name } of nodes.filter(({ agent }) => agent === "running")) {
    let left: string[] = [];
    await eventually(
      `"${name}" is empty`,
      async () => {
        left = await leftOn(lab, name);
        if (name === keeping?.node) return left.join() === `file ${keeping.application}`;
        return left.length === 0;
      },
      20_000,
    ).catch(() => assert.fail(`"${name}" still has: ${left.join("; ")}`));
  }
}

/** Takes the lab down and looks whether anything of it is left on this machine. */
export async function downAndGone(lab: Lab): Promise<void> {
  await lab.down();
  const { directory, runDirectory, cgroup, lock } = labPlaces(lab.name);
  assert.deepEqual(namespacesOf(lab.name), []);
  for (const path of [directory, runDirectory, cgroup, lock]) assert.ok(!existsSync(path), `${path} is left`);
  const mounts = readFileSync("/proc/self/mountinfo", "utf8");
  assert.ok(!mounts.includes(`understudy-lab/${lab.name}/`), "A mount of the lab is left");
  const links = execFileSync("ip", ["-o", "link"], { encoding: "utf8" });
  assert.ok(!links.includes(`us-${lab.name}`), "An interface of the lab is left");
}

/**
 * A lab for the tests of the calling file, named after it and this process, and Redis to be protected in it. Both end with the
 * tests, and nothing may be left then.
 * @param prepare what is done before the first test
 */
export function stageRedis(
  name: string,
  options: Parameters<Lab["up"]>[0],
  prepare: (site: RedisSite) => Promise<unknown> = async () => {},
): { lab: Lab; site: RedisSite } {
  const lab = new Lab({ name: `${name}${process.pid}` });
  const site = new RedisSite(lab);
  before(() => lab.up(options).then(() => prepare(site)), { timeout: 120_000 });
  afterEach((context) => tellEvents(site, context as TestContext));
  after(() => downAndGone(lab), { timeout: 60_000 });
  return { lab, site };
}

/** When a test has failed, what happened on the nodes meanwhile is the first thing one wants to know. */
export async function tellEvents(
  site: ProtectedApplication,
  context: { passed?: boolean; diagnostic?: (text: string) => void },
) {
  if (context.passed !== false) return;
  for (const { at, node, kind, message } of (await site.events().catch(() => [])).slice(-60))
    context.diagnostic?.(`${at} ${node} ${kind}: ${message}`);
}
